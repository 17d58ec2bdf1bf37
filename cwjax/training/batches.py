"""The batches of a run, as indices: which example sits in which slot of which step.

Made on the host from (seed, epoch) alone, so that an epoch's order is the same after a resume and
in every arm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from cwjax.arms.sampling import epoch_order, mixing
from cwjax.config import TrainConfig
from cwjax.training.optim import find_schedule
from cwjax.training.runs import Run
from cwjax.training.step import Batches, Block


def epoch_blocks(
    runs: Sequence[Run],
    labels: np.ndarray,
    epoch: int,
    config: TrainConfig,
    max_steps: int,
    first_step: int = 0,
    skip_partial: bool = False,
) -> Iterator[Block]:
    """The steps of one epoch of runs trained side by side, at most `max_steps` per block.

    Args:
        runs: all with the same number of training examples.
        labels: int32 `[num_examples]`, of the whole data set.
        epoch: counted from 0.
        config: batch size and learning rates.
        max_steps: first dimension of every block; a shorter block is padded.
        first_step: the steps before it have been done already.
        skip_partial: leave out an epoch's last batch where it would be padded.

    Yields:
        Blocks whose arrays have a leading run axis `[len(runs), max_steps, ...]`.
    """
    epochs = [_epoch_steps(run, labels[run.train_indices], epoch, config) for run in runs]
    num_steps = steps_per_epoch(runs[0], config, skip_partial)
    for start in range(first_step, num_steps, max_steps):
        stop = min(start + max_steps, num_steps)
        padding = max_steps - (stop - start)
        batches = [
            np.stack([_padded(array[start:stop], padding) for array in arrays])
            for arrays in zip(*epochs, strict=True)
        ]
        yield Block(Batches(*batches), np.int32(stop - start), np.int32(epoch))


def examples_per_epoch(run: Run, config: TrainConfig, skip_partial: bool) -> int:
    """How many examples of a run are trained on in an epoch; arguments as of `epoch_blocks`."""
    size = len(run.train_indices)
    return size - size % config.batch_size if skip_partial else size


def steps_per_epoch(run: Run, config: TrainConfig, skip_partial: bool) -> int:
    """Optimiser steps of an epoch of a run; arguments as of `epoch_blocks`."""
    return -(-examples_per_epoch(run, config, skip_partial) // config.batch_size)


def _epoch_steps(run: Run, labels: np.ndarray, epoch: int, config: TrainConfig) -> Batches:
    """A whole epoch, not yet cut into blocks; `labels` of the run's training examples."""
    batch_size = config.batch_size
    order = epoch_order(
        labels, run.row, seed=run.key_seed, epoch=epoch, num_epochs=run.first_stage_epochs
    )
    num_steps = -(-len(order) // batch_size)
    padding = num_steps * batch_size - len(order)
    indices = _padded(run.train_indices[order], padding).reshape(num_steps, batch_size)
    valid = _padded(np.ones(len(order), bool), padding).reshape(num_steps, batch_size)
    mix, partners = mixing(
        run.row,
        seed=run.key_seed,
        epoch=epoch,
        num_examples=len(order),
        batch_size=batch_size,
    )
    is_second = epoch >= run.first_stage_epochs
    factor = float(run.row.learning_rate_factor)
    learning_rate = learning_rates(
        config,
        factor * float(run.row.second_stage_rate) if is_second else factor,
        epoch=epoch - run.first_stage_epochs if is_second else epoch,
        num_epochs=run.num_epochs - run.first_stage_epochs if is_second else run.first_stage_epochs,
        steps_per_epoch=num_steps,
        warms_up=not is_second,
    )
    return Batches(indices, valid, partners, mix, learning_rate)


def learning_rates(
    config: TrainConfig,
    factor: float,
    *,
    epoch: int,
    num_epochs: int,
    steps_per_epoch: int,
    warms_up: bool,
) -> np.ndarray:
    """The learning rate of every step of an epoch: base · factor · schedule · warm-up.

    The warm-up is a straight line up over the first `config.warmup` epochs; the schedule's epochs
    count from the run's start all the same.

    Args:
        config: base learning rate, schedule and warm-up.
        factor: of the arm.
        epoch: counted from 0 at the start of the stage.
        num_epochs: length of the stage.
        steps_per_epoch: of this stage.
        warms_up: whether the stage has a warm-up; a second stage has none.

    Returns:
        float32 `[steps_per_epoch]`.
    """
    schedule, num_steps = find_schedule(config.schedule), num_epochs * steps_per_epoch
    steps = epoch * steps_per_epoch + np.arange(steps_per_epoch)
    scheduled = np.array([schedule(step / num_steps) for step in steps.tolist()])
    rates: np.ndarray = config.learning_rate * factor * scheduled
    if warms_up and config.warmup > 0:
        rates = rates * np.minimum(1, (steps + 1) / (config.warmup * steps_per_epoch))
    return rates.astype(np.float32)


def _padded(array: np.ndarray, padding: int) -> np.ndarray:
    return np.concatenate([array, np.zeros((padding, *array.shape[1:]), array.dtype)])
