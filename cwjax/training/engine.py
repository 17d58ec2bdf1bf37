"""Runs on devices: chunks of runs go through lanes, and events come back.

Memory does not grow with the number of runs: a lane holds the state of one chunk, and a finished
run leaves as an event.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import jax

from cwjax.config import TrainConfig
from cwjax.data.dataset import Dataset
from cwjax.errors import ConfigError
from cwjax.events import ChunkState, RunsFailed, RunsStarted, TrainingEvent
from cwjax.plan import Run
from cwjax.training.chunk import ChunkTrainer
from cwjax.training.lanes import Lane
from cwjax.training.train import ModelFactory, make_programs


class OutOfDeviceMemory(Exception):
    """A chunk of runs did not fit; its unfinished runs can start again in a narrower one."""


class Engine:
    """Lanes with everything compiled and the data set on their devices; trains any number of runs.

    Args:
        dataset: what `Run.train_indices` and `validation_indices` point into.
        make_model: builds the Flax module.
        config: how every run is trained.
        lanes: where; all of one width. A lane that stands several times trains as many chunks at
            once, in the same compiled programs.
    """

    def __init__(
        self,
        dataset: Dataset,
        make_model: ModelFactory,
        config: TrainConfig,
        lanes: Sequence[Lane],
    ) -> None:
        programs = make_programs(make_model, config, dataset.num_classes)
        self.width = lanes[0].width
        self._runs_per_device = lanes[0].runs_per_device
        trainers = {lane: ChunkTrainer(lane, programs, dataset, config) for lane in lanes}
        self._trainers = [trainers[lane] for lane in lanes]

    @property
    def num_lanes(self) -> int:
        """How many chunks train at a time."""
        return len(self._trainers)

    def state_shapes(self, run: Run) -> dict[str, jax.ShapeDtypeStruct]:
        """The arrays of every `ChunkState`, for a run of any kind; nothing is compiled."""
        return self._trainers[0].state_shapes(run)

    def train(
        self,
        runs: Sequence[Run],
        begun: Sequence[ChunkState] = (),
        stop: threading.Event | None = None,
    ) -> Generator[TrainingEvent, None, None]:
        """Trains every run; yields events as they happen, those of one run in order.

        Runs start in the order given; those that cannot share a chunk (other numbers of examples or
        epochs) go into chunks of their own. Closing the iterator stops the lanes after their
        current block. A chunk that ends in an error is yielded as `RunsFailed`, and its lane takes
        the next one. A chunk that trains for long is yielded as `ChunkState` every minute.

        Args:
            runs: to be trained.
            begun: where some of them stand already, as an engine of the same width yielded it;
                these come first and end as if they had never stopped.
            stop: once set, the lanes end after their current block, each with a last `ChunkState`.

        Raises:
            OutOfDeviceMemory: a chunk of several runs a device does not fit; finished runs have
                been yielded.
        """
        chunks = iter(self._chunks(runs, begun))
        taking = threading.Lock()
        events: queue.SimpleQueue[TrainingEvent | BaseException | None] = queue.SimpleQueue()
        closed = threading.Event()  # not `stop`: the caller may go on with another engine

        def stopping() -> bool:
            return closed.is_set() or (stop is not None and stop.is_set())

        def work(trainer: ChunkTrainer) -> None:
            try:
                while not stopping():
                    with taking:
                        chunk, state = next(chunks, (None, None))
                    if chunk is None:
                        break
                    trained = trainer.train(chunk, stopping, state)
                    for event in _isolated(trained, chunk, self._runs_per_device):
                        events.put(event)
                events.put(None)
            except BaseException as error:
                events.put(error)

        with ThreadPoolExecutor(len(self._trainers), thread_name_prefix="lane") as pool:
            for trainer in self._trainers:
                pool.submit(work, trainer)
            try:
                working = len(self._trainers)
                while working:
                    event = events.get()
                    if event is None:
                        working -= 1
                    elif isinstance(event, BaseException):
                        raise event
                    else:
                        yield event
            finally:
                closed.set()

    def _chunks(
        self, runs: Sequence[Run], begun: Sequence[ChunkState]
    ) -> list[tuple[list[Run], ChunkState | None]]:
        """Those that have begun, with their states, then the rest."""
        in_begun = {run for state in begun for run in state.runs}
        fresh = chunk_runs([run for run in runs if run not in in_begun], self.width or 1)
        return [(list(state.runs), state) for state in begun] + [(chunk, None) for chunk in fresh]


def _isolated(
    events: Iterator[TrainingEvent], chunk: list[Run], runs_per_device: int
) -> Iterator[TrainingEvent]:
    """The events of a chunk; its error becomes the last of them, unless fewer runs could fit."""
    yield RunsStarted(tuple(chunk))
    try:
        yield from events
    except Exception as error:
        failure = error
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error):
            if runs_per_device > 1:
                raise OutOfDeviceMemory(str(error)) from error
            failure = ConfigError(
                "one run does not fit into device memory: give a smaller --batch-size"
            )
        yield RunsFailed(tuple(chunk), failure)


def chunk_runs(runs: Sequence[Run], width: int) -> list[list[Run]]:
    """Runs in chunks of at most `width` that can train in lockstep, in the order given."""
    groups: dict[tuple[str, int, int, int], list[Run]] = {}
    for run in runs:
        lockstep = (run.cell, len(run.train_indices), run.num_epochs, run.first_stage_epochs)
        groups.setdefault(lockstep, []).append(run)
    return [
        group[start : start + width]
        for group in groups.values()
        for start in range(0, len(group), width)
    ]
