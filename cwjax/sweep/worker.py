"""The process that trains a sweep's runs.

Another one watches it (`supervisor`), since a process that the system kills, or whose peer on
another host is lost, cannot say so itself.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from cwjax.cell import Cell, enter
from cwjax.config import ExperimentConfig, RuntimeConfig
from cwjax.errors import ConfigError
from cwjax.events import (
    Event,
    Planned,
    RunsFailed,
    RunsStarted,
    RunStored,
    StepsFinished,
)
from cwjax.experiment import deal, train
from cwjax.methods.custom_weights import remember
from cwjax.plan import Run, make_plan
from cwjax.results.store import Store, open_store
from cwjax.sweep import messages
from cwjax.sweep.hosts import Hosts, barrier, join, leave

GO, STOP = "go", "stop"
"""What the supervisor says."""


@dataclass(frozen=True)
class Job:
    """What a worker is given; pickled on its way there."""

    cells: dict[str, ExperimentConfig]
    directories: dict[str, Path]
    runtime: RuntimeConfig
    weight_files: dict[str, dict[str, float]]  # that the cells' arms name
    share: tuple[int, int] = (0, 1)  # index and count of the shares that the runs are dealt to
    skip: frozenset[str] = frozenset()  # cells that are dealt like the others, but not trained
    hosts: Hosts | None = None  # several processes, one share each


def work(job: Job, connection: Connection) -> None:
    """Trains the job's share of the runs that are missing; the target of the worker process.

    Everything worth knowing goes through `connection`; one message back asks it to stop.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the supervisor hears them and asks
    try:
        _work(job, connection)
    except ConfigError as error:
        connection.send(messages.Refused(str(error)))
    except OSError as error:  # a full disk, a directory that became read-only
        reason = f"{error.filename or 'the results'}: {error.strerror or error}"
        connection.send(messages.Refused(reason))
    connection.close()
    if job.hosts is not None:
        os._exit(0)  # an orderly end would wait for processes that may have been lost


def _work(job: Job, connection: Connection) -> None:
    remember(job.weight_files)
    share = job.share if job.hosts is None else join(job.hosts)
    connection.send(messages.Joined(*share))
    if connection.recv() != GO:
        return
    stop = _listen(connection)
    with ExitStack() as stack:
        cells = _enter_cells(job, share, stack)
        dealt = deal(cells, *share)
        wanted = {cell: runs for cell, runs in dealt.items() if cell.plan.cell not in job.skip}
        with closing(train(wanted, job.runtime)) as events:
            for event in events:
                for message in _messages(event, cells):
                    connection.send(message)
                if stop.is_set():
                    break
        if stop.is_set():  # the events are closed: everything in flight is saved
            connection.send(messages.Stopped())
            return
        if job.hosts is not None:
            connection.send(messages.Waiting())
            barrier("trained")
            leave()
    connection.send(messages.Done())


def _listen(connection: Connection) -> threading.Event:
    """Set once the supervisor asks to stop; without a supervisor this process ends at once."""
    stop = threading.Event()

    def listen() -> None:
        try:
            connection.recv()
        except (EOFError, OSError):
            os._exit(1)
        stop.set()

    threading.Thread(target=listen, daemon=True).start()
    return stop


def _enter_cells(job: Job, share: tuple[int, int], stack: ExitStack) -> list[Cell]:
    """The cells, each locked by this process; with several hosts the first locks for all."""
    from cwjax.training import devices

    train_config = next(iter(job.cells.values())).train
    device = devices.configure(job.runtime, train_config.precision)
    plans = {name: make_plan(config, name) for name, config in job.cells.items()}
    leads = job.hosts is None or share[0] == 0
    if not leads:
        barrier("entered")
    cells = []
    for name, plan in plans.items():
        directory = job.directories[name]
        # Where hosts share no file system, each holds a directory of its own.
        mine = leads or not directory.is_dir()
        store = stack.enter_context(open_store(directory)) if mine else Store(directory)
        allowed = job.runtime.allow_environment_change
        cells.append(enter(plan, store, device, allow_environment_change=allowed))
    if leads and job.hosts is not None:
        barrier("entered")
    return cells


def _messages(event: Event, cells: list[Cell]) -> Iterator[messages.Message]:
    match event:
        case Planned():
            num_runs = sum(len(cell.keys) for cell in cells)
            yield messages.Laid(num_runs, event.num_finished, event.num_examples)
        case RunsStarted(runs=runs):
            yield messages.Started(tuple(map(_key, runs)))
        case StepsFinished(num_examples=num_examples):
            yield messages.Trained(num_examples)
        case RunStored(record=record, cell=cell):
            metric = cells[0].plan.config.analysis.metric
            score = record.scores[metric] if record.status == "ok" else None
            yield messages.Stored((cell, record.arm, record.seed), score)
        case RunsFailed(runs=runs, error=error):
            text = " ".join(str(error).split()) or type(error).__name__
            yield messages.Failed(tuple(map(_key, runs)), text)


def _key(run: Run) -> messages.Key:
    return (run.cell, run.arm, run.seed)
