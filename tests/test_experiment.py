"""An experiment from settings to files: complete, repeatable, continued where it stopped."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from cwjax.events import EpochFinished, Finished, Planned, RunFinished, RunStored, StepsFinished
from cwjax.methods import custom_weights
from cwjax.plan import NULL_CONTROL, make_plan

from cwjax import experiment
from cwjax.config import AnalysisConfig, ExperimentConfig, RuntimeConfig
from cwjax.data.dataset import Dataset
from cwjax.errors import ConfigError

ONE_CORE = RuntimeConfig(max_parallel_runs=1)  # one device to compile for


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != "log.jsonl"
    }


def run_all(config: ExperimentConfig, directory: Path) -> list[object]:
    return list(experiment.run(config, directory, ONE_CORE))


@pytest.mark.fault(34)
@pytest.mark.usefixtures("no_report")
def test_every_file_is_there_and_they_agree(tiny_config: ExperimentConfig, tmp_path: Path) -> None:
    events = run_all(tiny_config, tmp_path)
    planned = next(event for event in events if isinstance(event, Planned))
    assert (planned.num_runs, planned.num_finished, planned.num_epochs) == (4, 0, 8)
    assert isinstance(events[-1], Finished)
    scores = pd.read_parquet(tmp_path / "scores.parquet")
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
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["class_counts"]["0"] == [54, 27, 13]
    assert config["dataset"]["fingerprint"] == make_plan(tiny_config).dataset.fingerprint
    assert config["settings"]["data"]["dataset"] == "npz:tiny.npz"  # no path


@pytest.mark.fault(23, 70)
def test_the_same_command_gives_the_same_bytes_and_continues(
    tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    run_all(tiny_config, tmp_path / "a")
    stopped = experiment.run(tiny_config, tmp_path / "b", ONE_CORE)
    next(event for event in stopped if isinstance(event, RunStored))
    stopped.close()
    partial = files(tmp_path / "b")
    assert 1 <= sum(name.startswith("runs/") for name in partial) < 4
    run_all(tiny_config, tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "b" / "runs").iterdir()}
    again = run_all(tiny_config, tmp_path / "b")
    assert not any(isinstance(event, RunFinished) for event in again)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "b" / "runs").iterdir()}


@pytest.mark.fault(24)
@pytest.mark.usefixtures("no_report")
def test_more_seeds_and_arms_leave_the_first_runs_alone(
    tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    run_all(tiny_config, tmp_path / "grown")
    first = files(tmp_path / "grown")
    more = dataclasses.replace(
        tiny_config, num_seeds=3, arms=("uniform", "balanced", "posthoc_logit_adjusted:tau=1")
    )
    run_all(more, tmp_path / "grown")
    run_all(more, tmp_path / "at_once")
    grown = files(tmp_path / "grown")
    assert {name: grown[name] for name in first if name.startswith("runs/")} == {
        name: content for name, content in first.items() if name.startswith("runs/")
    }
    assert grown == files(tmp_path / "at_once")


@pytest.mark.fault(20)
@pytest.mark.usefixtures("no_report")
def test_a_weight_file_is_not_needed_again(
    tiny_config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.json"
    file.write_text('{"a": 1, "b": 2, "c": 3}')
    custom = dataclasses.replace(tiny_config, arms=(f"custom:file={file}",), num_seeds=1)
    run_all(custom, tmp_path / "out")
    file.unlink()
    monkeypatch.setattr(custom_weights, "_FILES_READ", {})  # as in a new process
    run_all(tiny_config, tmp_path / "out")
    scores = pd.read_parquet(tmp_path / "out" / "scores.parquet")
    assert sorted(set(scores.arm)) == ["balanced", custom.arms[1], "uniform"]
    assert len(scores) == 6


@pytest.mark.fault(20)
@pytest.mark.usefixtures("no_report")
def test_another_experiment_is_refused_with_the_difference(
    tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    run_all(tiny_config, tmp_path)
    before = files(tmp_path)
    other = dataclasses.replace(
        tiny_config, train=dataclasses.replace(tiny_config.train, num_epochs=3)
    )
    with pytest.raises(ConfigError, match=r"num_epochs: 2, now 3"):
        run_all(other, tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    content["environment"]["jax"] = "0.0.1"
    (tmp_path / "config.json").write_text(json.dumps(content, indent=2) + "\n")
    with pytest.raises(ConfigError, match=r"environment.*jax: \"0\.0\.1\", now"):
        run_all(tiny_config, tmp_path)
    list(
        experiment.run(
            tiny_config, tmp_path, RuntimeConfig(allow_environment_change=True, max_parallel_runs=1)
        )
    )
    content = json.loads((tmp_path / "config.json").read_text())
    assert content["environment_changes"][0].startswith('jax: "0.0.1", now')
    assert {n: c for n, c in files(tmp_path).items() if n.startswith("runs/")} == {
        n: c for n, c in before.items() if n.startswith("runs/")
    }


@pytest.mark.usefixtures("no_report")
def test_equal_arms_are_trained_once_and_said_to_be_identical(
    tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    """Balanced weights on balanced data are all 1."""
    balanced_data = dataclasses.replace(
        tiny_config, data=dataclasses.replace(tiny_config.data, imbalance="none")
    )
    assert make_plan(balanced_data).equal_arms == {"balanced": "uniform"}
    events = run_all(balanced_data, tmp_path)
    assert sum(isinstance(event, RunFinished) for event in events) == 2
    comparison = events[-1].comparison["comparisons"][0]
    assert comparison["verdict"]["key"] == "identical"
    assert comparison["differences"] == (0.0, 0.0)


@pytest.mark.usefixtures("no_report")
def test_a_post_hoc_arm_waits_for_a_parent_that_another_arm_answers(
    tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    """On balanced data `balanced` is trained and `uniform`, its equal, only copied."""
    config = dataclasses.replace(
        tiny_config,
        data=dataclasses.replace(tiny_config.data, imbalance="none"),
        arms=("tau_norm", "uniform", "balanced"),
        baseline="balanced",
    )
    run_all(config, tmp_path)
    assert len(pd.read_parquet(tmp_path / "scores.parquet")) == 6


@pytest.mark.usefixtures("no_report")
def test_a_post_hoc_arm_that_is_added_later_finds_a_parent_that_another_arm_answered(
    tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    """`uniform` is stored already, as the equal of `balanced`, when `tau_norm` asks for it."""
    config = dataclasses.replace(
        tiny_config,
        data=dataclasses.replace(tiny_config.data, imbalance="none"),
        arms=("uniform", "balanced"),
        baseline="balanced",
    )
    run_all(config, tmp_path)
    run_all(dataclasses.replace(config, arms=("uniform", "balanced", "tau_norm")), tmp_path)
    assert len(pd.read_parquet(tmp_path / "scores.parquet")) == 6


def test_images_that_are_too_small_are_refused(
    tiny_config: ExperimentConfig, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    np.savez(
        tmp_path / "small.npz",
        images=tiny_dataset.train_images[:, :8, :8],
        labels=tiny_dataset.train_labels,
    )
    spec = f"npz:{tmp_path / 'small.npz'}"
    config = dataclasses.replace(
        tiny_config, data=dataclasses.replace(tiny_config.data, dataset=spec)
    )
    with pytest.raises(ConfigError, match="images are 8 x 8, the CNN needs at least 18 x 18"):
        run_all(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_null_control_is_the_baseline_under_other_keys(tiny_config: ExperimentConfig) -> None:
    plan = make_plan(dataclasses.replace(tiny_config, null_control=True))
    control = next(run for run in plan.runs if run.arm == NULL_CONTROL)
    baseline = next(run for run in plan.runs if (run.arm, run.seed) == ("uniform", control.seed))
    np.testing.assert_array_equal(control.train_indices, baseline.train_indices)
    assert control.key_seed != baseline.key_seed
    assert plan.twins[NULL_CONTROL, control.seed] == NULL_CONTROL


@pytest.mark.fault(52)
@pytest.mark.usefixtures("no_report")
def test_a_diverged_run_keeps_its_row_and_the_verdict_is_refused(
    tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    exploding = dataclasses.replace(
        tiny_config, train=dataclasses.replace(tiny_config.train, learning_rate=1e30)
    )
    events = run_all(exploding, tmp_path)
    scores = pd.read_parquet(tmp_path / "scores.parquet")
    assert set(scores.status) == {"diverged"}
    assert scores.accuracy.isna().all()
    comparison = events[-1].comparison
    assert comparison["num_ok_runs"] == 0
    assert comparison["comparisons"][0]["verdict"]["key"] == "refused"
    assert "uniform seed 0 (diverged)" in comparison["comparisons"][0]["verdict"]["words"]


@pytest.mark.fault(38, 46)
def test_settings_that_cannot_work_are_refused_before_anything_is_written(
    tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    cases = {
        "--batch-size is 4000": dataclasses.replace(
            tiny_config, train=dataclasses.replace(tiny_config.train, batch_size=4000)
        ),
        "--metric recall_many is undefined": dataclasses.replace(
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


@pytest.mark.fault(21)
@pytest.mark.usefixtures("no_report")
def test_the_width_once_chosen_is_kept_and_a_wide_chunk_continues(
    tiny_config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on an accelerator: runs side by side in one program, then a device with more memory."""
    from cwjax.training import chunk, lanes, width

    devices = jax.devices()[:2]
    widths = []

    def two_devices(width: int) -> list[lanes.Lane]:
        widths.append(width)
        return [lanes.Lane(devices, width)]

    monkeypatch.setattr(lanes, "default_lanes", two_devices)
    monkeypatch.setattr(width, "fitting_width", lambda *_: 4)
    list(experiment.run(tiny_config, tmp_path / "unbroken"))
    with monkeypatch.context() as short:
        short.setattr(chunk, "BLOCK_STEPS", 4)  # of 6 an epoch
        stopped = experiment.run(tiny_config, tmp_path / "stopped")
        next(event for event in stopped if isinstance(event, EpochFinished))
        stopped.close()
    (checkpoint,) = (tmp_path / "stopped").glob("checkpoints/*/*")
    assert checkpoint.parent.name.startswith("uniform-0+3-more-")
    monkeypatch.setattr(width, "fitting_width", lambda *_: 8)
    events = list(experiment.run(tiny_config, tmp_path / "stopped"))
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
        AnalysisConfig(**settings)
