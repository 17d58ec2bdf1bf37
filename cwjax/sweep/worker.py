"""The process that trains a sweep's runs.

Another one watches it (`supervisor`), since a process that the system kills, or whose peer on
another host is lost, cannot say so itself.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cwjax.cell import Cell, enter
from cwjax.config import ExperimentConfig, RuntimeConfig, short_hash
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
from cwjax.group import record_widths
from cwjax.methods.custom_weights import remember
from cwjax.plan import POST_HOC_PARENT, Plan, Run, make_plan
from cwjax.results.manifest import recorded_threads
from cwjax.results.store import CELLS, Store, open_store
from cwjax.sweep import hosts, messages
from cwjax.sweep.directory import cell_directory
from cwjax.sweep.hosts import Hosts

STOP = "stop"
"""What the supervisor says in place of the job, or while it is done."""


@dataclass(frozen=True)
class Setup:
    """What a worker needs to start; pickled on its way there."""

    runtime: RuntimeConfig
    precision: str  # of every run
    directory: Path  # of the sweep
    hosts: Hosts | None = None  # several processes, one share of the runs each


@dataclass(frozen=True)
class Job:
    """What a worker is told to train, once the sweep's directory is entered."""

    cells: dict[str, ExperimentConfig]
    weight_files: dict[str, dict[str, float]]  # that the cells' arms name
    share: tuple[int, int] = (0, 1)  # index and count of the shares that the runs are dealt to
    skip: frozenset[messages.Key] = frozenset()  # dealt like the others, but not trained
    holds: bool = True  # locks the cells' directories


def work(setup: Setup, connection: Connection) -> None:
    """Trains a share of the runs that are missing; the target of the worker process.

    Everything worth knowing goes through `connection`; the job comes back, and perhaps `STOP`.
    """
    warnings.showwarning = _show_warning
    code = 1
    try:
        _work(setup, connection)
        code = 0
    except ConfigError as error:
        connection.send(messages.Refused(str(error)))
    except OSError as error:  # a full disk, a directory that became read-only
        reason = f"{error.filename or 'the results'}: {error.strerror or error}"
        connection.send(messages.Refused(reason))
    except EOFError:
        pass  # the supervisor has ended
    except Exception:
        traceback.print_exc()
    finally:
        if setup.hosts is not None:
            os._exit(code)  # an orderly end would wait for processes that may have been lost
    sys.exit(code)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _work(setup: Setup, connection: Connection) -> None:
    from cwjax.training import devices

    begun = sorted((setup.directory / CELLS).glob("*"))
    threads = next(filter(None, map(recorded_threads, begun)), None)
    devices.prepare(setup.runtime, threads)
    index, count = (0, 1) if setup.hosts is None else hosts.join(setup.hosts)
    device = devices.checked(setup.runtime, setup.precision)
    holds = index == 0 or not hosts.shares(setup.directory)
    connection.send(messages.Joined(index, count, holds))
    job = connection.recv()
    if job == STOP:  # no process trains before all have a job
        connection.send(messages.Stopped())
        return
    ending = _do(setup, job, device, connection)
    connection.send(ending)
    if setup.hosts is not None:
        _leave(setup.hosts, ending)


def _leave(others: Hosts, ending: messages.Stopped | messages.Done) -> None:
    """Leaves the other processes when they do, since JAX ends whoever stays without the first."""
    with suppress(ConfigError):  # the others may not have been stopped
        if isinstance(ending, messages.Stopped):
            hosts.exchange("stopped", "", threading.Event(), others.timeout)
        hosts.leave()


def _do(
    setup: Setup, job: Job, device: dict[str, Any], connection: Connection
) -> messages.Stopped | messages.Done:
    """Trains the job's share; with other processes, waits until they have trained theirs."""
    remember(job.weight_files)
    stop = _listen(connection)
    failures: list[messages.Failed] = []
    with ExitStack() as stack:
        entered = _enter(setup, job, device, stack, stop)
        if entered is None:
            return messages.Stopped()
        cells, has_all = entered
        with closing(train(_wanted(cells, job), setup.runtime)) as events:
            for event in events:
                for message in _messages(event, cells):
                    connection.send(message)
                    if isinstance(message, messages.Failed):
                        failures.append(message)
                if stop.is_set():
                    break
        if stop.is_set():  # the events are closed: everything in flight is saved
            return messages.Stopped()
        if setup.hosts is not None and not _others_ended(job, failures, connection, stop):
            return messages.Stopped()
    return messages.Done(has_all)


