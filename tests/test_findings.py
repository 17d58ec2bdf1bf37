"""Every number of docs/findings.md comes from the raw scores that are kept."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from cwjax.analysis.family import Comparison
from cwjax.analysis.metrics import METRICS
from cwjax.store.schema import RunHeader
from cwjax.study.judge import judge, progress
from cwjax.training.runs import RunKey
from experiments.findings import page
from experiments.findings.studies import STUDIES

NAMES = sorted(path.name for path in page.ROOT.iterdir() if (path / "study.json").exists())


def headers(kept: page.Kept) -> dict[RunKey, RunHeader]:
    """The runs as their table has them."""
    return {
        (key := RunKey(row["cell"], row["arm"], row["seed"])): RunHeader(
            key=key,
            status=row["status"],
            scores={name: None if math.isnan(row[name]) else row[name] for name in METRICS},
            chosen={},
        )
        for row in kept.scores.to_dict("records")
        if row["status"] != "failed"
    }


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
    runs, study = headers(kept), kept.study
    judged = progress(study, runs).judged or judge(study, runs, study.analysis.metric)
    assert judged.comparisons
    for anew, stored in zip(judged.comparisons, kept.comparison.comparisons, strict=True):
        assert anew.pairing == stored.pairing
        assert anew.seeds == stored.seeds
        assert numbers(anew) == pytest.approx(numbers(stored), rel=1e-9, abs=1e-12)


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


def test_the_page_is_what_its_template_and_the_scores_give() -> None:
    written = (Path(__file__).parents[1] / "docs" / "findings.md").read_text("utf-8")
    assert written == page.render()


def test_every_study_that_is_kept_has_its_command() -> None:
    assert set(NAMES) <= set(STUDIES)


def test_what_is_kept_is_small() -> None:
    files = [path for path in page.ROOT.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 10e6
