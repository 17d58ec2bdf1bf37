"""A study from settings to files: complete, repeatable, continued where it stopped."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

from cwjax.analysis.pairing import BadRun
from cwjax.arms.arm import NULL_CONTROL
from cwjax.arms.grammar import parse_arm
from cwjax.arms.posthoc import RunOutputs, apply_post_hoc
from cwjax.cli import compare
from cwjax.config import AnalysisConfig, RuntimeConfig, StudyConfig
from cwjax.data.dataset import Dataset
from cwjax.data.sources import load_dataset
from cwjax.errors import ConfigError
from cwjax.store.directory import StudyDirectory
from cwjax.store.schema import CodeIdentity, Failure
from cwjax.study import derive, manifest, plan
from cwjax.study.plan import make_plan, parse_design
from cwjax.study.run import Event, Finished, Planned, RunStored, run
from cwjax.training import chunk, lanes, local, width
from cwjax.training.batches import epoch_blocks
from cwjax.training.runs import EpochFinished, Run, RunFinished, RunKey, RunsFailed, StepsFinished
from cwjax.training.step import Block

ONE_CORE = RuntimeConfig(max_parallel_runs=1)  # one device to compile for


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != "log.jsonl"
    }


def run_files(directory: Path) -> dict[str, bytes]:
    return {n: content for n, content in files(directory).items() if n.startswith("runs/")}


def run_all(config: StudyConfig, directory: Path, runtime: RuntimeConfig = ONE_CORE) -> list[Event]:
    return list(run(config, directory, runtime))


def with_data(config: StudyConfig, **changes: Any) -> StudyConfig:
    """The study on other data, in its one cell."""
    return dataclasses.replace(config, data=(dataclasses.replace(config.data[0], **changes),))


def with_training(config: StudyConfig, **changes: Any) -> StudyConfig:
    return dataclasses.replace(config, train=dataclasses.replace(config.train, **changes))


def finished(events: list[Event]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]


@pytest.mark.fault(34)
@pytest.mark.usefixtures("no_report")
def test_every_file_is_there_and_they_agree(tiny_config: StudyConfig, tmp_path: Path) -> None:
    events = run_all(tiny_config, tmp_path)
    planned = next(event for event in events if isinstance(event, Planned))
    assert (planned.num_runs, planned.num_epochs) == (4, 8)
    assert isinstance(events[-1], Finished)
    (cell,) = tiny_config.cells
    scores = pd.read_parquet(tmp_path / "scores.parquet")
    assert set(scores.cell) == {cell}
    assert list(scores.arm) == ["uniform"] * 2 + ["balanced"] * 2
    assert list(scores.seed) == [0, 1, 0, 1]
    assert set(scores.status) == {"ok"}
    classes = pd.read_parquet(tmp_path / "class_scores.parquet")
    assert len(classes) == 4 * 3
    recalls = classes.groupby(["arm", "seed"]).recall.mean()
    for row in scores.itertuples():
        assert row.balanced_accuracy == pytest.approx(recalls[row.arm, row.seed], abs=1e-12)
    history = pd.read_parquet(tmp_path / "history.parquet")
    assert len(history) == 4 * 2
    assert history.train_loss.notna().all()
    comparison = json.loads((tmp_path / "comparison.json").read_text())
    differences = comparison["comparisons"][0]["differences"]
    by_arm = scores.pivot(index="seed", columns="arm", values="balanced_accuracy")
    np.testing.assert_allclose(differences, by_arm.balanced - by_arm.uniform)
    stored = StudyDirectory(tmp_path).known_study().cells[cell]
    assert stored.class_counts[0] == (54, 27, 13)
    assert stored.dataset.fingerprint == make_plan(tiny_config).cells[cell].dataset.fingerprint
    assert stored.data.dataset == "npz:tiny.npz"  # no path


@pytest.mark.fault(23, 70)
def test_the_same_command_gives_the_same_bytes_and_continues(
    tiny_config: StudyConfig, tmp_path: Path
) -> None:
    run_all(tiny_config, tmp_path / "a")
    stopped = run(tiny_config, tmp_path / "b", ONE_CORE)
    next(event for event in stopped if isinstance(event, RunStored))
    stopped.close()
    partial = files(tmp_path / "b")
    assert 1 <= sum(name.startswith("runs/") for name in partial) < 4
    run_all(tiny_config, tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")
    runs = list((tmp_path / "b" / "runs").rglob("*.npz"))
    before = [path.stat().st_mtime_ns for path in runs]
    again = run_all(tiny_config, tmp_path / "b")
    assert not any(isinstance(event, RunFinished) for event in again)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert before == [path.stat().st_mtime_ns for path in runs]


@pytest.mark.fault(24)
@pytest.mark.usefixtures("no_report")
def test_more_seeds_and_arms_leave_the_first_runs_alone(
    tiny_config: StudyConfig, tmp_path: Path
) -> None:
    run_all(tiny_config, tmp_path / "grown")
    first = run_files(tmp_path / "grown")
    more = dataclasses.replace(
        tiny_config, num_seeds=3, arms=("uniform", "balanced", "posthoc_logit_adjusted:tau=1")
    )
    run_all(more, tmp_path / "grown")
    run_all(more, tmp_path / "at_once")
    grown = files(tmp_path / "grown")
    assert {name: grown[name] for name in first} == first
    assert grown == files(tmp_path / "at_once")


@pytest.mark.fault(20)
@pytest.mark.usefixtures("no_report")
def test_a_weight_file_is_not_needed_again(tiny_config: StudyConfig, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text('{"a": 1, "b": 2, "c": 3}')
    custom = dataclasses.replace(tiny_config, arms=(f"custom:file={file}",), num_seeds=1)
    run_all(custom, tmp_path / "out")
    file.unlink()
    run_all(tiny_config, tmp_path / "out")
    scores = pd.read_parquet(tmp_path / "out" / "scores.parquet")
    (name,) = set(scores.arm) - {"uniform", "balanced"}
    assert name.startswith("custom:file=mine-")
    assert len(scores) == 6


@pytest.mark.fault(20)
@pytest.mark.usefixtures("no_report")
def test_another_study_is_refused_with_the_difference(
    tiny_config: StudyConfig, tmp_path: Path
) -> None:
    run_all(tiny_config, tmp_path)
    before = run_files(tmp_path)
    with pytest.raises(ConfigError, match=r"num_epochs: 2, now 3"):
        run_all(with_training(tiny_config, num_epochs=3), tmp_path)
    directory = StudyDirectory(tmp_path)
    study = directory.known_study()
    versions = study.environment.versions | {"jax": "0.0.1"}
    environment = dataclasses.replace(study.environment, versions=versions)
    directory.write_study(dataclasses.replace(study, environment=environment))
    with pytest.raises(ConfigError, match=r"environment.*jax: 0\.0\.1, now"):
        run_all(tiny_config, tmp_path)
    allowed = RuntimeConfig(allow_environment_change=True, max_parallel_runs=1)
    run_all(tiny_config, tmp_path, allowed)
    (change,) = directory.known_study().environment_changes
    assert change.startswith("jax: 0.0.1, now")
    assert run_files(tmp_path) == before


@pytest.mark.usefixtures("no_report")
def test_equal_arms_are_trained_once_and_said_to_be_identical(
    tiny_config: StudyConfig, tmp_path: Path
) -> None:
    """Balanced weights on balanced data are all 1."""
    balanced_data = with_data(tiny_config, imbalance="none")
    (cell,) = balanced_data.cells
    assert make_plan(balanced_data).equal_arms(cell) == {"balanced": "uniform"}
    events = run_all(balanced_data, tmp_path)
    assert sum(isinstance(event, RunFinished) for event in events) == 2
    (comparison,) = finished(events).comparison.comparisons
    assert comparison.verdict.key == "identical"
    assert comparison.differences == (0.0, 0.0)
    assert comparison.pairing.same_as == "uniform"


@pytest.mark.usefixtures("no_report")
def test_a_post_hoc_arm_waits_for_a_parent_that_another_arm_answers(
    tiny_config: StudyConfig, tmp_path: Path
) -> None:
    """On balanced data `balanced` is trained and `uniform`, its equal, only copied."""
    config = dataclasses.replace(
        with_data(tiny_config, imbalance="none"),
        arms=("tau_norm", "uniform", "balanced"),
        baseline="balanced",
    )
    run_all(config, tmp_path)
    assert len(pd.read_parquet(tmp_path / "scores.parquet")) == 6


@pytest.mark.usefixtures("no_report")
def test_a_post_hoc_arm_that_is_added_later_finds_a_parent_that_another_arm_answered(
    tiny_config: StudyConfig, tmp_path: Path
) -> None:
    """`uniform` is stored already, as the equal of `balanced`, when `tau_norm` asks for it."""
    config = dataclasses.replace(
        with_data(tiny_config, imbalance="none"),
        arms=("uniform", "balanced"),
        baseline="balanced",
    )
    run_all(config, tmp_path)
    run_all(dataclasses.replace(config, arms=("uniform", "balanced", "tau_norm")), tmp_path)
    assert len(pd.read_parquet(tmp_path / "scores.parquet")) == 6


def test_images_that_are_too_small_are_refused(
    tiny_config: StudyConfig, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    np.savez(
        tmp_path / "small.npz",
        images=tiny_dataset.train_inputs[:, :8, :8],
        labels=tiny_dataset.train_labels,
    )
    spec = f"npz:{tmp_path / 'small.npz'}"
    with pytest.raises(ConfigError, match="images are 8 x 8, cnn needs at least 18 x 18"):
        run_all(with_training(with_data(tiny_config, dataset=spec), model="cnn"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_null_control_is_the_baseline_under_other_keys(tiny_config: StudyConfig) -> None:
    plan = make_plan(dataclasses.replace(tiny_config, null_control=True))
    control = next(run for run in plan.runs if run.key.arm == NULL_CONTROL)
    its_baseline = dataclasses.replace(control.key, arm="uniform")
    baseline = next(run for run in plan.runs if run.key == its_baseline)
    np.testing.assert_array_equal(control.train_indices, baseline.train_indices)
    assert control.key_seed != baseline.key_seed
    assert plan.sources[control.key] == ()


@pytest.mark.fault(52)
@pytest.mark.usefixtures("no_report")
def test_a_diverged_run_keeps_its_row_and_the_verdict_is_refused(
    tiny_config: StudyConfig, tmp_path: Path
) -> None:
    events = run_all(with_training(tiny_config, learning_rate=1e30, model="cnn"), tmp_path)
    scores = pd.read_parquet(tmp_path / "scores.parquet")
    assert set(scores.status) == {"diverged"}
    assert scores.accuracy.isna().all()
    result = finished(events).comparison
    assert result.num_ok_runs == 0
    (comparison,) = result.comparisons
    assert comparison.verdict.key == "refused"
    assert comparison.facts.refused[0] == BadRun("uniform", 0, "diverged")


@pytest.mark.fault(38, 46)
def test_settings_that_cannot_work_are_refused_before_anything_is_written(
    tiny_config: StudyConfig, tmp_path: Path
) -> None:
    cases = {
        "--batch-size is 4000": with_training(tiny_config, batch_size=4000),
        r"--metric recall_many \(.*\) is undefined with the classes of seed 0": dataclasses.replace(
            tiny_config, analysis=AnalysisConfig(metric="recall_many")
        ),
        "add it to --arms": dataclasses.replace(
            tiny_config, arms=("balanced", "tau_norm"), baseline="balanced"
        ),
    }
    for message, config in cases.items():
        with pytest.raises(ConfigError, match=message):
            run_all(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.fault(21)
@pytest.mark.usefixtures("no_report")
def test_the_width_once_chosen_is_kept_and_a_wide_chunk_continues(
    tiny_config: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on an accelerator: runs side by side in one program, then a device with more memory."""
    devices = jax.devices()[:2]
    widths = []

    def two_devices(width: int) -> list[lanes.Lane]:
        widths.append(width)
        return [lanes.Lane(devices, width)]

    monkeypatch.setattr(local, "default_lanes", two_devices)
    monkeypatch.setattr(width, "fitting_width", lambda *_: 4)
    list(run(tiny_config, tmp_path / "unbroken"))
    with monkeypatch.context() as short:
        short.setattr(chunk, "BLOCK_STEPS", 4)  # of 6 an epoch
        stopped = run(tiny_config, tmp_path / "stopped")
        next(event for event in stopped if isinstance(event, EpochFinished))
        stopped.close()
    (checkpoint,) = (tmp_path / "stopped").glob("checkpoints/*/*")
    assert checkpoint.parent.name.startswith("4-")
    monkeypatch.setattr(width, "fitting_width", lambda *_: 8)
    events = list(run(tiny_config, tmp_path / "stopped"))
    planned = next(event for event in events if isinstance(event, Planned))
    assert (planned.num_epochs, planned.num_runs) == (4 * 1, 4)
    assert sum(e.num_examples for e in events if isinstance(e, StepsFinished)) == (
        planned.num_examples
    )
    assert widths == [4, 4, 4]
    assert files(tmp_path / "stopped") == files(tmp_path / "unbroken")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metric": "acuracy"}, "choose one of accuracy, balanced_accuracy"),
        ({"smallest_effect": 2}, "smallest effect is 2"),
        ({"confidence": 0.3}, "confidence is 0.3"),
        ({"metric": "loss", "diverged": "worst-score"}, "has no worst score"),
    ],
)
def test_analysis_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_design(StudyConfig(analysis=AnalysisConfig(**settings)))


