"""Optimisers and learning-rate schedules, by the names that `--optimizer` and `--schedule` take.

To add one, write a function and add its line to `OPTIMIZERS` or `SCHEDULES`; its keyword-only
parameters are the settings.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from cwjax.arms.settings import BelowOne, OnOff, Positive, Range, Several, choose
from cwjax.config import TrainConfig

if TYPE_CHECKING:  # settings are checked without JAX, which optax imports
    import optax

# Optimisers return an optax transformation without a learning rate: what comes out of it is
# multiplied by `-Batches.learning_rate`, which is data, so that another one does not compile anew.
# So is the weight decay, an argument of the transformation's update.


def sgd(*, momentum: BelowOne = 0.9, nesterov: OnOff = 0) -> optax.GradientTransformation:
    """Stochastic gradient descent."""
    import optax

    return optax.chain(_decayed_weights(), optax.trace(momentum, nesterov=bool(nesterov)))


def rmsprop() -> optax.GradientTransformation:
    """Keras 3's RMSprop: decay 0.9, epsilon 1e-7 inside the square root, no momentum."""
    import optax

    return optax.chain(
        _decayed_weights(), optax.scale_by_rms(decay=0.9, eps=1e-7, eps_in_sqrt=True)
    )


def adam() -> optax.GradientTransformation:
    """PyTorch's Adam: betas 0.9 and 0.999, epsilon 1e-8; weight decay in the gradient."""
    import optax

    return optax.chain(_decayed_weights(), optax.scale_by_adam())


def adamw() -> optax.GradientTransformation:
    """PyTorch's AdamW: as adam, but the weight decay is beside the gradient."""
    import optax

    return optax.chain(optax.scale_by_adam(), _decayed_weights())


def _decayed_weights() -> optax.GradientTransformationExtraArgs:
    """Adds `weight_decay` times the parameters, an argument of `update`.

    `optax.add_decayed_weights` has it as a constant or a schedule.
    """
    import jax
    import optax

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        *,
        weight_decay: Any = 0.0,
        **_: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        return jax.tree.map(lambda u, p: u + weight_decay * p, updates, params), state

    return optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), update)


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "rmsprop": rmsprop,
    "sgd": sgd,
    "adam": adam,
    "adamw": adamw,
}

# Schedules return the factor of the learning rate for parts of a stage that are done, in [0, 1).


def constant(done: np.ndarray) -> np.ndarray:
    """The learning rate stays."""
    return np.ones_like(done)


def cosine(done: np.ndarray) -> np.ndarray:
    """Half a cosine, from the learning rate to 0."""
    return (1 + np.cos(np.pi * done)) / 2


def step(
    done: np.ndarray,
    *,
    at: Annotated[tuple[float, ...], Several(Range(0, 1, "()"))] = (0.8, 0.9),
    factor: Positive = 0.1,
) -> np.ndarray:
    """Multiplied by `factor` at these fractions of the epochs."""
    factors: np.ndarray = factor ** np.searchsorted(np.sort(at), done, side="right")
    return factors


SCHEDULES: dict[str, Callable[..., np.ndarray]] = {
    "constant": constant,
    "cosine": cosine,
    "step": step,
}


def find_optimizer(text: str) -> Callable[..., optax.GradientTransformation]:
    """What makes the optimiser that `--optimizer` names, or ConfigError."""
    return choose("--optimizer", text, OPTIMIZERS)


@functools.cache
def find_schedule(text: str) -> Callable[..., np.ndarray]:
    """The schedule that `--schedule` names, or ConfigError."""
    return choose("--schedule", text, SCHEDULES)


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

    The warm-up rises in a line over the first `config.warmup` epochs, the schedule's clock running.

    Args:
        config: base, schedule and warm-up.
        factor: the arm's own.
        epoch: of the stage, counted from 0.
        num_epochs: of the stage.
        steps_per_epoch: number of learning rates that come back.
        warms_up: whether this stage does; a second one does not.

    Returns:
        float32 `[steps_per_epoch]`.
    """
    steps = epoch * steps_per_epoch + np.arange(steps_per_epoch)
    rates = (
        config.learning_rate
        * factor
        * find_schedule(config.schedule)(steps / (num_epochs * steps_per_epoch))
    )
    if warms_up and config.warmup > 0:
        rates = rates * np.minimum(1, (steps + 1) / (config.warmup * steps_per_epoch))
    return rates.astype(np.float32)
