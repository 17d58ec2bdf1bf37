"""Scores from elsewhere: the same comparison, and one line for every way in which a file is bad."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from cwjax.analysis.comparison import paired_comparison
from cwjax.results.csv_scores import compare_scores, csv_metric, read_scores

from cwjax.analysis.metrics import METRICS
from cwjax.analysis.rules import Rules
from cwjax.errors import ConfigError

ACCURACY = METRICS["accuracy"]
GOOD = "arm,seed,accuracy,note\nuniform,0,0.5,\nuniform,1,0.6,x\nb,1,0.7,\nb,0,0.65,\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "scores.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_are_paired_by_seed_whatever_their_order(tmp_path: Path) -> None:
    scores = read_scores(write(tmp_path, GOOD), ACCURACY)
    assert scores == {"uniform": {0: 0.5, 1: 0.6}, "b": {1: 0.7, 0: 0.65}}
    (entry,) = compare_scores(scores, "uniform", Rules(metric=ACCURACY))["comparisons"]
    expected = paired_comparison([0.5, 0.6], [0.65, 0.7], metric="accuracy")
    assert entry["estimates"] == dataclasses.asdict(expected)["estimates"]


@pytest.mark.fault(50)
def test_unequal_seeds_are_said_and_seeds_in_common_are_needed(tmp_path: Path) -> None:
    scores = read_scores(write(tmp_path, GOOD + "b,2,0.9,\n"), ACCURACY)
    (entry,) = compare_scores(scores, "uniform", Rules(metric=ACCURACY))["comparisons"]
    assert entry["seeds"] == (0, 1)
    assert "UNEQUAL SEEDS: only the 2 that both arms have" in entry["verdict"]["words"]
    apart = read_scores(write(tmp_path, "arm,seed,accuracy\na,0,0.5\nb,1,0.6\n"), ACCURACY)
    with pytest.raises(ConfigError, match="b and a have no seed in common: give both runs"):
        compare_scores(apart, "a", Rules(metric=ACCURACY))


@pytest.mark.fault(64)
def test_names_round_trip_and_a_byte_order_mark_is_no_part_of_them(tmp_path: Path) -> None:
    text = '\ufeffarm,seed,bleu\n"é, ""q""\n<b>",0,31.5\n'
    scores = read_scores(write(tmp_path, text), csv_metric("bleu"))
    assert scores == {'é, "q"\n<b>': {0: 31.5}}


@pytest.mark.fault(65)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 has no column arm: it has nothing"),
        ("arm,accuracy\na,0.5\n", "line 1 has no column seed: it has arm, accuracy"),
        ("arm,seed,loss\na,0,0.5\n", "line 1 has no column accuracy"),
        ("arm,seed,accuracy\n", "has no rows"),
        ("arm,seed,accuracy\na,0,0.5\na,0,0.6\n", "line 3: arm 'a' seed 0 is there already"),
        ("arm,seed,accuracy\na,0,nan\n", "line 2: accuracy is 'nan': give a finite number"),
        ("arm,seed,accuracy\na,0,\n", "line 2: accuracy is '': give a finite number"),
        ("arm,seed,accuracy\na,0,97.3\n", "line 2: accuracy is 97.3: give a fraction"),
        ("arm,seed,accuracy\na,x,0.5\n", "line 2: seed is 'x': give an integer"),
        ("arm,seed,accuracy\na,-1,0.5\n", "line 2: seed is '-1': give an integer"),
        ("arm,seed,accuracy\n,1,0.5\n", "line 2: arm is empty"),
        ("arm,seed,accuracy\na,1\n", "line 2 has more or fewer fields than line 1"),
        ("arm,seed,accuracy\na,1,0.5,9\n", "line 2 has more or fewer fields than line 1"),
        ('arm,seed,accuracy\na,1,"0.5\n', "is no CSV file"),
    ],
)
def test_bad_files_are_one_line_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_scores(write(tmp_path, text), ACCURACY)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.fault(65)
def test_files_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_bytes(b"\x89PNG\r\n\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is no CSV file in UTF-8"):
        read_scores(tmp_path / "scores.csv", ACCURACY)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_scores(tmp_path / "other.csv", ACCURACY)


def test_metrics_of_ones_own() -> None:
    assert not csv_metric("wer", lower_is_better=True).higher_is_better
    assert csv_metric("loss", lower_is_better=True) is METRICS["loss"]
    with pytest.raises(ConfigError, match="a higher accuracy is better"):
        csv_metric("accuracy", lower_is_better=True)


def test_the_baseline_must_be_there() -> None:
    with pytest.raises(ConfigError, match="--baseline is 'x': choose one of a, b"):
        compare_scores({"a": {0: 0.1}, "b": {0: 0.2}}, "x", Rules(metric=ACCURACY))
