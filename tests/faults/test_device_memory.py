"""Device memory that holds fewer runs than planned, down to none; devices that refuse, on CPU."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import pytest
from comparisons import files

from cwjax import experiment
from cwjax.cell import Cell, enter
from cwjax.config import ExperimentConfig, RuntimeConfig
from cwjax.errors import ConfigError
from cwjax.events import RunStored, TrainingEvent
from cwjax.group import record_widths
from cwjax.plan import Run, make_plan
from cwjax.results.store import Store, open_store
from cwjax.training import lanes, width
from cwjax.training.chunk import ChunkTrainer

ONE_CORE = RuntimeConfig(max_parallel_runs=1)

pytestmark = pytest.mark.usefixtures("no_report")

Exceeded = Callable[[ChunkTrainer, list[Run]], bool]


def limit_memory(monkeypatch: pytest.MonkeyPatch, is_exceeded: Exceeded) -> None:
    """Lets devices refuse the chunks for which `is_exceeded`, as they do when memory is full."""
    train = ChunkTrainer.train

    def limited(trainer: ChunkTrainer, chunk: list[Run], *rest: object) -> Iterator[TrainingEvent]:
        if is_exceeded(trainer, chunk):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        yield from train(trainer, chunk, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(ChunkTrainer, "train", limited)


@pytest.mark.fault(57)
@pytest.mark.slow
def test_fewer_runs_side_by_side_from_then_on(
    tiny_config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = jax.devices()[:1]
    monkeypatch.setattr(lanes, "default_lanes", lambda width: [lanes.Lane(devices, width)])
    monkeypatch.setattr(width, "fitting_width", lambda *_: 2)
    list(experiment.run(tiny_config, tmp_path / "unbroken"))
    monkeypatch.setattr(width, "fitting_width", lambda *_: 4)
    limit_memory(monkeypatch, lambda trainer, _: trainer._lane.width > 2)
    with pytest.warns(UserWarning, match="device memory is exceeded: 2 runs side by side"):
        list(experiment.run(tiny_config, tmp_path / "exceeded"))
    assert json.loads((tmp_path / "exceeded" / "config.json").read_text())["width"] == 2
    assert files(tmp_path / "exceeded" / "runs") == files(tmp_path / "unbroken" / "runs")


@pytest.mark.fault(57)
@pytest.mark.slow
def test_a_process_that_does_not_hold_the_directory_is_narrower_by_itself(
    tiny_config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = jax.devices()[:1]
    monkeypatch.setattr(lanes, "default_lanes", lambda width: [lanes.Lane(devices, width)])
    monkeypatch.setattr(width, "fitting_width", lambda *_: 4)
    plan = make_plan(tiny_config)
    with open_store(tmp_path) as store:
        held = enter(plan, store, {}, allow_environment_change=False)
        record_widths([held], RuntimeConfig())
        limit_memory(monkeypatch, lambda trainer, _: trainer._lane.width > 2)
        work = experiment.deal([Cell(plan, Store(tmp_path))])
        with pytest.warns(UserWarning, match="device memory is exceeded: 2 runs side by side"):
            list(experiment.train(work, RuntimeConfig()))
    assert json.loads((tmp_path / "config.json").read_text())["width"] == 4
    assert len(files(tmp_path / "runs")) == 4


@pytest.mark.fault(58)
def test_one_run_alone_does_not_fit(
    tiny_config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        limit_memory(patch, lambda _, chunk: (chunk[0].arm, chunk[0].seed) == ("balanced", 1))
        with pytest.raises(ConfigError, match=r"one run does not fit .*smaller --batch-size"):
            list(experiment.run(tiny_config, tmp_path, ONE_CORE))
    finished = files(tmp_path / "runs")
    assert sorted(finished) == ["balanced-0.npz", "uniform-0.npz", "uniform-1.npz"]
    events = list(experiment.run(tiny_config, tmp_path, ONE_CORE))
    assert sum(isinstance(event, RunStored) for event in events) == 4
    completed = files(tmp_path / "runs")
    assert {name: completed[name] for name in finished} == finished
    assert len(completed) == 4
