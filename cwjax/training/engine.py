"""Runs on devices: chunks of runs go through lanes, and events come back.

Memory does not grow with the number of runs: a lane holds the state of one chunk, and a finished
run leaves as an event.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from cwjax.config import ConfigError, TrainConfig
from cwjax.data.dataset import Dataset
from cwjax.events import (
    EpochFinished,
    RunFinished,
    RunsFailed,
    RunsStarted,
    StepsFinished,
    TrainingEvent,
)
from cwjax.plan import Run
from cwjax.training.batches import epoch_blocks
from cwjax.training.lanes import Lane
from cwjax.training.train import Block, Examples, ModelFactory, Programs, RunState, make_programs

BLOCK_STEPS = 128
"""Most steps of one dispatch: some seconds of CPU work, so progress shows and a stop is heard."""

EVALUATION_BATCH = 64
"""Examples of one evaluation call; the last call of a split is padded."""


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
        self._width = lanes[0].width or 1
        self._runs_per_device = lanes[0].runs_per_device
        trainers = {lane: ChunkTrainer(lane, programs, dataset, config) for lane in lanes}
        self._trainers = [trainers[lane] for lane in lanes]

    @property
    def num_lanes(self) -> int:
        """How many chunks train at a time."""
        return len(self._trainers)

    def train(self, runs: Sequence[Run]) -> Iterator[TrainingEvent]:
        """Trains every run; yields events as they happen, those of one run in order.

        Runs start in the order given; those that cannot share a chunk (other numbers of examples or
        epochs) go into chunks of their own. Closing the iterator stops the lanes after their
        current block. A chunk that ends in an error is yielded as `RunsFailed`, and its lane takes
        the next one.

        Raises:
            OutOfDeviceMemory: a chunk of several runs a device does not fit; finished runs have
                been yielded.
        """
        chunks, per_device = iter(chunk_runs(runs, self._width)), self._runs_per_device
        taking = threading.Lock()
        events: queue.SimpleQueue[TrainingEvent | BaseException | None] = queue.SimpleQueue()
        stop = threading.Event()

        def work(trainer: ChunkTrainer) -> None:
            try:
                while not stop.is_set():
                    with taking:
                        chunk = next(chunks, None)
                    if chunk is None:
                        break
                    for event in _isolated(trainer.train(chunk, stop), chunk, per_device):
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
                stop.set()


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


class ChunkTrainer:
    """A lane with its compiled programs and its copy of the data set; several threads may train."""

    def __init__(
        self, lane: Lane, programs: Programs, dataset: Dataset, config: TrainConfig
    ) -> None:
        self._lane = lane
        self._programs = lane.compile(programs)
        self._dataset = dataset
        self._config = config
        self._examples = lane.put_shared(examples_of(dataset))

    def train(self, chunk: list[Run], stop: threading.Event) -> Iterator[TrainingEvent]:
        """All epochs of one chunk; ends early, without its last events, once `stop` is set."""
        # A last, smaller chunk is filled up, so that it runs the same program; a place in the chunk
        # does not change a run's bits.
        padded = chunk + [chunk[0]] * ((self._lane.width or 1) - len(chunk))
        lane, first = self._lane, chunk[0]
        rows = lane.put_runs(
            jax.tree.map(lambda *leaves: np.stack(leaves), *[r.row for r in padded])
        )
        keys = np.array([divmod(run.key_seed, 2**32) for run in padded], np.uint32)
        state = self._programs.initial_state(lane.put_runs(keys), rows)
        for epoch in range(first.num_epochs):
            if epoch == first.first_stage_epochs:
                state = self._programs.start_second_stage(state, rows)
            blocks = epoch_blocks(
                padded, self._dataset.train_labels, epoch, self._config.batch_size, BLOCK_STEPS
            )
            for block in blocks:
                if stop.is_set():
                    return
                state = self._train_block(state, rows, block)
                yield StepsFinished(int(block.batches.valid[: len(chunk)].sum()))
            losses = lane.get_runs(state.loss_sum) / len(first.train_indices)
            state = state._replace(loss_sum=lane.put_runs(np.zeros(len(padded), np.float32)))
            validation_indices = np.stack([run.validation_indices for run in padded])
            logits = self._evaluate(state, rows, validation_indices)
            for place, run in enumerate(chunk):
                yield EpochFinished(run, epoch, float(losses[place]), logits[place])
        yield from self._finish(chunk, state, rows, logits)

    def _train_block(self, state: RunState, rows: Any, block: Block) -> RunState:
        block = block._replace(batches=self._lane.put_runs(block.batches))
        state = self._programs.train_block(state, rows, self._examples, block)
        return jax.block_until_ready(state)

    def _evaluate(self, state: RunState, rows: Any, indices: np.ndarray) -> np.ndarray:
        """Logits `[num_runs, num_examples, num_classes]` of `indices [num_runs, num_examples]`."""
        num_examples = indices.shape[1]
        padded = np.pad(indices, ((0, 0), (0, -num_examples % EVALUATION_BATCH)))
        parts = [
            self._programs.evaluate(
                state,
                rows,
                self._examples,
                self._lane.put_runs(padded[:, start : start + EVALUATION_BATCH]),
            )
            for start in range(0, num_examples, EVALUATION_BATCH)
        ]
        logits = np.concatenate([self._lane.get_runs(part) for part in parts], axis=1)
        return logits[:, :num_examples]

    def _finish(
        self, chunk: list[Run], state: RunState, rows: Any, validation_logits: np.ndarray
    ) -> Iterator[RunFinished]:
        num_train = len(self._dataset.train_labels)
        test_indices = num_train + np.arange(len(self._dataset.test_labels), dtype=np.int32)
        width = self._lane.width or 1
        test_logits = self._evaluate(state, rows, np.tile(test_indices, (width, 1)))
        head = state.params["head"]
        kernels = self._lane.get_runs(head["kernel"][...])
        biases = self._lane.get_runs(head["bias"][...])
        for place, run in enumerate(chunk):
            yield RunFinished(
                run, test_logits[place], validation_logits[place], kernels[place], biases[place]
            )


def examples_of(dataset: Dataset) -> Examples:
    """The arrays that every run reads: the training file, then the test file."""
    return Examples(
        np.concatenate([dataset.train_images, dataset.test_images]),
        np.concatenate([dataset.train_labels, dataset.test_labels]),
    )
