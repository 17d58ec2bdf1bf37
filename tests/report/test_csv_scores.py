"""Scores from elsewhere: the same comparison, and one line for every way in which a file is bad."""

from __future__ import annotations

import os
import resource
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from cwjax.analysis.metrics import METRICS
from cwjax.analysis.rules import Rules
from cwjax.api import paired_comparison
from cwjax.errors import ConfigError
from cwjax.report import csv_scores, plots
from cwjax.report.csv_scores import CsvScores, compare_scores, csv_metric, read_scores
from cwjax.report.pages import write_csv_report

ACCURACY = METRICS["accuracy"]
RULES = Rules(metric=ACCURACY)
GOOD = "arm,seed,accuracy,note\nuniform,0,0.5,\nuniform,1,0.6,x\nb,1,0.7,\nb,0,0.65,\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "scores.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_are_paired_by_seed_whatever_their_order(tmp_path: Path) -> None:
    given = read_scores(write(tmp_path, GOOD), "accuracy")
    assert given.scores == {"uniform": {0: 0.5, 1: 0.6}, "b": {1: 0.7, 0: 0.65}}
    result = compare_scores(given, "uniform", RULES)
    (entry,) = result.comparisons
    expected = paired_comparison([0.5, 0.6], [0.65, 0.7], metric="accuracy")
    assert entry.estimates == expected.estimates
    assert (result.family_size, result.seeds, result.arms) == (1, (0, 1), ("uniform", "b"))


def test_the_only_score_column_is_the_metric(tmp_path: Path) -> None:
    given = read_scores(write(tmp_path, "arm,seed,wer\na,0,3.5\n"), lower_is_better=True)
    assert (given.metric.name, given.metric.higher_is_better) == ("wer", False)
    with pytest.raises(ConfigError, match=r"--metric is needed .*: it has arm, seed, accuracy and"):
        read_scores(write(tmp_path, GOOD))


@pytest.mark.fault(50)
def test_unequal_seeds_are_kept_and_seeds_in_common_are_needed(tmp_path: Path) -> None:
    given = read_scores(write(tmp_path, GOOD + "b,2,0.9,\n"), "accuracy")
    (entry,) = compare_scores(given, "uniform", RULES).comparisons
    assert entry.seeds == (0, 1)
    assert entry.facts.lacking == {"uniform": (2,)}
    apart = read_scores(write(tmp_path, "arm,seed,accuracy\na,0,0.5\nb,1,0.6\n"))
    with pytest.raises(ConfigError, match="b and a have no seed in common: give both runs"):
        compare_scores(apart, "a", RULES)


@pytest.mark.fault(64)
def test_names_round_trip_and_a_byte_order_mark_is_no_part_of_them(tmp_path: Path) -> None:
    text = '\ufeffarm,seed,bleu\n"é, ""q""\n<b>",0,31.5\n'
    assert read_scores(write(tmp_path, text)).scores == {'é, "q"\n<b>': {0: 31.5}}


@pytest.mark.fault(65)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 has no column arm: it has nothing"),
        ("arm,accuracy\na,0.5\n", "line 1 has no column seed: it has arm and accuracy"),
        ("arm,seed,loss\na,0,0.5\n", "line 1 has no column accuracy: it has arm, seed and loss"),
        ("arm,seed,accuracy\n", "has no rows"),
        ("arm,seed,accuracy\na,0,0.5\na,0,0.6\n", "line 3: arm 'a' seed 0 is there already"),
        ("arm,seed,accuracy\na,0,nan\n", "line 2: accuracy is 'nan': give a finite number"),
        ("arm,seed,accuracy\na,0,\n", "line 2: accuracy is '': give a finite number"),
        ("arm,seed,accuracy\na,0,1_000\n", "line 2: accuracy is '1_000': give a finite number"),
        ("arm,seed,accuracy\na,0,١\n", r"line 2: accuracy is '\u0661': give a finite number"),
        ("arm,seed,accuracy\na,0,1e999\n", "line 2: accuracy is '1e999': give a finite number"),
        ("arm,seed,accuracy\na,0,97.3\n", "line 2: accuracy is 97.3: give a fraction"),
        ("arm,seed,accuracy\na,x,0.5\n", "line 2: seed is 'x': give an integer"),
        ("arm,seed,accuracy\na,-1,0.5\n", "line 2: seed is '-1': give an integer"),
        (f"arm,seed,accuracy\na,{'1' * 5000},0.5\n", "line 2: seed is '111111111111111111111111"),
        ("arm,seed,accuracy\n,1,0.5\n", "line 2: arm is empty"),
        ("arm,seed,accuracy\na,1\n", "line 2 has more or fewer fields than line 1"),
        ("arm,seed,accuracy\na,1,0.5,9\n", "line 2 has more or fewer fields than line 1"),
        ('arm,seed,accuracy\na,1,"0.5\n', "is no CSV file"),
        ("arm;seed;accuracy\na;1;0.5\n", "scores.csv is separated by semicolons: separate it by"),
        ("arm\tseed\taccuracy\na\t1\t0.5\n", "scores.csv is separated by tabs: separate it by"),
        ("method,seed,accuracy\na,1,0.5\n", "line 1 has no column arm: rename 'method' to arm"),
        ("Arm,seed,accuracy\na,1,0.5\n", "line 1 has no column arm: rename 'Arm' to arm"),
        ("arm,fold,accuracy\na,1,0.5\n", "line 1 has no column seed: rename 'fold' to seed"),
        ("seed,a,b\n0,0.5,0.6\n", "if each column is an arm, give one row per arm and seed"),
        ("arm,seed,arm\na,0,b\n", "line 1 has two columns 'arm': rename one"),
    ],
)
def test_bad_files_are_one_line_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_scores(write(tmp_path, text), "accuracy")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


