"""One chunk of runs on one lane: from the first step, or from a kept state, to the last event."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from cwjax.config import TrainConfig
from cwjax.data.dataset import Dataset
from cwjax.training.batches import epoch_blocks, examples_per_epoch, steps_per_epoch
from cwjax.training.lanes import BLOCK_STEPS, Lane
from cwjax.training.runs import (
    ChunkState,
    EpochFinished,
    Run,
    RunFinished,
    StepsFinished,
    TrainingEvent,
)
from cwjax.training.step import Block, Examples, Programs, RunState, by_place, kept_arrays

CHECKPOINT_SECONDS = 60
"""Between two states of a chunk that are given out to be kept; most chunks are done before."""


def evaluation_batch(input_shape: Sequence[int]) -> int:
    """Examples of one evaluation call; the last call of a split is padded.

    64 images of 28 x 28; of features more, since a call of few small products is mostly overhead.
    """
    return max(64, min(1024, 64 * 28 * 28 // math.prod(input_shape)))


@dataclass(eq=False)
class _Chunk:
    """Runs that train in lockstep, and how far they are."""

    runs: list[Run]
    padded: list[Run]  # to the lane's width
    rows: Any  # on the lane
    state: RunState
    epoch: int
    step: int  # of the epoch, the next one
    keep_at: float = field(default_factory=lambda: time.monotonic() + CHECKPOINT_SECONDS)


class ChunkTrainer:
    """A lane with its compiled programs and its copy of the data set; several threads may train."""

    def __init__(
        self,
        lane: Lane,
        programs: Programs,
        dataset: Dataset,
        config: TrainConfig,
        *,
        keep_models: bool = False,
    ) -> None:
        self._lane = lane
        self._programs = lane.compile(programs)
        self._dataset = dataset
        self._config = config
        self._keep_models = keep_models
        self._examples = lane.put_shared(Examples(dataset.inputs, dataset.labels))

    def train(
        self, runs: list[Run], stopping: Callable[[], bool], begun: ChunkState | None = None
    ) -> Iterator[TrainingEvent]:
        """All epochs of one chunk, or what `begun` leaves of them.

        Ends early, with a `ChunkState` instead of the last events, once `stopping` says so.
        """
        chunk = self._begin(runs, begun)
        while chunk.epoch < runs[0].num_epochs:
            ended = yield from self._train_epoch(chunk, stopping)
            if not ended:
                return
            num_examples = examples_per_epoch(
                runs[0], self._config, self._programs.skips_partial_batches
            )
            losses = self._lane.get_runs(chunk.state.loss_sum) / num_examples
            no_loss = self._lane.put_runs(np.zeros(len(chunk.padded), np.float32))
            chunk.state = chunk.state._replace(loss_sum=no_loss)
            validation_indices = np.stack([run.validation_indices for run in chunk.padded])
            logits = self._evaluate(chunk, validation_indices)
            for place, run in enumerate(runs):
                yield EpochFinished(run, chunk.epoch, float(losses[place]), logits[place])
            chunk.epoch, chunk.step = chunk.epoch + 1, 0
        yield from self._finish(chunk, logits)

    def state_shapes(self, run: Run) -> dict[str, jax.ShapeDtypeStruct]:
        """The arrays of a `ChunkState` of runs like `run`, without computing them."""
        state = jax.eval_shape(self._programs.initial_state, *self._keys_and_rows([run]))
        if self._lane.width is None:  # get_runs adds a run axis
            state = jax.eval_shape(lambda s: jax.tree.map(lambda leaf: leaf[None], s), state)
        return by_place(state)

    def _begin(self, runs: list[Run], begun: ChunkState | None) -> _Chunk:
        keys, rows = self._keys_and_rows(runs)
        padded = self._padded(runs)
        if begun is None:
            state = self._programs.initial_state(keys, rows)
            return _Chunk(runs, padded, rows, state, epoch=0, step=0)
        shapes = jax.eval_shape(self._programs.initial_state, keys, rows)
        arrays = [begun.arrays[name] for name in by_place(shapes)]
        state = self._lane.put_runs(jax.tree.unflatten(jax.tree.structure(shapes), arrays))
        return _Chunk(runs, padded, rows, state, begun.epoch, begun.step)

    def _padded(self, runs: list[Run]) -> list[Run]:
        # A last, smaller chunk is filled up, so that it runs the same program; a place in the chunk
        # does not change a run's bits.
        return runs + [runs[0]] * ((self._lane.width or 1) - len(runs))

    def _keys_and_rows(self, runs: list[Run]) -> tuple[Any, Any]:
        padded = self._padded(runs)
        rows = jax.tree.map(lambda *leaves: np.stack(leaves), *[run.row for run in padded])
        keys = np.array([divmod(run.key_seed, 2**32) for run in padded], np.uint32)
        return self._lane.put_runs(keys), self._lane.put_runs(rows)

    def _train_epoch(
        self, chunk: _Chunk, stopping: Callable[[], bool]
    ) -> Generator[TrainingEvent, None, bool]:
        """The steps that are left of an epoch; returns whether it came to its end."""
        if chunk.epoch == chunk.runs[0].first_stage_epochs and chunk.step == 0:
            chunk.state = self._programs.start_second_stage(chunk.state, chunk.rows)
        blocks = epoch_blocks(
            chunk.padded,
            self._dataset.labels,
            chunk.epoch,
            self._config,
            BLOCK_STEPS,
            chunk.step,
            self._programs.skips_partial_batches,
        )
        for block in blocks:
            chunk.state = self._train_block(chunk, block)
            chunk.step += int(block.num_steps)
            yield StepsFinished(int(block.batches.valid[: len(chunk.runs)].sum()))
            ending = stopping()
            if ending or time.monotonic() >= chunk.keep_at:
                chunk.keep_at = time.monotonic() + CHECKPOINT_SECONDS
                # Copied: the next block gives the memory of this state back.
                arrays = by_place(jax.tree.map(np.array, self._lane.get_runs(chunk.state)))
                yield ChunkState(
                    tuple(chunk.runs), chunk.epoch, chunk.step, arrays, self._lane.width
                )
            if ending:
                return False
        return True

    def _train_block(self, chunk: _Chunk, block: Block) -> RunState:
        block = block._replace(batches=self._lane.pass_runs(block.batches))
        state = self._programs.train_block(chunk.state, chunk.rows, self._examples, block)
        finished: RunState = jax.block_until_ready(state)
        return finished

    def _evaluate(self, chunk: _Chunk, indices: np.ndarray) -> np.ndarray:
        """Logits `[num_runs, num_examples, num_classes]` of `indices [num_runs, num_examples]`."""
        num_examples = indices.shape[1]
        batch = evaluation_batch(self._dataset.inputs.shape[1:])
        padded = np.pad(indices, ((0, 0), (0, -num_examples % batch)))
        parts = [
            self._programs.evaluate(
                chunk.state,
                chunk.rows,
                self._examples,
                self._lane.pass_runs(padded[:, start : start + batch]),
            )
            for start in range(0, num_examples, batch)
        ]
        logits = np.concatenate([self._lane.get_runs(part) for part in parts], axis=1)
        return logits[:, :num_examples]

    def _finish(self, chunk: _Chunk, validation_logits: np.ndarray) -> Iterator[RunFinished]:
        test_logits = self._evaluate(chunk, np.stack([run.test_indices for run in chunk.padded]))
        kernels, biases = self._heads(chunk)
        kept = self._lane.get_runs(kept_arrays(chunk.state)) if self._keep_models else None
        num_steps = steps_per_epoch(
            chunk.runs[0], self._config, self._programs.skips_partial_batches
        )
        for place, run in enumerate(chunk.runs):
            yield RunFinished(
                run,
                test_logits[place],
                validation_logits[place],
                kernels[place],
                biases[place],
                model=kept and {name: array[place] for name, array in kept.items()},
                stage_steps=tuple(num_epochs * num_steps for num_epochs in run.stages),
            )

    def _heads(self, chunk: _Chunk) -> tuple[np.ndarray, np.ndarray]:
        """Kernels `[num_runs, width, num_classes]` and biases `[num_runs, num_classes]`.

        Without a head the width is 0, without a bias it is zero.
        """
        kernels = np.zeros((len(chunk.padded), 0, self._dataset.num_classes), np.float32)
        biases = np.zeros(kernels.shape[::2], np.float32)
        if self._programs.has_head:
            head = chunk.state.params["head"]
            kernels = self._lane.get_runs(head["kernel"][...])
            if "bias" in head:
                biases = self._lane.get_runs(head["bias"][...])
        return kernels, biases
