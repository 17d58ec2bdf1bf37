"""Device memory that holds fewer runs than planned, down to none; devices that refuse, on CPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import pytest
from comparisons import files, log

from cwjax.config import RuntimeConfig, StudyConfig
from cwjax.store.directory import StudyDirectory
from cwjax.store.schema import Failure
from cwjax.study.run import Finished, RunStored, run
from cwjax.training import lanes, local, width
from cwjax.training.chunk import ChunkTrainer
from cwjax.training.runs import Run, RunFinished, RunKey, TrainingEvent

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
    tiny_config: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = jax.devices()[:1]
    monkeypatch.setattr(local, "default_lanes", lambda width: [lanes.Lane(devices, width)])
    monkeypatch.setattr(width, "fitting_width", lambda *_: 2)
    list(run(tiny_config, tmp_path / "unbroken"))
    monkeypatch.setattr(width, "fitting_width", lambda *_: 4)
    limit_memory(monkeypatch, lambda trainer, _: trainer._lane.width > 2)
    with pytest.warns(UserWarning, match="device memory is exceeded: 2 runs side by side"):
        list(run(tiny_config, tmp_path / "exceeded"))
    (cell,) = StudyDirectory(tmp_path / "exceeded").known_study().cells.values()
    assert cell.width == 2
    assert [event["event"] for event in log(tmp_path / "exceeded")].count("out_of_memory") == 1
    assert files(tmp_path / "exceeded" / "runs") == files(tmp_path / "unbroken" / "runs")


@pytest.mark.fault(58)
def test_one_run_alone_does_not_fit(
    tiny_config: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cell,) = tiny_config.cells
    failing = RunKey(cell, "balanced", 1)
    with monkeypatch.context() as patch:
        limit_memory(patch, lambda _, chunk: chunk[0].key == failing)
        *_, last = run(tiny_config, tmp_path, ONE_CORE)
    assert isinstance(last, Finished)
    reason = "ConfigError: one run does not fit into device memory: give a smaller --batch-size"
    failures = StudyDirectory(tmp_path).known_study().failures
    assert failures == (Failure(failing, reason),)
    assert [each.verdict.key for each in last.comparison.comparisons] == ["refused"]
    finished = files(tmp_path / "runs" / cell)
    assert sorted(finished) == ["balanced-0.npz", "uniform-0.npz", "uniform-1.npz"]
    again = dataclasses.replace(ONE_CORE, retry_failed=True)
    events = list(run(tiny_config, tmp_path, again))
    assert sum(isinstance(event, RunStored) for event in events) == 4
    assert [e.run.key for e in events if isinstance(e, RunFinished)] == [failing]
    completed = files(tmp_path / "runs" / cell)
    assert {name: completed[name] for name in finished} == finished
    assert len(completed) == 4