@pytest.mark.fault(65)
def test_numbers_whose_squares_overflow_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "arm,seed,own\na,0,1e308\na,1,-1e308\n")
    with pytest.raises(ConfigError, match=r"line 2: own is '1e308': give at most 1e\+100"):
        read_scores(path)


@pytest.mark.fault(65)
def test_files_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_bytes(b"\x89PNG\r\n\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is no CSV file in UTF-8"):
        read_scores(tmp_path / "scores.csv", "accuracy")
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_scores(tmp_path / "other.csv", "accuracy")


@pytest.mark.fault(65)
def test_only_regular_files_of_bounded_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/zero"), tmp_path, tmp_path / "pipe"):
        with pytest.raises(ConfigError, match="is no regular file"):
            read_scores(path, "accuracy")
    with (tmp_path / "huge.csv").open("wb") as file:
        file.truncate(csv_scores.MAX_BYTES + 1)
    with pytest.raises(ConfigError, match="has 100,000,001 bytes, more than 100,000,000"):
        read_scores(tmp_path / "huge.csv", "accuracy")


def test_half_a_million_rows_take_neither_minutes_nor_gigabytes(tmp_path: Path) -> None:
    rows = (f"a{seed % 2},{seed // 2},0.5" for seed in range(500_000))
    path = write(tmp_path, "\n".join(["arm,seed,accuracy", *rows]))
    started, peak = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ConfigError, match="has more than 1,000 seeds: keep the first ones"):
        read_scores(path, "accuracy")
    many_arms = write(tmp_path, "\n".join(["arm,seed,x", *(f"a{i},0,1" for i in range(500))]))
    with pytest.raises(ConfigError, match="more than 100 arms"):
        read_scores(many_arms)
    assert time.monotonic() - started < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 200_000  # KiB


def test_metrics_of_ones_own() -> None:
    assert not csv_metric("wer", lower_is_better=True).higher_is_better
    assert csv_metric("loss", lower_is_better=True) is METRICS["loss"]
    with pytest.raises(ConfigError, match="a higher accuracy is better"):
        csv_metric("accuracy", lower_is_better=True)


def test_the_baseline_must_be_there() -> None:
    given = CsvScores("x", ACCURACY, {"a": {0: 0.1}, "b": {0: 0.2}})
    with pytest.raises(ConfigError, match="--baseline is 'x': choose one of a, b"):
        compare_scores(given, "x", RULES)


def test_a_directory_gets_all_that_needs_no_logits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "MAX_DRAWN", 10)
    generator = np.random.default_rng(0)
    base = generator.random(12)
    scores = {"A": base, "B": base + 0.05 + 0.001 * generator.normal(size=12)}
    own = csv_metric("own\x07\u202e")
    given = CsvScores("mine", own, {arm: dict(enumerate(s.tolist())) for arm, s in scores.items()})
    result = compare_scores(given, "A", Rules(metric=own))
    write_csv_report(tmp_path / "out", result, given.scores, "pdf")
    files = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*"))
    assert files == [
        "comparison.json", "figures/differences.pdf", "figures/differences.svg",
        "figures/slopes.pdf", "figures/slopes.svg", "report.html", "report.md",
    ]  # fmt: skip
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Scores of mine, trained elsewhere" in page
    assert "B is better than A" in page
    assert "10 evenly spaced seeds are drawn; means and intervals are of all" in page
    for needs_logits in ("Learning curves", "new test sets", "Thin lines", "initial parameters"):
        assert needs_logits not in page
    slopes = ET.parse(tmp_path / "out" / "figures" / "slopes.svg").getroot()
    (lines,) = (e for e in slopes.iter() if "stroke-opacity: 0.8" in e.get("style", ""))
    assert lines.get("d", "").count("M") == 10
    write_csv_report(tmp_path / "out", result, given.scores)  # no PDF of older scores stays
    figures = sorted(path.name for path in (tmp_path / "out" / "figures").iterdir())
    assert figures == ["differences.svg", "slopes.svg"]


def test_the_directory_of_a_study_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text("{}")
    given = CsvScores("x", ACCURACY, {"a": {0: 0.1}})
    result = compare_scores(given, "a", RULES)
    with pytest.raises(ConfigError, match="holds a study: give another directory"):
        write_csv_report(tmp_path, result, given.scores)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file: give a directory"):
        write_csv_report(tmp_path / "file", result, given.scores)
