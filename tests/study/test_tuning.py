"""Tuned arms: what each run is chosen from, by which rule, and what becomes of it."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from drawn_runs import make_dataset, make_record
from sklearn.metrics import balanced_accuracy_score, log_loss
from test_engine import counting
from test_run import ONE_CORE, fail_on, files, finished, run_all, run_files

from cwjax.analysis.metrics import METRICS
from cwjax.analysis.results import StudyComparison
from cwjax.arms.arm import NULL_CONTROL
from cwjax.arms.grammar import parse_arm
from cwjax.arms.posthoc import RunOutputs, apply_post_hoc
from cwjax.cli.estimate import _count_line
from cwjax.cli.progress import print_plan
from cwjax.cli.weights import class_weights
from cwjax.config import AnalysisConfig, DataConfig, RuntimeConfig, StudyConfig, TrainConfig
from cwjax.errors import ConfigError
from cwjax.report import layout, words
from cwjax.report.markdown import markdown_page
from cwjax.store.contents import read_cell
from cwjax.store.directory import StudyDirectory
from cwjax.store.schema import RunHeader, RunRecord
from cwjax.study import derive
from cwjax.study.judge import progress
from cwjax.study.manifest import describe
from cwjax.study.merge import merge
from cwjax.study.plan import design_arms, make_plan, parse_design
from cwjax.study.run import Event, RunStored, run
from cwjax.study.tuning import best_on_validation
from cwjax.training import local
from cwjax.training.devices import DeviceFacts
from cwjax.training.runs import RunFinished, RunKey

Whole = tuple[Path, list[Event], StudyComparison]

CPU = DeviceFacts("cpu", "cpu", cpu_threads=2, jax_flags={})
UNIFORM, LOGIT = "uniform:lr=best(0.3,1,3)", "logit_adjusted:tau=best(0.5,1,2):lr=best(0.3,1)"
ARMS = (UNIFORM, LOGIT, "balanced_softmax", "tau_norm")


@pytest.fixture(scope="module")
def tuned(tiny_npz: str) -> StudyConfig:
    """A tuned baseline, a tuned arm with an arm that is one of its candidates, a post-hoc arm."""
    return StudyConfig(
        data=(DataConfig(dataset=tiny_npz, imbalance_factor=4),),
        train=TrainConfig(num_epochs=2, batch_size=16, model="linear"),
        arms=ARMS,
        num_seeds=2,
    )


@pytest.fixture(scope="module")
def whole(tuned: StudyConfig, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The directory of an unbroken study, what happened, and what was found."""
    directory = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(derive, "write_cell_report", lambda *_: None)
        events = run_all(tuned, directory)
    return directory, events, finished(events).comparison


def records(directory: Path, cell: str, names: list[str], seed: int) -> list[RunRecord]:
    return [StudyDirectory(directory).read_run(RunKey(cell, name, seed)) for name in names]


def balanced_nll(labels: np.ndarray, logits: np.ndarray) -> float:
    shifted = np.exp(logits.astype(float) - logits.max(axis=1, keepdims=True))
    weights = 1 / np.bincount(labels)[labels]
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    return float(log_loss(labels, probabilities, sample_weight=weights))


def test_the_run_of_a_tuned_arm_is_its_best_candidates(tuned: StudyConfig, whole: Whole) -> None:
    directory, _, comparison = whole
    (cell,) = tuned.cells
    plan = make_plan(tuned)
    study = StudyDirectory(directory).known_study()
    for arm in (UNIFORM, LOGIT):
        names = [str(each) for each in parse_arm(arm).candidates]
        assert study.candidates[arm] == tuple(names)
        for seed in tuned.all_seeds:
            split = plan.cells[cell].splits[seed]
            labels = plan.cells[cell].dataset.labels[split.validation_indices]
            found = records(directory, cell, names, seed)
            by_hand = [
                (
                    -balanced_accuracy_score(labels, each.validation_logits.argmax(axis=1)),
                    balanced_nll(labels, each.validation_logits),
                )
                for each in found
            ]
            best = found[min(range(len(found)), key=by_hand.__getitem__)]
            (own,) = records(directory, cell, [arm], seed)
            np.testing.assert_array_equal(own.test_logits, best.test_logits)
            np.testing.assert_equal(own.scores, best.scores)
            settings = dict(parse_arm(best.key.arm).settings)
            assert own.chosen == {name: settings[name] for name in own.chosen}
            assert list(own.chosen) == (["lr"] if arm == UNIFORM else ["tau", "lr"])
            assert len(own.history["train_loss"]) == 2
            assert best.chosen == {}
    summary = {each.arm: each for each in comparison.summaries}[LOGIT]
    assert summary.tuning is not None
    assert summary.tuning.tried == {"tau": (0.5, 1, 2), "lr": (0.3, 1)}
    assert (summary.tuning.num_candidates, summary.tuning.num_bad) == (6, 0)
    assert len(summary.chosen["tau"]) == 2


