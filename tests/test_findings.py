"""Every comparison of docs/findings.md follows from the raw scores that are kept.

Intervals over new test sets do not: they need the logits.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from scipy.stats import ttest_rel

from cwjax.analysis.family import Comparison
from cwjax.analysis.looks import default_looks
from cwjax.analysis.metrics import METRICS
from cwjax.cli.command_line import run_main
from cwjax.study.judge import judge, progress
from experiments.findings import page
from experiments.findings.__main__ import keep, main
from experiments.findings.studies import STUDIES
from experiments.findings.tables import keel_table, satimage_table

NAMES = sorted(path.name for path in page.ROOT.iterdir() if (path / "study.json").exists())


def numbers(entry: Comparison) -> list[float | None]:
    """What a comparison says that follows from scores alone."""
    assert entry.estimates is not None
    assert entry.judged is not None
    interval = entry.judged.interval
    ends = (None, None) if interval is None else (interval.ci_low, interval.ci_high)
    return [entry.estimates.difference, entry.judged.p, entry.judged.t, *ends]


@pytest.mark.parametrize("name", NAMES)
def test_comparisons_follow_from_the_raw_scores(name: str) -> None:
    kept = page.kept(name)
    runs, study = kept.runs, kept.study
    judged = progress(study, runs).judged or judge(study, runs, study.analysis.metric)
    assert judged.comparisons
    for anew, stored in zip(judged.comparisons, kept.comparison.comparisons, strict=True):
        assert anew.pairing == stored.pairing
        assert anew.seeds == stored.seeds
        for number, kept_number in zip(numbers(anew), numbers(stored), strict=True):
            expected = kept_number and pytest.approx(kept_number, rel=1e-9, abs=1e-12)
            assert number == expected  # None where nothing is judged by p-values


@pytest.mark.parametrize("name", NAMES)
def test_means_follow_from_the_raw_scores(name: str) -> None:
    kept = page.kept(name)
    runs = kept.scores[(kept.scores["status"] == "ok") & ~kept.scores["candidate"]]
    means = runs.groupby(["cell", "arm"])[list(METRICS)].mean(numeric_only=True)
    for summary in kept.comparison.summaries:
        for metric, found in summary.scores.items():
            if found.mean is not None:
                expected = means.loc[(summary.cell, summary.arm), metric]
                assert found.mean == pytest.approx(expected, rel=1e-9)


def test_looks_would_have_ended_a_clear_study_at_the_first() -> None:
    kept = page.kept("fading-12")
    table = kept.scores.pivot(index="seed", columns="arm", values=kept.study.analysis.metric)
    first = table.iloc[: default_looks(10)[0]]
    assert ttest_rel(first["balanced"], first["uniform"]).pvalue < 1e-4
    assert page.with_looks("fading-12") == page.WithLooks(20, 2 * len(first), 1, ())


def test_looks_may_change_what_is_just_established() -> None:
    looked = page.with_looks("embeddings")
    assert looked.num_needed == looked.num_runs == 40
    assert [arm.partition(" ")[0] for arm in looked.changed] == ["balanced", "logit_adjusted"]


def test_the_page_is_what_its_template_and_the_scores_give() -> None:
    written = (Path(__file__).parents[1] / "docs" / "findings.md").read_text("utf-8")
    assert written == page.render()


def test_the_readmes_opening_has_its_numbers_from_the_page() -> None:
    root = Path(__file__).parents[1]
    opening = (root / "README.md").read_text("utf-8").partition("## Start")[0]
    numbers = re.findall(r"[+-]\d+\.\d\d", opening)
    assert len(numbers) >= 9
    page_text = (root / "docs" / "findings.md").read_text("utf-8")
    assert [number for number in numbers if number not in page_text] == []


def test_every_study_that_is_kept_has_its_command() -> None:
    assert set(NAMES) <= set(STUDIES)


def test_a_keel_table_names_values_that_may_be_numbers() -> None:
    text = """@relation car
@attribute Doors {2, 5more}
@attribute Weight real [1, 9]
@attribute Class {good, bad}
@inputs Doors, Weight
@data
2, 1.5, good
5more, 9, bad
"""
    assert keel_table(text).splitlines() == [
        "Doors,Weight,label",
        "Doors=2,1.5,good",
        "Doors=5more,9,bad",
    ]


def test_satimages_rows_become_a_table() -> None:
    rows = " ".join(map(str, range(37)))
    head, first, second = satimage_table(rows + "\n", rows + "\n").splitlines()
    assert head.startswith("band0,band1,")
    assert head.endswith("band35,label")
    assert first == second == ",".join(map(str, range(37)))


def test_minutes_of_training_leave_out_breaks_and_later_reports(tmp_path: Path) -> None:
    events = [
        (0, "training"), (60, "run"),  # and then it was killed
        (9000, "training"), (9120, "run"), (9180, "finished"), (99999, "finished"),
    ]  # fmt: skip
    lines = [f'{{"time": {time}, "event": "{event}"}}\n' for time, event in events]
    (tmp_path / "log.jsonl").write_text("".join(lines))
    assert page.Kept(tmp_path).minutes == 4


def test_what_is_kept_of_a_study_is_no_older_than_it(tmp_path: Path) -> None:
    results, kept = tmp_path / "results", tmp_path / "kept"
    results.mkdir()
    for name in page.KEPT:
        (results / name).write_text(name)
    (results / "report.md").write_text("# Title\n![a figure](figures/a.svg)\nText\n")
    keep(results, kept)
    assert {path.name for path in kept.iterdir()} == {*page.KEPT, "report.md"}
    assert (kept / "report.md").read_text() == "# Title\nText\n"
    (results / "deployment.json").unlink()
    keep(results, kept)
    assert not (kept / "deployment.json").exists()


@pytest.mark.parametrize("arguments", [["train"], ["page", "schemes"], ["train", "scheme"]])
def test_names_are_of_studies_to_train(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["findings", *arguments])
    with pytest.raises(SystemExit, match="2"):
        run_main(main)
    assert "error: " in capsys.readouterr().err


def test_what_is_kept_is_small() -> None:
    files = [path for path in page.ROOT.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 10e6
