"""What happens during an experiment, for whoever watches: plain data, no JAX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from cwjax.plan import Plan, Run
from cwjax.results.record import RunRecord


@dataclass(frozen=True, eq=False)
class Planned:
    """The work of this call is known; always the first event."""

    plans: tuple[Plan, ...]  # one a cell; what the directories hold already included
    num_runs: int  # to be trained now
    num_finished: int  # found in the directory, arms equal to others and post-hoc arms included
    num_epochs: int  # over the runs to be trained
    num_examples: int  # over their epochs


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
class ChunkState:
    """Where runs that train side by side stand between two steps: enough to go on from there."""

    runs: tuple[Run, ...]
    epoch: int  # counted from 0
    step: int  # of this epoch, the next one
    arrays: dict[str, np.ndarray]  # each [width, ...]; places beyond the runs are padding
    width: int | None = None  # of the program that trains them; None on CPU, a run each

    def num_examples(self, batch_size: int) -> int:
        """Trained so far, counted over all runs side by side, in steps of `batch_size`."""
        epoch_size = len(self.runs[0].train_indices)
        of_epoch = min(self.step * batch_size, epoch_size)
        return len(self.runs) * (self.epoch * epoch_size + of_epoch)


@dataclass(frozen=True, eq=False)
class RunFinished:
    """One run finished its last epoch."""

    run: Run
    test_logits: np.ndarray  # float32 [num_test, num_classes]
    validation_logits: np.ndarray  # float32 [num_validation, num_classes]
    head_kernel: np.ndarray  # float32 [num_features, num_classes]
    head_bias: np.ndarray  # float32 [num_classes]


@dataclass(frozen=True, eq=False)
class RunsFailed:
    """Runs that trained side by side ended in an error; the other runs go on."""

    runs: tuple[Run, ...]
    error: Exception


@dataclass(frozen=True, eq=False)
class RunStored:
    """A run's file is written, or was there already."""

    record: RunRecord
    cell: str = ""


@dataclass(frozen=True, eq=False)
class Finished:
    """Every run is stored and the tables are derived."""

    comparison: dict[str, Any]  # the content of comparison.json


TrainingEvent: TypeAlias = (
    RunsStarted | StepsFinished | EpochFinished | ChunkState | RunFinished | RunsFailed
)
Event: TypeAlias = Planned | TrainingEvent | RunStored | Finished