def fail_on(monkeypatch: pytest.MonkeyPatch, arm: str, seed: int) -> None:
    """The batches of a run cannot be made."""

    def broken(runs: list[Run], *args: Any) -> Iterator[Block]:
        if (runs[0].key.arm, runs[0].key.seed) == (arm, seed):
            raise RuntimeError("no batches\ntoday")
        return epoch_blocks(runs, *args)

    monkeypatch.setattr(chunk, "epoch_blocks", broken)


@pytest.mark.usefixtures("no_report")
def test_runs_whose_study_file_is_gone_are_not_taken_for_this_study(
    tiny_config: StudyConfig, tmp_path: Path
) -> None:
    run_all(tiny_config, tmp_path / "whole")
    (tmp_path / "whole" / "runs").rename(tmp_path / "runs")
    shutil.rmtree(tmp_path / "whole")
    with pytest.raises(ConfigError, match=r"holds runs but no study\.json: give a new directory"):
        run_all(tiny_config, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


@pytest.mark.fault(60)
@pytest.mark.usefixtures("no_report")
def test_a_run_that_fails_is_recorded_and_the_others_go_on(
    tiny_config: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(tiny_config, arms=("uniform", "balanced", "focal"))
    (cell,) = config.cells
    run_all(config, tmp_path / "unbroken")
    directory = StudyDirectory(tmp_path / "out")
    with monkeypatch.context() as failing:
        fail_on(failing, "balanced", 1)
        events = run_all(config, tmp_path / "out")
    (failed,) = (event for event in events if isinstance(event, RunsFailed))
    assert [run.key for run in failed.runs] == [RunKey(cell, "balanced", 1)]
    assert sum(isinstance(event, RunFinished) for event in events) == 5
    failure = Failure(RunKey(cell, "balanced", 1), "RuntimeError: no batches today")
    assert directory.known_study().failures == (failure,)
    assert finished(events).comparison.cells[0].failures == (f"{failure.run}: {failure.reason}",)
    assert not directory.has_run(failure.run)
    assert not (tmp_path / "out" / "checkpoints").exists()
    by_arm = {each.pairing.treatment: each for each in finished(events).comparison.comparisons}
    assert by_arm["balanced"].verdict.key == "refused"
    assert by_arm["balanced"].facts.refused == (BadRun("balanced", 1, "failed"),)
    assert by_arm["focal"].verdict.key != "refused"
    assert len(by_arm["focal"].differences) == 2
    scores = pd.read_parquet(tmp_path / "out" / "scores.parquet")
    row = scores[(scores.arm == "balanced") & (scores.seed == 1)]
    assert list(row.status) == ["failed"]
    assert row.accuracy.isna().all()

    again = run_all(config, tmp_path / "out")  # it stays failed
    assert not any(isinstance(event, RunFinished) for event in again)
    assert directory.known_study().failures == (failure,)

    retry = RuntimeConfig(max_parallel_runs=1, retry_failed=True)
    mended = run_all(config, tmp_path / "out", retry)
    assert [event.run.key for event in mended if isinstance(event, RunFinished)] == [failure.run]
    assert finished(mended).comparison.cells[0].failures == ()
    assert files(tmp_path / "out") == files(tmp_path / "unbroken")


@pytest.mark.usefixtures("no_report")
def test_what_a_failed_run_would_have_answered_fails_with_it(
    tiny_config: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A post-hoc arm has no runs where its parent has none."""
    config = dataclasses.replace(tiny_config, arms=("uniform", "balanced", "tau_norm"))
    fail_on(monkeypatch, "uniform", 0)
    events = run_all(config, tmp_path)
    facts = {each.pairing.treatment: each.facts for each in finished(events).comparison.comparisons}
    uniform = BadRun("uniform", 0, "failed")
    assert facts["balanced"].refused == (uniform,)
    assert facts["tau_norm"].refused == (uniform, BadRun("tau_norm", 0, "failed"))
    retry = RuntimeConfig(max_parallel_runs=1, retry_failed=True)
    monkeypatch.undo()
    monkeypatch.setattr(derive, "write_cell_report", lambda *_: None)
    mended = finished(run_all(config, tmp_path, retry))
    assert mended.comparison.cells[0].failures == ()
    assert mended.comparison.num_ok_runs == 6


@pytest.mark.usefixtures("no_report")
def test_an_arm_that_comes_later_fails_with_the_run_that_would_have_answered_it(
    tiny_config: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_on(monkeypatch, "uniform", 0)
    run_all(tiny_config, tmp_path)
    more = dataclasses.replace(tiny_config, arms=("uniform", "balanced", "tau_norm"))
    ended = finished(run_all(more, tmp_path))
    failures = StudyDirectory(tmp_path).known_study().failures
    assert [failure.run.arm for failure in failures] == ["uniform", "tau_norm"]
    assert ended.comparison.num_ok_runs == 4  # of 6


@pytest.mark.fault(60)
@pytest.mark.usefixtures("no_report")
def test_the_exit_code_tells_of_a_failed_run(
    tiny_npz: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--dataset", tiny_npz, "--imbalance-factor", "4", "--num-seeds", "1"]
    flags += ["--num-epochs", "1", "--batch-size", "16", "--max-parallel-runs", "1", "--quiet"]
    flags += ["--out", str(tmp_path / "out")]
    with monkeypatch.context() as failing:
        fail_on(failing, "balanced", 0)
        assert compare.main(flags) == 1
    assert compare.main(flags) == 1
    assert compare.main([*flags, "--retry-failed"]) == 0
    assert compare.main(flags) == 0


@pytest.mark.usefixtures("no_report")
def test_cells_of_one_data_set_load_and_compile_once(
    tiny_config: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, engines = [], []

    def load(spec: str, *options: Any) -> Dataset:
        loaded.append(spec)
        return load_dataset(spec, *options)

    class Counted(local.Engine):
        def __init__(self, *args: Any, **settings: Any) -> None:
            engines.append(1)
            super().__init__(*args, **settings)

    monkeypatch.setattr(plan, "load_dataset", load)
    monkeypatch.setattr(local, "Engine", Counted)
    (data,) = tiny_config.data
    config = dataclasses.replace(
        tiny_config,
        data=(data, dataclasses.replace(data, imbalance_factor=8.0)),
        num_seeds=1,
        train=dataclasses.replace(tiny_config.train, num_epochs=1),
    )
    events = run_all(config, tmp_path)
    assert len(finished(events).comparison.cells) == 2
    assert loaded == [data.dataset]
    assert len(engines) == 1
    examples = list((tmp_path / "examples").iterdir())
    assert len(examples) == 1
    (dataset,) = {cell.dataset.fingerprint for cell in make_plan(config).cells.values()}
    assert examples[0].stem == dataset[:16]


@pytest.mark.usefixtures("no_report")
def test_the_cells_of_a_study_equal_studies_of_one_cell(
    tiny_config: StudyConfig, tmp_path: Path
) -> None:
    (data,) = tiny_config.data
    both = (data, dataclasses.replace(data, imbalance="step"))
    config = dataclasses.replace(tiny_config, num_seeds=1)
    run_all(dataclasses.replace(config, data=both), tmp_path / "both")
    alone: dict[str, bytes] = {}
    for place, each in enumerate(both):
        run_all(dataclasses.replace(config, data=(each,)), tmp_path / str(place))
        alone |= run_files(tmp_path / str(place))
    assert run_files(tmp_path / "both") == alone
    scores = pd.read_parquet(tmp_path / "both" / "scores.parquet")
    assert scores.cell.unique().tolist() == [each.name() for each in both]


@pytest.mark.usefixtures("no_report")
def test_a_tau_that_is_chosen_is_stored_and_told(tiny_config: StudyConfig, tmp_path: Path) -> None:
    arms = ("uniform", "tau_norm", "posthoc_logit_adjusted:tau=1")
    events = run_all(dataclasses.replace(tiny_config, arms=arms), tmp_path)
    (cell,) = tiny_config.cells
    directory, plan_now = StudyDirectory(tmp_path), make_plan(tiny_config)
    chosen = []
    for seed in (0, 1):
        uniform, own = (directory.read_run(RunKey(cell, a, seed)) for a in ("uniform", "tau_norm"))
        assert directory.read_run_header(own.key).chosen == own.chosen
        split, labels = plan_now.cells[cell].splits[seed], plan_now.cells[cell].dataset.labels
        outputs = RunOutputs(
            test_logits=uniform.test_logits,
            validation_logits=uniform.validation_logits,
            validation_labels=labels[split.validation_indices],
            head_kernel=uniform.head_kernel,
            head_bias=uniform.head_bias,
            class_counts=split.class_counts,
        )
        adjusted = apply_post_hoc(parse_arm("tau_norm"), outputs)
        assert own.chosen == adjusted.chosen
        np.testing.assert_array_equal(own.test_logits, adjusted.test_logits)
        chosen.append(own.chosen["tau"])
        fixed = RunKey(cell, "posthoc_logit_adjusted:tau=1", seed)
        assert directory.read_run(fixed).chosen == {}
        assert own.history == {}
    summaries = {each.arm: each.chosen for each in finished(events).comparison.summaries}
    assert summaries["tau_norm"] == {"tau": tuple(chosen)}
    assert summaries["uniform"] == {}


@pytest.mark.usefixtures("no_report")
def test_every_code_that_trained_is_recorded(
    tiny_config: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_seed = dataclasses.replace(tiny_config, num_seeds=1)
    identities = [CodeIdentity("0.2", "a" * 40, dirty=False), CodeIdentity("0.2", "b" * 40, True)]
    for identity in identities:
        monkeypatch.setattr(manifest, "code_identity", lambda identity=identity: identity)
        run_all(one_seed, tmp_path)
    assert StudyDirectory(tmp_path).known_study().code == tuple(identities)


def test_the_code_is_known_by_version_commit_and_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = importlib.metadata.version("cwjax")
    monkeypatch.setattr(manifest, "__file__", str(tmp_path / "cwjax" / "study" / "manifest.py"))
    identify = manifest.code_identity.__wrapped__
    assert identify() == CodeIdentity(version)  # an installed package
    for variable in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(variable, raising=False)

    def git(*arguments: str) -> str:
        names = ["-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path), *names, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    git("init", "-q")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-q", "-m", "first")
    commit = git("rev-parse", "HEAD").strip()
    (tmp_path / "not tracked").write_text("1")
    assert identify() == CodeIdentity(version, commit, dirty=False)
    (tmp_path / "file").write_text("2")
    assert identify() == CodeIdentity(version, commit, dirty=True)
    monkeypatch.setenv("PATH", str(tmp_path))  # no git
    assert identify() == CodeIdentity(version)
