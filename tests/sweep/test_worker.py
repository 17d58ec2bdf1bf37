"""What the training process tells, where the processes and the training are faked."""

from __future__ import annotations

import multiprocessing
import os
import threading
import warnings
from pathlib import Path
from unittest.mock import Mock

import pytest
from cwjax.cell import Cell
from cwjax.events import RunsFailed
from cwjax.plan import make_plan
from cwjax.results.store import Store
from cwjax.sweep import hosts, messages, worker

from cwjax.config import DataConfig, ExperimentConfig, RuntimeConfig, TrainConfig
from cwjax.errors import ConfigError


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


@pytest.mark.parametrize(
    ("error", "told", "printed"),
    [
        (ValueError("a bug"), None, "ValueError: a bug"),
        (EOFError(), None, ""),
        (ConfigError("a mistake"), messages.Refused("a mistake"), ""),
        (OSError(28, "full", "runs"), messages.Refused("runs: full"), ""),
    ],
)
def test_whatever_ends_it_a_process_among_others_ends_at_once(
    error: Exception,
    told: messages.Refused | None,
    printed: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    ours, theirs = multiprocessing.Pipe()
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # it replaces it
    monkeypatch.setattr(worker, "_work", Mock(side_effect=error))
    monkeypatch.setattr(os, "_exit", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        worker.work(worker.Setup(RuntimeConfig(), "float32", tmp_path, hosts.Hosts()), theirs)
    os._exit.assert_called_once_with(1)
    assert not told or ours.recv() == told
    assert not ours.poll()
    shown = capsys.readouterr().err
    assert printed in shown
    assert bool(printed) == bool(shown)


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
