"""What is trained, and what happens meanwhile: plain data between the study and its trainers.

Imports no JAX: a plan is made, checked and shown without it.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from cwjax.arms.row import ArmRow
from cwjax.data.dataset import Dataset
from cwjax.errors import ConfigError


@dataclass(frozen=True, order=True)
class RunKey:
    """What a run is known by, everywhere."""

    cell: str
    arm: str
    seed: int

    def __str__(self) -> str:
        return f"{self.arm} seed {self.seed}"


@dataclass(frozen=True, eq=False)
class Run:
    """One arm on one seed of one cell, ready to train.

    Attributes:
        key: what it is known by.
        key_seed: what training draws from: the seed, or another number for the A/A control.
        row: its arm as data.
        train_indices: int32 `[num_train]`, into the examples of its data set, ascending.
        validation_indices: int32 `[num_validation]`, the same.
        test_indices: int32 `[num_test]`, the same.
        first_stage_epochs: passes over the training split with all parameters.
        num_epochs: passes of all stages together; 0 for an estimator, which has none.
    """

    key: RunKey
    key_seed: int
    row: ArmRow
    train_indices: np.ndarray
    validation_indices: np.ndarray
    test_indices: np.ndarray
    first_stage_epochs: int
    num_epochs: int

    @property
    def stages(self) -> tuple[int, ...]:
        """Epochs of each stage, which sum to `num_epochs`.

        A stage begins where class weights set in, mixing ends or the features are frozen.
        """
        row = self.row
        starts = {*map(int, (row.deferred_from, row.mixing_until, row.second_stage_from))}
        inner = sorted(start for start in starts if 0 < start < self.num_epochs)
        return tuple(np.diff([0, *inner, self.num_epochs]).tolist())

    @property
    def num_examples(self) -> int:
        """Examples that training sees over all epochs; an estimator sees each once."""
        return max(1, self.num_epochs) * len(self.train_indices)


class ProcessKilled(ConfigError):
    """The process that trained a run ended before the run did, twice."""

    def __init__(self) -> None:
        super().__init__(
            "the process that trained it ended twice before the run did, as where memory runs out: "
            "give a smaller --max-parallel-runs"
        )


@dataclass(frozen=True)
class WidthChosen:
    """Runs of these cells train `width` side by side in one program from now on."""

    cells: tuple[str, ...]
    width: int | None  # None on CPU: every run has a program of its own


@dataclass(frozen=True, eq=False)
class RunsStarted:
    """Runs began to train side by side."""

    runs: tuple[Run, ...]


@dataclass(frozen=True)
class StepsFinished:
    """Training went on: `num_examples` more, counted over all runs side by side."""

    num_examples: int


@dataclass(frozen=True, eq=False)
class EpochFinished:
    """One run finished one epoch."""

    run: Run
    epoch: int  # counted from 0
    train_loss: float  # mean over the epoch's examples, as trained: weighted, with dropout
    validation_logits: np.ndarray  # float32 [num_validation, num_classes]


@dataclass(frozen=True, eq=False)
class EpochScored:
    """One run finished one epoch on another machine, where its validation logits stay."""

    run: Run
    epoch: int  # counted from 0
    scores: dict[str, float]  # a row of its history


@dataclass(frozen=True, eq=False)
class ChunkState:
    """Where runs that train side by side stand between two steps: enough to go on from there."""

    runs: tuple[Run, ...]
    epoch: int  # counted from 0
    step: int  # of this epoch, the next one
    arrays: dict[str, np.ndarray]  # each [width, ...]; places beyond the runs are padding
    width: int | None = None  # of the program that trains them; None on CPU, a run each

    def num_examples(self, batch_size: int) -> int:
        """Examples trained so far, counted over all runs side by side."""
        epoch_size = len(self.runs[0].train_indices)
        of_epoch = min(self.step * batch_size, epoch_size)
        return len(self.runs) * (self.epoch * epoch_size + of_epoch)


@dataclass(frozen=True, eq=False)
class RunFinished:
    """One run finished its last epoch."""

    run: Run
    test_logits: np.ndarray  # float32 [num_test, num_classes]
    validation_logits: np.ndarray  # float32 [num_validation, num_classes]
    head_kernel: np.ndarray  # float32 [num_features, num_classes]; of an estimator [0, num_classes]
    head_bias: np.ndarray  # float32 [num_classes]; of an estimator 0
    model: dict[str, np.ndarray] | None = None  # of `step.kept_arrays`; None unless asked for
    stage_steps: tuple[int, ...] = ()  # optimiser steps of each of `run.stages`; of an estimator ()


@dataclass(frozen=True, eq=False)
class RunsFailed:
    """Runs that trained side by side ended in an error; the other runs go on."""

    runs: tuple[Run, ...]
    error: Exception


@dataclass(frozen=True)
class ClusterStatus:
    """How a cluster is doing; comes about once a second."""

    num_workers: int  # processes that train
    num_runs: int  # that train now


@dataclass(frozen=True, eq=False)
class RunsLost:
    """A process or a machine of a cluster was lost; its runs go on elsewhere.

    They begin again where they were last kept, so some of the work that was told of is undone.
    """

    node: str
    runs: tuple[Run, ...]
    num_examples: int  # to be trained on again
    num_epochs: int  # to be trained again


TrainingEvent: TypeAlias = (
    WidthChosen
    | RunsStarted
    | StepsFinished
    | EpochFinished
    | EpochScored
    | ChunkState
    | RunFinished
    | RunsFailed
    | ClusterStatus
    | RunsLost
)


class Trainer(Protocol):
    """Who trains: this machine's devices, or others."""

    def train(
        self, runs: Sequence[Run], begun: Sequence[ChunkState], stop: threading.Event
    ) -> Generator[TrainingEvent, None, None]:
        """Trains every run; yields events as they happen, those of one run in order.

        Args:
            runs: to be trained, of any cells.
            begun: where some of them stand already; they end as if they had never stopped.
            stop: once set, training ends after the current steps, each chunk of runs with a last
                `ChunkState`.

        Raises:
            ConfigError: what is begun cannot be continued with these settings.
        """