def test_candidates_are_trained_once_and_are_no_arms(tuned: StudyConfig, whole: Whole) -> None:
    directory, events, comparison = whole
    plan = make_plan(tuned)
    (cell,) = plan.cells
    # balanced_softmax is logit_adjusted with tau = 1, which no one named as an arm.
    assert len(plan.trained_runs) == 2 * (3 + 6)
    assert plan.equal_arms(cell) == {}
    assert set(describe(plan, CPU).run_keys) == set(plan.sources)
    assert sum(isinstance(event, RunFinished) for event in events) == 2 * (3 + 6)
    assert comparison.arms == (UNIFORM, LOGIT, "balanced_softmax", "tau_norm")
    assert comparison.family_size == 3
    assert (comparison.design.num_runs, comparison.design.num_candidates) == (2 * 13, 2 * 9)
    scores = pd.read_parquet(directory / "scores.parquet")
    assert set(scores[~scores.candidate].arm) == set(comparison.arms)
    assert set(scores[scores.candidate].arm) == {
        str(each) for arm in (UNIFORM, LOGIT) for each in parse_arm(arm).candidates
    }
    assert set(pd.read_parquet(directory / "history.parquet").arm) == set(comparison.arms[:3])
    (sentence,) = [s for s in words.design_sentences(comparison) if s.startswith("Tuned")]
    assert "3 to 6 settings by balanced accuracy" in sentence
    assert "8 runs that are compared stand 18 more" in sentence
    assert "Not tuned: balanced_softmax." in sentence


def test_a_post_hoc_arm_starts_from_the_chosen_run(tuned: StudyConfig, whole: Whole) -> None:
    (cell,) = tuned.cells
    split = make_plan(tuned).cells[cell].splits[0]
    labels = make_plan(tuned).cells[cell].dataset.labels[split.validation_indices]
    parent, own = records(whole[0], cell, [UNIFORM, "tau_norm"], 0)
    outputs = RunOutputs(
        parent.test_logits, parent.validation_logits, labels,
        parent.head_kernel, parent.head_bias, split.class_counts,
    )  # fmt: skip
    adjusted = apply_post_hoc(parse_arm("tau_norm"), outputs)
    np.testing.assert_array_equal(own.test_logits, adjusted.test_logits)
    assert own.chosen == adjusted.chosen
    assert own.history == {}


DATASET = make_dataset()
LABELS = np.arange(30) % 3


def candidate(name: str, logits: np.ndarray, *, bad: bool = False) -> RunRecord:
    drawn = make_record(DATASET, RunKey("cell", name, 0), 0, bad=bad)
    return dataclasses.replace(drawn, validation_logits=logits.astype(np.float32))


def test_ties_go_to_the_log_loss_and_then_to_the_order() -> None:
    right = 2.0 * np.eye(3)[LABELS]
    wrong = right.copy()
    wrong[0] = wrong[0, ::-1]
    unsure = candidate("unsure", right)
    sure, again = candidate("sure", 3 * right), candidate("again", 3 * right)
    worse = candidate("worse", 9 * wrong)
    assert best_on_validation([worse, unsure, again, sure], LABELS, "accuracy") is again
    assert best_on_validation([worse, unsure, sure, again], LABELS, "accuracy") is sure
    assert best_on_validation([sure, unsure], LABELS, "loss") is sure  # lower is better
    assert best_on_validation([unsure, sure], LABELS, "recall_many") is sure  # undefined in both
    far = candidate("far", right * np.nan, bad=True)
    assert best_on_validation([far, worse], LABELS, "accuracy") is worse
    assert best_on_validation([far, far], LABELS, "accuracy").status == "diverged"


