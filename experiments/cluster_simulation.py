"""Where the one process that hands out runs and writes results would saturate.

python -m experiments.cluster_simulation --num-nodes 1000 --num-runs 100000

Nodes are simulated: nothing is trained and nothing is sent, but every message is made, pickled and
answered as in a cluster. Prints the processor time that the driver spends on a run and on a
message, and its memory over time. Writing the files is measured apart: --write-runs.
"""

from __future__ import annotations

import heapq
import itertools
import resource
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import tyro

from cwjax.arms.row import uniform_row
from cwjax.data.dataset import Dataset
from cwjax.store.directory import StudyDirectory
from cwjax.store.record import HISTORY_METRICS, trained_record
from cwjax.study.cluster import Cluster, ClusterTrainer
from cwjax.study.exchange import (
    Chunk,
    ChunkEnded,
    Greeting,
    NodeEvent,
    Prepared,
    Worker,
    dump_events,
    versions,
)
from cwjax.training.devices import DeviceFacts
from cwjax.training.runs import (
    ClusterStatus,
    EpochScored,
    Run,
    RunFinished,
    RunKey,
    RunsStarted,
    StepsFinished,
)
from experiments.peers import peak_mib

Result = TypeVar("Result")

NUM_CLASSES, NUM_TEST, NUM_VALIDATION, NUM_FEATURES = 10, 1000, 504, 128


@dataclass(frozen=True)
class Flags:
    """How large it is."""

    num_nodes: int = 1000
    """Nodes."""
    num_lanes: int = 1
    """Runs that a node trains at a time."""
    num_runs: int = 20_000
    """Runs."""
    run_seconds: float = 20.0
    """How long a run takes."""
    num_epochs: int = 12
    """Epochs of a run."""
    write_runs: int = 500
    """So many run files are written afterwards, and timed."""