def trained_together(
    runs: Sequence[Run], datasets: Mapping[str, Dataset], widths: Mapping[str, int | None]
) -> list[list[str]]:
    """The cells of runs in groups of one data set and one width.

    Args:
        runs: to be trained.
        datasets: by cell.
        widths: by cell, where one is chosen.
    """
    groups: dict[tuple[str, int | None], list[str]] = {}
    for cell in dict.fromkeys(run.key.cell for run in runs):
        together = datasets[cell].fingerprint, widths.get(cell)
        groups.setdefault(together, []).append(cell)
    return list(groups.values())


def chunk_runs(runs: Sequence[Run], width: int) -> list[list[Run]]:
    """Runs in chunks of at most `width` that can train in lockstep, in the order given."""
    groups: dict[tuple[str | int, ...], list[Run]] = {}
    for run in runs:
        parts = (run.train_indices, run.validation_indices, run.test_indices)
        epochs = (run.num_epochs, run.first_stage_epochs)
        groups.setdefault((run.key.cell, *map(len, parts), *epochs), []).append(run)
    return [
        group[start : start + width]
        for group in groups.values()
        for start in range(0, len(group), width)
    ]


def warn_of_partial_batches(model: str) -> None:
    """Says what a model with batch statistics and without a mask leaves out."""
    warnings.warn(
        f"{model} keeps batch statistics and takes no mask=: an epoch's last batch is left out "
        "where it is smaller than the others",
        stacklevel=2,
    )


def warn_of_narrower_chunks(width: int) -> None:
    """Says that device memory holds no more than `width` runs side by side."""
    warnings.warn(
        f"device memory is exceeded: {width} runs side by side from now on; those that were under "
        "way start again",
        stacklevel=2,
    )