def _wanted(cells: list[Cell], job: Job) -> dict[Cell, list[Run]]:
    return {
        cell: [run for run in runs if _key(run) not in job.skip]
        for cell, runs in deal(cells, *job.share).items()
    }


def _others_ended(
    job: Job, failures: list[messages.Failed], connection: Connection, stop: threading.Event
) -> bool:
    """Waits for the others, the first hears of their failures; False where asked to stop."""
    connection.send(messages.Waiting())
    mine = json.dumps([(failed.keys, failed.reason) for failed in failures])
    told = hosts.exchange("trained", mine, stop)
    if told is None:
        return False
    if job.share[0] == 0:
        for text in told[1:]:
            for keys, reason in json.loads(text):
                key_tuples = tuple((cell, arm, seed) for cell, arm, seed in keys)
                connection.send(messages.Failed(key_tuples, reason))
    return True


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


def _enter(
    setup: Setup, job: Job, device: dict[str, Any], stack: ExitStack, stop: threading.Event
) -> tuple[list[Cell], bool] | None:
    """The cells, and whether what every process trains of them comes into this directory.

    Where processes share a directory, the first one enters the cells for all.

    Returns:
        None once `stop` is set.

    Raises:
        ConfigError: a directory cannot be used, or holds other runs than the first process's.
    """
    if setup.hosts is None:
        return _enter_cells(setup, job, device, stack), job.share[1] == 1
    if job.share[0] == 0:
        with hosts.shown(setup.directory):
            cells = _enter_cells(setup, job, device, stack)
            record_widths(cells, setup.runtime)
            told = hosts.exchange("entered", _digest(cells), stop, hosts.ENTER_SECONDS)
    else:
        place = "own" if job.holds else "shared"
        told = hosts.exchange("entered", place, stop, hosts.ENTER_SECONDS)
        cells = _enter_cells(setup, job, device, stack) if told else []
    if told is None:
        return None
    if _digest(cells) != told[0]:
        raise ConfigError(
            f"{setup.directory} holds other arms or seeds than the directory of the first process: "
            "give all of them, in one order, on every machine, or new directories"
        )
    return cells, "own" not in told


def _digest(cells: list[Cell]) -> str:
    """Equal where the same runs are dealt."""
    return short_hash([_key(run) for cell in cells for run in cell.plan.trained_runs])


def _enter_cells(setup: Setup, job: Job, device: dict[str, Any], stack: ExitStack) -> list[Cell]:
    plans = {name: make_plan(config, name) for name, config in job.cells.items()}
    cells = []
    for name, plan in plans.items():
        directory = cell_directory(setup.directory, name)
        store = stack.enter_context(open_store(directory)) if job.holds else Store(directory)
        allowed = setup.runtime.allow_environment_change
        cells.append(enter(plan, store, device, allow_environment_change=allowed))
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
            plans = {cell.plan.cell: cell.plan for cell in cells}
            keys = [key for run in runs for key in _answered(run, plans[run.cell])]
            yield messages.Failed(tuple(keys), text)


def _answered(run: Run, plan: Plan) -> list[messages.Key]:
    """The run, and those that are stored with it: of equal arms and of post-hoc arms."""
    arms = [
        arm for (arm, seed), first in plan.twins.items() if (first, seed) == (run.arm, run.seed)
    ]
    if POST_HOC_PARENT in arms:
        arms += [str(arm) for arm in plan.arms if arm.kind == "post_hoc"]
    return [(run.cell, arm, run.seed) for arm in arms]


def _key(run: Run) -> messages.Key:
    return (run.cell, run.arm, run.seed)