class Clock(threading.Thread):
    """Answers calls when their time has come."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._waiting: list[tuple[float, int, SimulatedNode, Future[bytes]]] = []
        self._changed = threading.Condition()
        self._numbers = itertools.count()

    def answer(self, node: SimulatedNode, seconds: float, future: Future[bytes]) -> None:
        """Has the node answer in so many seconds."""
        with self._changed:
            entry = time.monotonic() + seconds, next(self._numbers), node, future
            heapq.heappush(self._waiting, entry)
            self._changed.notify()

    def run(self) -> None:
        """Answers for ever."""
        while True:
            with self._changed:
                while not self._waiting or (left := self._waiting[0][0] - time.monotonic()) > 0:
                    self._changed.wait(left if self._waiting else None)
                _, _, node, future = heapq.heappop(self._waiting)
            future.set_result(node.events())


@dataclass(eq=False)
class Training:
    """A chunk that a simulated node trains."""

    chunk: Chunk
    started: float = field(default_factory=time.monotonic)
    epochs: int = 0


class SimulatedNode:
    """A `Worker` whose runs take a time and have made-up results."""

    def __init__(self, number: int, flags: Flags, clock: Clock) -> None:
        self.node = f"node-{number}"
        self._flags = flags
        self._clock = clock
        self._training: list[Training] = []

    def greet(self) -> Future[Greeting]:
        """See `Worker.greet`."""
        device = DeviceFacts("cpu", "cpu", 1, {})
        return _done(Greeting(versions(), device, self._flags.num_lanes))

    def prepare(self, dataset: str, run: Run) -> Future[Prepared]:
        """See `Worker.prepare`."""
        return _done(Prepared(None, False))

    def exchange(self, chunks: Sequence[Chunk], keep_seconds: float, stop: bool) -> Future[bytes]:
        """See `Worker.exchange`: an answer comes after a second, or when a run ends."""
        self._training += [Training(chunk) for chunk in chunks]
        first = min(each.started for each in self._training)
        left = first + self._flags.run_seconds - time.monotonic()
        future = Future[bytes]()
        self._clock.answer(self, min(1.0, max(left, 0.0)), future)
        return future

    def events(self) -> bytes:
        """What has happened since the last call."""
        return dump_events([pair for each in list(self._training) for pair in self._steps(each)])

    def _steps(self, training: Training) -> list[tuple[int, NodeEvent]]:
        number, (run,) = training.chunk.number, training.chunk.runs
        share = min(1.0, (time.monotonic() - training.started) / self._flags.run_seconds)
        epochs = int(share * self._flags.num_epochs)
        events: list[NodeEvent] = [] if training.epochs else [RunsStarted((run,))]
        for epoch in range(training.epochs, epochs):
            scores = dict.fromkeys(("train_loss", *HISTORY_METRICS), 0.5)
            events += [StepsFinished(len(run.train_indices)), EpochScored(run, epoch, scores)]
        training.epochs = epochs
        if share == 1:
            self._training.remove(training)
            events += [_finished(run), ChunkEnded()]
        return [(number, event) for event in events]

    def is_loss(self, error: BaseException) -> bool:
        """See `Worker.is_loss`."""
        return False

    def machine_lives(self) -> bool:
        """See `Worker.machine_lives`."""
        return True

    def end(self) -> None:
        """See `Worker.end`."""


class SimulatedMachines:
    """`Machines` that are there at once."""

    def __init__(self, flags: Flags) -> None:
        clock = Clock()
        clock.start()
        self._new: list[Worker] = [
            SimulatedNode(number, flags, clock) for number in range(flags.num_nodes)
        ]

    def new_workers(self) -> list[Worker]:
        """See `Machines.new_workers`."""
        new, self._new = self._new, []
        return new

    def left(self, worker: Worker) -> None:
        """See `Machines.left`."""


def _done(result: Result) -> Future[Result]:
    future = Future[Result]()
    future.set_result(result)
    return future


def _finished(run: Run) -> RunFinished:
    generator = np.random.default_rng(run.key_seed)
    test, validation, kernel = (
        generator.normal(size=(number, NUM_CLASSES)).astype(np.float32)
        for number in (NUM_TEST, NUM_VALIDATION, NUM_FEATURES)
    )
    return RunFinished(run, test, validation, kernel, np.zeros(NUM_CLASSES, np.float32))


def _dataset() -> Dataset:
    generator = np.random.default_rng(0)
    labels = np.arange(4000, dtype=np.int32) % NUM_CLASSES
    return Dataset(
        name="noise",
        inputs=generator.normal(size=(len(labels), 2)).astype(np.float32),
        labels=labels,
        num_train=len(labels) - NUM_TEST,
        class_names=tuple(map(str, range(NUM_CLASSES))),
    )


def _runs(flags: Flags, dataset: Dataset) -> list[Run]:
    train, validation = np.split(np.arange(dataset.num_train, dtype=np.int32), [-NUM_VALIDATION])
    test = np.arange(dataset.num_train, len(dataset.labels), dtype=np.int32)
    row = uniform_row(NUM_CLASSES)
    return [
        Run(
            RunKey("noise", "uniform", seed), seed, row, train, validation, test,
            flags.num_epochs, flags.num_epochs,
        )
        for seed in range(flags.num_runs)
    ]  # fmt: skip


def main(flags: Flags) -> None:
    """Simulates, and prints what it cost."""
    dataset = _dataset()
    runs = _runs(flags, dataset)
    cluster = Cluster(SimulatedMachines(flags))
    cluster.start()
    trainer = ClusterTrainer(cluster, {"noise": dataset}, "linear", {}, lambda _: None)
    started, cpu, told = time.monotonic(), time.thread_time(), 0.0
    num_finished = num_events = 0
    finished: list[RunFinished] = []
    for event in trainer.train(runs, (), threading.Event()):
        num_events += 1
        if isinstance(event, RunFinished):
            num_finished += 1
            finished = [*finished[-flags.write_runs :], event]
        if isinstance(event, ClusterStatus) and time.monotonic() - told > 10:
            told = time.monotonic()
            _tell(num_finished, num_events, told - started, time.thread_time() - cpu)
    _tell(num_finished, num_events, time.monotonic() - started, time.thread_time() - cpu)
    _time_writing(finished[: flags.write_runs], dataset, flags)


def _tell(num_runs: int, num_events: int, seconds: float, cpu: float) -> None:
    memory = peak_mib(resource.getrusage(resource.RUSAGE_SELF))
    print(
        f"{seconds:5.0f} s: {num_runs} runs, {num_events / seconds:,.0f} events/s, driver busy "
        f"{cpu / seconds:.0%}, {1e3 * cpu / max(num_runs, 1):.2f} ms a run, "
        f"{1e6 * cpu / num_events:.0f} us an event, at most {memory:,.0f} MiB",
        flush=True,
    )


def _time_writing(finished: Sequence[RunFinished], dataset: Dataset, flags: Flags) -> None:
    counts = np.bincount(dataset.train_labels)
    row = dict.fromkeys(("train_loss", *HISTORY_METRICS), 0.5)
    with tempfile.TemporaryDirectory() as folder:
        directory = StudyDirectory(Path(folder))
        started, cpu = time.monotonic(), time.thread_time()
        for event in finished:
            record = trained_record(event, [row] * flags.num_epochs, dataset.labels, counts)
            directory.write_run(record)
        seconds, cpu = time.monotonic() - started, time.thread_time() - cpu
    number = len(finished)
    print(
        f"scored and written: {1e3 * cpu / number:.2f} ms of processor, "
        f"{1e3 * seconds / number:.2f} ms in all, a run"
    )


if __name__ == "__main__":
    main(tyro.cli(Flags))
