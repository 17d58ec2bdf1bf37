"""All cells of a study are one family; its tables tell every run, its trend every seed."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from drawn_runs import CELL, FACTORS, SWEEP, SWEEP_EFFECTS, write_study

from cwjax.analysis.family import Comparison
from cwjax.analysis.paired import Differences, judge_family
from cwjax.analysis.pairing import BadRun
from cwjax.analysis.results import BadRunFact, StudyComparison
from cwjax.errors import ConfigError
from cwjax.store.directory import StudyDirectory
from cwjax.store.schema import from_json
from cwjax.study.derive import compare, derive
from cwjax.training.runs import RunKey

CELLS = [data.name() for data in SWEEP]


@pytest.fixture
def sweep(tmp_path: Path) -> StudyDirectory:
    """Three factors, three arms, ten seeds; nothing is derived yet."""
    write_study(tmp_path / "sweep", SWEEP_EFFECTS, 10, data=SWEEP)
    return StudyDirectory(tmp_path / "sweep")


def in_file(directory: StudyDirectory) -> StudyComparison:
    content = (directory.path / "comparison.json").read_bytes()
    return from_json(content, StudyComparison, "comparison.json")


def together(entries: Sequence[Comparison]) -> list[float | None]:
    """The p-values of comparisons that are one family."""
    family = [Differences(dict(zip(e.seeds, e.differences, strict=True))) for e in entries]
    return [each.p for each in judge_family(family).comparisons]


@pytest.mark.usefixtures("no_report")
def test_p_values_are_adjusted_over_all_cells(sweep: StudyDirectory) -> None:
    comparison = derive(sweep)
    entries = comparison.comparisons
    assert [(e.pairing.cell, e.pairing.treatment) for e in entries] == [
        (cell, arm) for cell in CELLS for arm in ("balanced", "focal")
    ]
    assert {e.num_comparisons for e in entries} == {6} == {comparison.family_size}
    assert [e.judged.p for e in entries] == together(entries)
    assert in_file(sweep) == comparison
    assert compare(sweep) == comparison


@pytest.mark.usefixtures("no_report")
def test_the_trend_is_one_slope_a_seed_over_the_logarithm_of_the_factor(
    sweep: StudyDirectory,
) -> None:
    trends = derive(sweep).trends
    scores = pd.read_parquet(sweep.path / "scores.parquet")
    by_arm = scores.pivot(
        index=["seed", "imbalance_factor"], columns="arm", values="balanced_accuracy"
    )
    for trend in trends:
        difference = (by_arm[trend.treatment] - by_arm["uniform"]).unstack()
        slopes = [np.polyfit(np.log2(FACTORS), row, 1)[0] for row in difference.to_numpy()]
        assert trend.seed_slopes == pytest.approx(slopes)
        assert trend.slope == pytest.approx(np.mean(slopes))
        low, high = scipy.stats.t.interval(
            0.95, len(slopes) - 1, np.mean(slopes), scipy.stats.sem(slopes)
        )
        assert (trend.interval.ci_low, trend.interval.ci_high) == pytest.approx((low, high))
    assert [trend.treatment for trend in trends] == ["balanced", "focal"]
    assert trends[0].interval.ci_low > 0
    assert trends[0].factors == FACTORS


@pytest.mark.usefixtures("no_report")
def test_every_run_has_its_row(sweep: StudyDirectory) -> None:
    derive(sweep)
    scores = pd.read_parquet(sweep.path / "scores.parquet")
    assert len(scores) == 3 * 3 * 10
    assert list(scores.columns[:7]) == [
        "cell", "dataset", "imbalance", "imbalance_factor", "arm", "seed", "status"
    ]  # fmt: skip
    assert set(scores.status) == {"ok"}
    assert scores.drop_duplicates(["cell", "arm", "seed"]).shape == scores.shape
    for name, rows_of_run in (("class_scores", 3), ("history", 3)):
        table = pd.read_parquet(sweep.path / f"{name}.parquet")
        assert list(table.columns[:3]) == ["cell", "arm", "seed"]
        sizes = table.groupby(["cell", "arm", "seed"]).size()
        assert len(sizes) == len(scores)
        assert set(sizes) == {rows_of_run}


def test_the_same_runs_give_the_same_bytes_in_one_process_and_in_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_study(tmp_path, SWEEP_EFFECTS[:2], 2, data=SWEEP[:2])
    directory = StudyDirectory(tmp_path)
    derive(directory)

    def derived() -> dict[Path, bytes]:
        files = (path for path in tmp_path.rglob("*") if path.is_file())
        return {path: path.read_bytes() for path in files}

    first = derived()
    assert {"scores.parquet", "comparison.json", "report.html", "report.md"} <= {
        path.name for path in first
    }
    derive(directory)
    assert derived() == first
    monkeypatch.setattr("cwjax.study.derive.WORTH_PROCESSES", 1)
    monkeypatch.setattr("cwjax.study.derive.available_cores", lambda: 2)
    monkeypatch.setattr("cwjax.study.derive.write_cell_report", None)  # of this process
    derive(directory)
    assert derived() == first


def test_a_process_that_is_killed_is_said_in_one_line(
    sweep: StudyDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cwjax.study.derive.WORTH_PROCESSES", 1)
    monkeypatch.setattr("cwjax.study.derive.available_cores", lambda: 2)
    monkeypatch.setattr("cwjax.study.derive._derive_cell", killed)
    with pytest.raises(ConfigError, match="a process that drew the report was killed"):
        derive(sweep)


def killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_comparing_writes_nothing(sweep: StudyDirectory) -> None:
    before = {path: path.stat().st_mtime_ns for path in sweep.path.rglob("*")}
    compare(sweep)
    assert {path: path.stat().st_mtime_ns for path in sweep.path.rglob("*")} == before


@pytest.mark.fault(58, 60)
@pytest.mark.usefixtures("no_report")
def test_a_failed_run_is_refused_and_the_others_are_judged(tmp_path: Path) -> None:
    failed, *others = CELLS
    key = RunKey(failed, "focal", 3)
    write_study(tmp_path, SWEEP_EFFECTS, 10, data=SWEEP, failures={key: "<no> memory"})
    comparison = derive(StudyDirectory(tmp_path))
    by_arm = {(e.pairing.cell, e.pairing.treatment): e for e in comparison.comparisons}
    assert by_arm[failed, "focal"].verdict.key == "refused"
    assert by_arm[failed, "focal"].facts.refused == (BadRun("focal", 3, "failed"),)
    assert by_arm[failed, "balanced"].verdict.key != "refused"
    assert by_arm[others[-1], "balanced"].verdict.key == "better"
    assert comparison.bad_runs == (BadRunFact(failed, "focal", 3, "failed"),)
    assert comparison.cells[0].failures == ("focal seed 3: <no> memory",)
    assert comparison.cells[1].failures == ()
    scores = pd.read_parquet(tmp_path / "scores.parquet")
    row = scores[(scores.cell == failed) & (scores.arm == "focal") & (scores.seed == 3)]
    assert list(row.status) == ["failed"]
    assert row.balanced_accuracy.isna().all()


@pytest.mark.usefixtures("no_report")
def test_a_study_of_which_every_run_failed(tmp_path: Path) -> None:
    failures = {(arm, seed): "no" for arm in ("uniform", "balanced") for seed in (0, 1)}
    write_study(tmp_path, {"uniform": 0.0, "balanced": 0.5}, 2, failures=failures)
    comparison = derive(StudyDirectory(tmp_path))
    assert comparison.num_ok_runs == 0
    assert [e.verdict.key for e in comparison.comparisons] == ["refused"]
    assert len(pd.read_parquet(tmp_path / "scores.parquet")) == 4


@pytest.mark.usefixtures("no_report")
def test_an_unfinished_study_is_refused(tmp_path: Path) -> None:
    write_study(tmp_path, {"uniform": 0.0, "balanced": 0.5}, 2, missing=[("balanced", 1)])
    message = r"1 of 4 runs are not finished, the first is balanced seed 1: give the command that"
    with pytest.raises(ConfigError, match=message):
        derive(StudyDirectory(tmp_path))
    assert not (tmp_path / "scores.parquet").exists()


@pytest.mark.usefixtures("no_report")
def test_the_controls_are_judged_alone_and_equal_arms_count_once(tmp_path: Path) -> None:
    effects = {"uniform": 0.0, "logit_adjusted": 0.5, "balanced_softmax": 0.5, "focal": 0.2}
    equal = {"balanced_softmax": "logit_adjusted"}
    write_study(tmp_path, effects, 8, null_control=True, equal_arms=equal)
    comparison = derive(StudyDirectory(tmp_path))
    by_arm = {e.pairing.treatment: e for e in comparison.comparisons}
    assert comparison.family_size == 2
    assert {arm: e.num_comparisons for arm, e in by_arm.items()} == {
        "logit_adjusted": 2,
        "balanced_softmax": 2,
        "focal": 2,
        "null_control": 1,
    }
    assert by_arm["balanced_softmax"].judged == by_arm["logit_adjusted"].judged
    assert [e.pairing.treatment for e in comparison.judged] == list(effects)[1:]
    counted = [by_arm[arm] for arm in ("logit_adjusted", "focal")]
    assert [each.judged.p for each in counted] == together(counted)


@pytest.mark.usefixtures("no_report")
def test_a_cells_classes_and_settings_that_were_chosen_are_told(tmp_path: Path) -> None:
    write_study(tmp_path, {"uniform": 0.0, "tau_norm": 0.5}, 3)
    summaries = {each.arm: each for each in derive(StudyDirectory(tmp_path)).summaries}
    assert summaries["tau_norm"].chosen == {"tau": (0.5, 0.75, 1.0)}
    assert summaries["uniform"].chosen == {}
    classes = pd.read_parquet(tmp_path / "class_scores.parquet")
    assert set(classes.cell) == {CELL}
    assert classes.class_name.unique().tolist() == ["ant", "bee", "cat"]
    history = pd.read_parquet(tmp_path / "history.parquet")
    assert set(history.arm) == {"uniform"}  # a post-hoc arm is not trained


def test_arms_that_were_still_learning_are_told(tmp_path: Path) -> None:
    """The curves of drawn runs rise by 5 points in epoch 4, by 0.1 over the last 6 of 24."""
    found = []
    for num_epochs in (4, 24):
        directory = tmp_path / str(num_epochs)
        effects = {"uniform": 0.0, "balanced": 0.5, "tau_norm": 0.5}
        write_study(directory, effects, 20, num_epochs=num_epochs)
        study = compare(StudyDirectory(directory))
        found.append({arm: late.num_epochs for arm, late in study.cells[0].still_learning.items()})
    assert found[0] == {"uniform": 1, "balanced": 1}
    assert found[1] == {}
