"""Runs a sweep: starts the process that trains, watches it, and goes on without what fails.

This process trains nothing and never imports JAX, so it outlives whatever happens there.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import signal
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, Self, TypeAlias

from cwjax.config import RuntimeConfig
from cwjax.errors import ConfigError
from cwjax.methods.arms import weight_files
from cwjax.plan import make_plan
from cwjax.results.store import Store, open_store
from cwjax.sweep import messages
from cwjax.sweep.config import SweepConfig
from cwjax.sweep.directory import SWEEP, enter_sweep, known_sweep, note_killed
from cwjax.sweep.hosts import Hosts
from cwjax.sweep.progress import Progress
from cwjax.sweep.worker import STOP, Job, Setup, work


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
        retry_failed: train again what failed before; with `hosts` also cells in which a process
            was killed.
        share: (index, count): which of `count` equal shares of the runs to train.
        hosts: the sweep is shared with other processes; each takes a share.

    Raises:
        ConfigError, DataError: settings, data or a directory that cannot be used.
        WorkerLost: nothing can be trained here, or another process of `hosts` is lost.
    """
    for name, cell in config.cells().items():
        make_plan(cell, name)  # every mistake shows before anything is written
    setup = Setup(runtime, config.train.precision, directory, hosts)
    if hosts is None:
        yield from _run_alone(config, setup, share, retry_failed)
    else:
        yield from _run_with_others(config, setup, retry_failed)


def _run_alone(
    config: SweepConfig, setup: Setup, share: tuple[int, int], retry_failed: bool
) -> Generator[SweepEvent, None, None]:
    """Workers one after another, as long as the last one was killed over a cell."""
    directory = setup.directory
    with open_store(directory, SWEEP) as store:
        config = known_sweep(config, directory)
        progress = Progress(config, directory, store, retry_failed=retry_failed, retry_killed=True)
        while progress.todo() and not progress.done:
            with Worker(setup) as worker:
                worker.join()
                enter_sweep(config, store)
                worker.go(_job(config, share, progress))
                yield from _followed(worker, progress)
            if not progress.done and not progress.worker_lost(worker.ending()):
                raise WorkerLost(worker.ending())
        has_all = share[1] == 1 or progress.is_complete()
        yield Ended(progress, _derived(store) if has_all else None)


def _run_with_others(
    config: SweepConfig, setup: Setup, retry_failed: bool
) -> Generator[SweepEvent, None, None]:
    """One of several processes: the first of those that share a directory holds it for all."""
    directory = setup.directory
    with ExitStack() as held, Worker(setup) as worker:
        joined = worker.join()
        yield joined
        config, store = known_sweep(config, directory), None
        if joined.holds:
            store = held.enter_context(open_store(directory, SWEEP))
            enter_sweep(config, store)
        # What kills its process would end the sweep of all each time.
        progress = Progress(
            config, directory, store, retry_failed=retry_failed, retry_killed=retry_failed
        )
        share = (joined.index, joined.count)
        worker.go(dataclasses.replace(_job(config, share, progress), holds=joined.holds))
        yield from _followed(worker, progress)
        if progress.done is None:
            if not worker.was_aborted() and progress.worker_lost(worker.ending()) and store is None:
                note_killed(directory, joined.index, progress.statuses)
            raise WorkerLost(f"{worker.ending()}; another process of the sweep may be lost")
        has_all = progress.done.has_all or progress.is_complete()
        yield Ended(progress, _derived(store) if store and has_all else None)


def _job(config: SweepConfig, share: tuple[int, int], progress: Progress) -> Job:
    return Job(config.cells(), weight_files(config.arms), share, progress.skipped())


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


class Worker:
    """The process that trains; a context manager that leaves none behind.

    Leaving it early asks the process to save what is in flight, and waits for that.
    """

    def __init__(self, setup: Setup) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(setup, theirs), name="cwjax-worker")
        with _signals_kept_from_children():  # this process hears them and asks
            self._process.start()
        theirs.close()
        self._last: messages.Message | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if self._last is None:  # it does not listen yet, and has nothing to save
            self._process.kill()
        elif self._process.is_alive():
            self._say(STOP)
        while self.receive() is not None:
            pass
        self._process.join()
        self._connection.close()
        if error is not None and not isinstance(error, Exception):  # a signal, or closed
            self._check_saved()

    def _check_saved(self) -> None:
        """Raises where the process has begun and ended without having saved everything."""
        if isinstance(self._last, messages.Refused):
            raise ConfigError(self._last.reason)
        if not isinstance(self._last, messages.Stopped | messages.Done | None):
            raise WorkerLost(f"{self.ending()} before it had saved everything")

    def join(self) -> messages.Joined:
        """Waits until the worker can take a job.

        Raises:
            ConfigError: it has not the devices, or not the other processes.
            WorkerLost: it has ended.
        """
        message = self.receive()
        if isinstance(message, messages.Refused):
            raise ConfigError(message.reason)
        if not isinstance(message, messages.Joined):
            raise WorkerLost(self.ending())
        return message

    def go(self, job: Job) -> None:
        """Lets the worker begin, once the directory is held."""
        self._say(job)

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

    def was_aborted(self) -> bool:
        """Whether the ended process ended itself, as JAX does when another one is lost."""
        self._process.join()
        return self._process.exitcode == -signal.SIGABRT

    def _say(self, word: Job | str) -> None:
        with suppress(OSError):  # it has ended: receive() will tell
            self._connection.send(word)


@contextmanager
def _signals_kept_from_children() -> Iterator[None]:
    """What starts meanwhile never gets the signals that end a script; here they wait."""
    resource_tracker.ensure_running()  # its start would let them through again
    before = signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    )
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
