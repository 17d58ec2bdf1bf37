"""What the training process tells, where the processes and the training are faked."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path

import pytest

from cwjax.cell import Cell
from cwjax.config import DataConfig, ExperimentConfig, TrainConfig
from cwjax.events import RunsFailed
from cwjax.plan import make_plan
from cwjax.results.store import Store
from cwjax.sweep import hosts, messages, worker


def test_the_first_process_tells_of_runs_that_failed_in_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = messages.Failed((("cell", "uniform", 0),), "mine")
    others = messages.Failed((("cell", "balanced", 0), ("cell", "balanced", 1)), "no memory")
    said: list[str] = []

    def exchange(_: str, value: str, stop: threading.Event) -> list[str] | None:
        said.append(value)
        return None if stop.is_set() else said

    monkeypatch.setattr(hosts, "exchange", exchange)
    stop = threading.Event()
    for index, failure in enumerate((mine, others)):
        ours, theirs = multiprocessing.Pipe()
        job = worker.Job({}, {}, share=(index, 2))
        assert worker._others_ended(job, [failure], theirs, stop)
        assert ours.recv() == messages.Waiting()
        assert not ours.poll()
    assert worker._others_ended(worker.Job({}, {}), [mine], theirs, stop)
    assert [ours.recv() for _ in range(2)] == [messages.Waiting(), others]
    stop.set()
    assert not worker._others_ended(worker.Job({}, {}), [mine], theirs, stop)


def test_what_a_failed_run_would_have_answered_has_failed_too(
    tiny_npz: str, tmp_path: Path
) -> None:
    config = ExperimentConfig(
        data=DataConfig(dataset=tiny_npz),
        train=TrainConfig(num_epochs=1),
        num_seeds=2,
        arms=("balanced", "inverse_power:gamma=0", "tau_norm"),
    )
    plan = make_plan(config, "cell")
    event = RunsFailed(plan.trained_runs[:1], ValueError("no memory"))
    (failed,) = worker._messages(event, [Cell(plan, Store(tmp_path))])
    assert isinstance(failed, messages.Failed)
    assert failed.keys == tuple(
        ("cell", arm, 0) for arm in ("uniform", "inverse_power:gamma=0", "tau_norm")
    )
