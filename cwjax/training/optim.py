"""Optimisers and learning-rate schedules, by the names that `--optimizer` and `--schedule` take.

To add one, write a function and add its line to `OPTIMIZERS` or `SCHEDULES`; its keyword-only
parameters are the settings.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from cwjax.arms.settings import BelowOne, OnOff, Positive, Range, Several, choose

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

    return optax.chain(_finished_gradients(), _decayed_weights(), optax.scale_by_adam())


def adamw() -> optax.GradientTransformation:
    """PyTorch's AdamW: as adam, but the weight decay is beside the gradient."""
    import optax

    return optax.chain(_finished_gradients(), optax.scale_by_adam(), _decayed_weights())


def _finished_gradients() -> optax.GradientTransformation:
    """Gradients as they are, computed before anything is done with them.

    XLA:CPU merges small matrix products with what reads them and rounds less often then; Adam's
    updates would differ in the last bit from those of a plain loop.
    """
    import jax
    import optax

    return optax.stateless(lambda updates, params: jax.lax.optimization_barrier(updates))


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

# Schedules return the factor of the learning rate for the part of a stage that is done, in [0, 1).


def constant(done: float) -> float:
    """The learning rate stays."""
    return 1.0


def cosine(done: float) -> float:
    """Half a cosine, from the learning rate to 0."""
    return (1 + math.cos(math.pi * done)) / 2


def step(
    done: float,
    *,
    at: Annotated[tuple[float, ...], Several(Range(0, 1, "()"))] = (0.8, 0.9),
    factor: Positive = 0.1,
) -> float:
    """Multiplied by factor at these fractions of the epochs."""
    return float(factor ** sum(done >= place for place in at))


SCHEDULES: dict[str, Callable[..., float]] = {
    "constant": constant,
    "cosine": cosine,
    "step": step,
}


def find_optimizer(text: str) -> Callable[..., optax.GradientTransformation]:
    """What makes the optimiser that `--optimizer` names, or ConfigError."""
    return choose("--optimizer", text, OPTIMIZERS)


def find_schedule(text: str) -> Callable[..., float]:
    """The schedule that `--schedule` names, or ConfigError."""
    return choose("--schedule", text, SCHEDULES)