def test_test_logits_have_no_part_in_the_choice() -> None:
    right = np.eye(3)[LABELS]
    good, bad = candidate("good", right), candidate("bad", -right)
    swapped = [
        dataclasses.replace(good, test_logits=-good.test_logits, scores={}),
        dataclasses.replace(bad, scores={}),
    ]
    assert best_on_validation(swapped, LABELS, "balanced_accuracy") is swapped[0]


@pytest.mark.usefixtures("no_report")
def test_a_grid_of_nine_settings_is_one_engine_and_compiles_once(
    tiny_config: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    traces: list[int] = []

    class Counted(local.Engine):
        def __init__(self, *args: Any, **settings: Any) -> None:
            made.append(1)
            super().__init__(*args, **settings)

    programs_of = local.make_run_programs

    def counted(*args: Any) -> Any:
        return counting(programs_of(*args), traces)

    monkeypatch.setattr(local, "Engine", Counted)
    monkeypatch.setattr(local, "make_run_programs", counted)
    config = dataclasses.replace(
        tiny_config, tune=True, arms=("uniform", "balanced", "focal", "logit_adjusted")
    )
    events = run_all(config, tmp_path)
    assert sum(isinstance(event, RunFinished) for event in events) == 4 * 9 * 2
    assert finished(events).comparison.family_size == 3
    assert (len(made), len(traces)) == (1, 1)


@pytest.mark.fault(23, 70)
@pytest.mark.usefixtures("no_report")
def test_a_stopped_study_ends_in_the_same_bytes(
    tuned: StudyConfig, whole: Whole, tmp_path: Path
) -> None:
    stopped = run(tuned, tmp_path, ONE_CORE)
    for event in stopped:
        if isinstance(event, RunStored) and event.key.arm == "uniform:lr=3":
            break
    stopped.close()
    for _ in range(2):
        run_all(tuned, tmp_path)
        assert files(tmp_path) == files(whole[0])


@pytest.mark.fault(1)
@pytest.mark.usefixtures("no_report")
def test_a_kill_between_the_candidates_and_the_choice(
    tuned: StudyConfig, whole: Whole, tmp_path: Path
) -> None:
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    directory, (cell,) = StudyDirectory(tmp_path), tuned.cells
    for name in (UNIFORM, "tau_norm", LOGIT):
        directory.run_path(RunKey(cell, name, 1)).unlink()
    events = run_all(tuned, tmp_path)
    assert not any(isinstance(event, RunFinished) for event in events)
    assert files(tmp_path) == files(whole[0])


@pytest.mark.fault(60)
@pytest.mark.usefixtures("no_report")
def test_a_failed_candidate_is_left_out_and_comes_back_with_the_retry(
    tuned: StudyConfig, whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cell,) = tuned.cells
    (unbroken,) = records(whole[0], cell, [UNIFORM], 0)
    names = [str(each) for each in parse_arm(UNIFORM).candidates]
    best = next(
        each
        for each in records(whole[0], cell, names, 0)
        if np.array_equal(each.test_logits, unbroken.test_logits)
    )
    with monkeypatch.context() as failing:
        fail_on(failing, best.key.arm, 0)
        broken = finished(run_all(tuned, tmp_path)).comparison
    (own,) = records(tmp_path, cell, [UNIFORM], 0)
    assert own.status == "ok"
    assert own.chosen != unbroken.chosen
    summary = next(each for each in broken.summaries if each.arm == UNIFORM)
    assert summary.tuning is not None
    assert summary.tuning.num_bad == 1
    assert broken.bad_runs == ()
    assert "1 of which ended without a score" in " ".join(words.design_sentences(broken))
    assert broken.cells[0].failures[0].startswith(f"{best.key.arm} seed 0: RuntimeError")
    run_all(tuned, tmp_path, RuntimeConfig(max_parallel_runs=1, retry_failed=True))
    assert files(tmp_path) == files(whole[0])


@pytest.mark.usefixtures("no_report")
def test_an_arm_fails_with_all_its_candidates(
    tuned: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(runs: Any, *_: Any) -> Iterator[Any]:
        raise RuntimeError("no batches today")

    monkeypatch.setattr("cwjax.training.chunk.epoch_blocks", broken)
    comparison = finished(run_all(tuned, tmp_path)).comparison
    failed = {failure.run.arm for failure in StudyDirectory(tmp_path).known_study().failures}
    assert failed >= set(ARMS)
    assert {run.arm for run in comparison.bad_runs} == set(ARMS)
    assert {entry.verdict.key for entry in comparison.comparisons} == {"refused"}


@pytest.mark.usefixtures("no_report")
def test_tuning_an_arm_later_finds_its_runs(tiny_config: StudyConfig, tmp_path: Path) -> None:
    config = dataclasses.replace(tiny_config, arms=("uniform", "focal"))
    run_all(config, tmp_path / "grown")
    before = run_files(tmp_path / "grown")
    more = dataclasses.replace(config, arms=("uniform", "focal", "focal:gamma=best(1,2)"))
    events = run_all(more, tmp_path / "grown")
    trained = [event.run.key.arm for event in events if isinstance(event, RunFinished)]
    assert trained == ["focal:gamma=1"] * 2
    run_all(more, tmp_path / "at_once")
    grown = files(tmp_path / "grown")
    assert {name: grown[name] for name in before} == before
    assert grown == files(tmp_path / "at_once")


@pytest.mark.usefixtures("no_report")
def test_seeds_that_were_trained_apart_are_put_together(
    tuned: StudyConfig, whole: Whole, tmp_path: Path
) -> None:
    parts = [tmp_path / str(seed) for seed in tuned.all_seeds]
    for seed, part in enumerate(parts):
        run_all(dataclasses.replace(tuned, num_seeds=1, seeds=(seed,)), part)
    merge(parts, tmp_path / "merged", allow_environment_change=False)
    assert run_files(tmp_path / "merged") == run_files(whole[0])


def test_the_control_of_a_tuned_baseline_is_tuned_too(tuned: StudyConfig, tmp_path: Path) -> None:
    plan = make_plan(dataclasses.replace(tuned, null_control=True))
    (cell,) = plan.cells
    study = describe(plan, CPU)
    assert study.arm_names[-1] == NULL_CONTROL
    controls = study.candidates[NULL_CONTROL]
    assert controls == (
        "null_control:uniform:lr=0.3",
        "null_control:uniform",
        "null_control:uniform:lr=3",
    )
    assert set(study.run_keys) == set(plan.sources)
    sources = plan.sources[RunKey(cell, NULL_CONTROL, 0)]
    assert sources == tuple(RunKey(cell, name, 0) for name in controls)
    assert all(key.key_seed == 2**32 for key in plan.trained_runs if key.key in sources)


def test_looks_expect_the_candidates_of_the_arms_that_go_on(tuned: StudyConfig) -> None:
    config = dataclasses.replace(tuned, max_seeds=8, looks=(6, 8), num_seeds=10)
    study = describe(make_plan(config), CPU)
    expected = progress(study, {}).expected
    assert {key.seed for key in expected} == set(range(6))
    assert {key.arm for key in expected} == set(study.run_names)


def test_a_decided_arms_candidates_train_no_further(tuned: StudyConfig) -> None:
    """`balanced_softmax` goes on, and the decided arm's candidate that it equals with it."""
    plan = make_plan(dataclasses.replace(tuned, max_seeds=10, looks=(8, 10), num_seeds=10))
    study, rng = describe(plan, CPU), np.random.default_rng(0)
    runs = {
        key: RunHeader(
            key=key,
            status="ok",
            scores=dict.fromkeys(METRICS, (0.9 if key.arm == LOGIT else 0.5) + rng.normal(0, 0.01)),
            chosen={},
        )
        for key in study.run_keys
        if key.seed < 8
    }
    state = progress(study, runs)
    assert state.num_looks == 1
    seeds = Counter(key.arm for key in state.expected)
    assert seeds[LOGIT] == 8
    assert seeds[UNIFORM] == seeds["balanced_softmax"] == 10
    assert {seeds[str(each)] for each in parse_arm(UNIFORM).candidates} == {10}
    assert {seeds[str(each)] for each in parse_arm(LOGIT).candidates} == {8}
    (cell,) = plan.cells
    needed = {root for key in state.expected for root in plan.roots(key)}
    assert RunKey(cell, "logit_adjusted", 9) in needed
    assert RunKey(cell, "logit_adjusted:tau=2", 9) not in needed


def config_of(*arms: str, **settings: Any) -> StudyConfig:
    return StudyConfig(arms=arms, **settings)


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (config_of("uniform:lr=best(0.3,1)", "focal"), ["uniform:lr=best(0.3,1)", "focal"]),
        (config_of("uniform", "uniform:best"), ["uniform", "uniform:best"]),
        (config_of("uniform:best", baseline="balanced"), ["balanced", "uniform:best"]),
        (config_of("uniform:best", "uniform:lr=best(1,2)"),
         ["uniform", "uniform:best", "uniform:lr=best(1,2)"]),
        (config_of("balanced", "tau_norm", "focal:gamma=best(1,3)", tune=True),
         ["uniform:best", "balanced:best", "tau_norm", "focal:gamma=best(1,3)"]),
    ],
)  # fmt: skip
def test_who_is_the_baseline(config: StudyConfig, names: list[str]) -> None:
    assert [str(arm) for arm in design_arms(config)] == names


