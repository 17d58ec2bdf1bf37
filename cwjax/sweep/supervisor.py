"""Runs a sweep: starts the process that trains, watches it, and goes on without what fails.

This process trains nothing and never imports JAX, so it outlives whatever happens there.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Generator, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

from cwjax.config import RuntimeConfig
from cwjax.errors import ConfigError
from cwjax.methods.arms import weight_files
from cwjax.plan import make_plan
from cwjax.results.store import Store, open_store
from cwjax.sweep import messages
from cwjax.sweep.config import SweepConfig
from cwjax.sweep.directory import SWEEP, cell_directory, enter_sweep, known_sweep
from cwjax.sweep.hosts import Hosts
from cwjax.sweep.progress import Progress
from cwjax.sweep.worker import GO, STOP, Job, work


class WorkerLost(Exception):
    """The process that trains has ended without a word."""


@dataclass(frozen=True)
class Ended:
    """The runs of this call have ended; always the last event."""

    progress: Progress
    comparison: dict[str, Any] | None  # of the sweep; None where other processes derive it


SweepEvent: TypeAlias = messages.Message | Ended


def run_sweep(
    config: SweepConfig,
    directory: Path,
    runtime: RuntimeConfig,
    *,
    retry_failed: bool = False,
    share: tuple[int, int] = (0, 1),
    hosts: Hosts | None = None,
) -> Generator[SweepEvent, None, None]:
    """Trains what is missing of a sweep and derives its tables; yields what happens.

    A cell whose runs fail, or in which the training process is killed, is left as it is, and the
    others go on.

    Args:
        config: the sweep.
        directory: created, or continued where it stopped.
        runtime: how to use the machine.
        retry_failed: train the missing runs of failed cells too.
        share: (index, count): which of `count` equal shares of the runs to train.
        hosts: the sweep is shared with other processes; each takes a share.

    Raises:
        ConfigError, DataError: settings, data or a directory that cannot be used.
        WorkerLost: nothing can be trained here, or another process of `hosts` is lost.
    """
    for name, cell in config.cells().items():
        make_plan(cell, name)  # every mistake shows before anything is written
    if hosts is not None:
        yield from _run_with_others(known_sweep(config, directory), directory, runtime, hosts)
        return
    with open_store(directory, SWEEP) as store:
        config = enter_sweep(config, store)
        progress = Progress(config, directory, store, retry_failed=retry_failed)
        while progress.todo() and not progress.done:
            job = _job(config, directory, runtime)
            job = dataclasses.replace(job, share=share, skip=progress.skipped())
            with Worker(job) as worker:
                worker.go()
                yield from _followed(worker, progress)
        # Of a share, the runs of the others are missing; derived once all are here.
        yield Ended(progress, None if progress.todo() else _derived(store))


def _run_with_others(
    config: SweepConfig, directory: Path, runtime: RuntimeConfig, hosts: Hosts
) -> Generator[SweepEvent, None, None]:
    """One of several processes: the first holds the directory for all and derives the tables."""
    job = dataclasses.replace(_job(config, directory, runtime), hosts=hosts)
    with ExitStack() as stack:
        worker = stack.enter_context(Worker(job))
        joined = worker.receive()
        if isinstance(joined, messages.Refused):
            raise ConfigError(joined.reason)
        if not isinstance(joined, messages.Joined):
            raise WorkerLost(worker.ending())
        yield joined
        store = None
        if joined.index == 0:
            store = stack.enter_context(open_store(directory, SWEEP))
            enter_sweep(config, store)
        progress = Progress(config, directory, store, retry_failed=True)
        worker.go()
        yield from _followed(worker, progress)
        if progress.lost:
            raise WorkerLost(f"{worker.ending()}; another process of the sweep may be lost")
        yield Ended(progress, _derived(store) if store and not progress.todo() else None)


def _job(config: SweepConfig, directory: Path, runtime: RuntimeConfig) -> Job:
    cells = config.cells()
    directories = {name: cell_directory(directory, name) for name in cells}
    return Job(cells, directories, runtime, weight_files(config.arms))


def _derived(store: Store) -> dict[str, Any]:
    from cwjax.sweep.derive import derive_sweep  # statistics take seconds to import

    return derive_sweep(store)


def _followed(worker: Worker, progress: Progress) -> Iterator[messages.Message]:
    """The worker's messages, each taken into account, until it has ended."""
    while (message := worker.receive()) is not None:
        if isinstance(message, messages.Refused):
            raise ConfigError(message.reason)
        progress.update(message)
        yield message
    if not progress.done:
        progress.worker_lost(worker.ending())
        if not progress.lost:
            raise WorkerLost(worker.ending())


class Worker:
    """The process that trains; a context manager that leaves none behind.

    Leaving it early asks the process to save what is in flight, and waits for that.
    """

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(job, theirs), name="cwjax-worker")
        self._process.start()
        theirs.close()
        self._last: messages.Message | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        idle = self._last is None or isinstance(self._last, messages.Waiting)
        if idle:  # at a barrier: it does not hear, and has nothing to save
            self._process.kill()
        elif self._process.is_alive():
            self._say(STOP)
        while self.receive() is not None:
            pass
        self._process.join()
        self._connection.close()

    def go(self) -> None:
        """Lets the worker begin, once the directory is held."""
        self._say(GO)

    def receive(self) -> messages.Message | None:
        """The next message; None once the worker has ended."""
        try:
            self._last = self._connection.recv()
        except (EOFError, OSError):
            return None
        return self._last

    def ending(self) -> str:
        """How the ended process ended, in words."""
        self._process.join()
        code = self._process.exitcode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"the training process {how}"

    def _say(self, word: str) -> None:
        with suppress(OSError):  # it has ended: receive() will tell
            self._connection.send(word)
