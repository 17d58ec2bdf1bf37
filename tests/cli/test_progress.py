"""What a terminal shows of a study while it trains, and how it concludes."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cwjax.analysis.metrics import METRICS
from cwjax.analysis.results import CellFacts, DesignFacts, StudyComparison
from cwjax.cli import progress
from cwjax.config import DataConfig, StudyConfig
from cwjax.study.manifest import describe
from cwjax.study.plan import Plan, make_plan
from cwjax.study.run import Event, Finished, Planned, RunStored
from cwjax.training.devices import DeviceFacts
from cwjax.training.runs import (
    ClusterStatus,
    EpochScored,
    RunKey,
    RunsFailed,
    RunsLost,
    StepsFinished,
)

CELL = "tiny-long_tailed-4"
OTHER = "tiny-none"


@pytest.fixture
def plan(tiny_config: StudyConfig) -> Plan:
    return make_plan(tiny_config)


@pytest.fixture
def two_cells(tiny_config: StudyConfig) -> Plan:
    (data,) = tiny_config.data
    without = DataConfig(dataset=data.dataset, imbalance="none")
    return make_plan(dataclasses.replace(tiny_config, data=(data, without)))


def stored(arm: str, seed: int, score: float | None, cell: str = CELL) -> RunStored:
    scores = dict.fromkeys(METRICS, score)
    return RunStored(RunKey(cell, arm, seed), "ok", scores)


def finished(failures: tuple[str, ...] = (), *, num_ok_runs: int = 4) -> Finished:
    cells = (CellFacts(CELL, "npz:tiny.npz", "long_tailed", 4.0, failures=failures),)
    comparison = StudyComparison(
        metric=METRICS["balanced_accuracy"],
        confidence=0.95,
        smallest_effect=None,
        baseline="uniform",
        arms=("uniform",),
        seeds=(0, 1),
        family_size=0,
        design=DesignFacts(),
        num_ok_runs=num_ok_runs,
        bad_runs=(),
        cells=cells,
        summaries=(),
        comparisons=(),
        secondary=(),
    )
    return Finished(comparison)


def failed(plan: Plan) -> RunsFailed:
    return RunsFailed((plan.trained_runs[1],), ValueError("no\nluck"))


def events(plan: Plan) -> Iterator[Event]:
    study = describe(plan, DeviceFacts("cpu", "cpu", cpu_threads=2, jax_flags={}))
    yield Planned(
        plan,
        study,
        num_expected=len(study.run_keys),
        num_runs=4,
        num_epochs=8,
        num_examples=400,
    )
    yield StepsFinished(100)
    yield stored("uniform", 0, 0.80)
    yield stored("balanced", 0, 0.85)
    yield stored("balanced", 1, None)  # undefined
    yield failed(plan)
    yield finished()


def test_lines_tell_runs_failures_speed_one_time_and_differences(
    plan: Plan, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", -1)
    assert isinstance(progress.follow(events(plan), Path("out"), quiet=False), Finished)
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0].startswith("note: 2 seeds cannot give a verdict")
    lines = printed.err.splitlines()
    assert "failed: balanced seed 0: ValueError: no luck" in lines  # at once
    assert "run 3/4, 1 failed, epoch 0/8" in lines[-1]
    assert lines[-1].count(" left") == 1
    assert "balanced +5.00 (n=1)" in lines[-1]


def test_quiet_shows_failures_alone(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    progress.follow(events(plan), Path("out"), quiet=True)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "failed: balanced seed 0: ValueError: no luck\n"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_bar_tells_the_same_and_is_never_cut(
    plan: Plan, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(
        progress, "Console", lambda **_: Console(file=stream, force_terminal=True, width=width)
    )
    progress.follow(events(plan), Path("out"), quiet=False)
    text = " ".join(stream.getvalue().split())
    assert "…" not in text
    last = text[text.rindex("run 3/4, 1 failed, epoch 0/8") :]
    assert last.count(" left") == 1
    assert "balanced +5.00 (n=1)" in last
    assert "failed: balanced seed 0: ValueError: no luck" in text


class FakeDisplay:
    """What IPython's `display` gives back, and what it was given."""

    def __init__(self) -> None:
        self.pages: list[str] = []

    def __call__(self, page: Any, *, display_id: bool) -> FakeDisplay:
        assert display_id
        self.update(page)
        return self

    def update(self, page: Any) -> None:
        self.pages.append(page._repr_html_())