def test_post_hoc_arms_of_a_directory_keep_their_parent(
    tiny_config: StudyConfig, tmp_path: Path
) -> None:
    config = dataclasses.replace(
        tiny_config, baseline="balanced", arms=("uniform", "tau_norm"), num_seeds=1
    )
    run_all(config, tmp_path)
    other = dataclasses.replace(config, arms=("uniform:lr=best(1,2)", "tau_norm"))
    with pytest.raises(ConfigError, match=r"computed from uniform, here they would be from"):
        run_all(other, tmp_path)


def test_a_metric_that_validation_cannot_tell_is_refused(
    tuned: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = dataclasses.replace(tuned, analysis=AnalysisConfig(metric="recall_many"))
    with pytest.raises(ConfigError, match="is undefined"):
        make_plan(changed)


@pytest.mark.usefixtures("no_report", "fits_here")
def test_an_estimators_class_weights_are_tuned(tiny_npz: str, tmp_path: Path) -> None:
    config = StudyConfig(
        data=(DataConfig(dataset=tiny_npz, imbalance_factor=4),),
        train=TrainConfig(model="estimator:logistic_regression"),
        arms=("uniform", "inverse_power:gamma=best(0.25,1)"),
        num_seeds=1,
    )
    events: list[Event] = run_all(config, tmp_path)
    assert finished(events).comparison.num_ok_runs == 2
    with pytest.raises(ConfigError, match=r"arm 'balanced:lr=3' changes a network's learning rate"):
        make_plan(dataclasses.replace(config, arms=("balanced:lr=best(1,3)",)))
    with pytest.raises(ConfigError, match="--tune varies learning rates"):
        parse_design(dataclasses.replace(config, tune=True))


def test_the_report_shows_what_was_chosen(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table, a strip per setting, and a note where the grid ends too soon."""
    directory, _, comparison = whole
    opened = StudyDirectory(directory)
    study = opened.known_study()
    contents = read_cell(opened, study, next(iter(study.cells)), study.run_keys)
    monkeypatch.setattr(layout.figures, "comparison_figures", lambda *_: [])
    monkeypatch.setattr(layout.figures, "training_figures", lambda *_: [])
    page = markdown_page(layout.cell_page(contents, comparison, with_pdf=False))
    uniform = next(each for each in comparison.summaries if each.arm == UNIFORM)
    told = words.chosen_text(uniform.chosen["lr"])
    assert f"| {UNIFORM} | lr | {told} | 0.3, 1, 3 |" in page
    assert f"Chosen settings: {UNIFORM} lr: {told};" in page
    assert "figures/chosen_settings.svg" in page
    at_the_end = dataclasses.replace(uniform, chosen={"lr": (3.0, 3.0, 1.0)})
    inside = dataclasses.replace(uniform, chosen={"lr": (3.0, 1.0, 1.0)})
    notes = [
        words.tuning_notes(dataclasses.replace(comparison, summaries=(each,)))
        for each in (at_the_end, inside)
    ]
    assert notes[0] == [
        f"Most seeds chose the end of a grid: {UNIFORM} (lr=3, in 2 of 3); wider grids may serve "
        "these arms better."
    ]
    assert notes[1] == []


def test_what_tuning_costs_is_said_before_training(
    tuned: StudyConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan(tuned)
    print_plan(plan, describe(plan, CPU), tmp_path)
    printed = capsys.readouterr().out
    assert "2 arms tuned: each run is the one of 3 to 6 settings that is best on" in printed
    count = _count_line(describe(plan, CPU), 26, 18)
    assert count == (
        "1 cell, 26 runs: 18 to train, 8 computed from trained ones, 18 of them candidates of "
        "tuned arms"
    )


def test_a_tuned_arm_has_no_weights_to_print(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"arm 'inverse_power:best' is tuned"):
        class_weights(parse_arm("inverse_power:best"), DATASET)