def test_a_notebook_gets_a_bar_of_its_own(
    plan: Plan, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = FakeDisplay()
    ipython = pytest.importorskip("IPython.display")
    monkeypatch.setattr(ipython, "display", shown)
    monkeypatch.setattr(progress, "NOTEBOOK_SECONDS", -1)
    monkeypatch.setattr(progress, "Console", lambda **_: Console(force_jupyter=True))
    progress.follow(events(plan), Path("out"), quiet=False)
    assert '<progress value="0" max="400">' in shown.pages[0]
    assert '<progress value="100" max="400">' in shown.pages[-1]
    assert "run 3/4, 1 failed, epoch 0/8" in shown.pages[-1]
    assert "balanced +5.00 (n=1)" in shown.pages[-1]
    assert "failed: balanced seed 0: ValueError: no luck" in capsys.readouterr().out
    progress.follow(events(plan), Path("out"), quiet=True)
    assert capsys.readouterr().out == ""


def test_with_several_cells_differences_are_of_the_cell_that_trains(
    two_cells: Plan, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", -1)

    def both() -> Iterator[Event]:
        *first, last = events(two_cells)
        yield from first
        yield stored("uniform", 0, 0.5, OTHER)
        yield stored("balanced", 0, 0.4, OTHER)
        yield last

    progress.follow(both(), Path("out"), quiet=False)
    printed = capsys.readouterr()
    assert f"2 cells: {CELL}, {OTHER}" in printed.out
    assert f"failed: {CELL} balanced seed 0: ValueError: no luck" in printed.err
    assert f", {OTHER}: balanced -10.00 (n=1)" in printed.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        (finished(), 0, ""),
        pytest.param(finished(num_ok_runs=0), 1, "", marks=pytest.mark.fault(52)),
        (finished(("balanced seed 3: no memory",)), 1, "failed: balanced seed 3: no memory"),
    ],
)
def test_the_exit_code_says_whether_every_run_ended_and_one_ended_well(
    end: Finished, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert progress.conclude(end, Path("out"), quiet=True) == code
    printed = capsys.readouterr()
    assert (printed.out, printed.err.strip()) == ("", said)


@pytest.mark.fault(61)
def test_what_a_cluster_lost_is_told_and_counted_again(
    plan: Plan, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", -1)

    def lossy() -> Iterator[Event]:
        *first, last = events(plan)
        yield from first
        yield EpochScored(plan.trained_runs[0], 0, {})
        yield RunsLost("node7", plan.trained_runs[:2], num_examples=60, num_epochs=1)
        yield ClusterStatus(num_workers=3, num_runs=2)
        yield last

    progress.follow(lossy(), Path("out"), quiet=False)
    lines = capsys.readouterr().err.splitlines()
    assert "lost a process on node7: its 2 runs go on from where they were last kept" in lines
    cluster = "2 lost and taken up again, 2 runs on 3 workers, epoch 0/8"
    assert f"run 3/4, 1 failed, {cluster}" in lines[-1]
    progress.follow(lossy(), Path("out"), quiet=True)
    assert "lost" not in capsys.readouterr().err


def test_short_stages_and_classes_that_are_not_validated_are_told_before_training(
    tiny_config: StudyConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan(dataclasses.replace(tiny_config, arms=("uniform", "balanced:drw=0.5")))
    (cell,) = plan.cells.values()
    for split in cell.splits.values():
        split.validation_counts[2] = 0
    progress.print_plan(plan, describe(plan, None), Path("out"))
    shown = " ".join(capsys.readouterr().out.split())
    # One epoch of 94 examples in batches of 16.
    assert "note: the last stage of balanced:drw=0.5 (5 steps) is shorter than 500 steps" in shown
    assert "; validation scores leave out 'c', too rare to validate on" in shown
