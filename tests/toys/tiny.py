"""A network: one dense layer on the means of rows and columns."""

from __future__ import annotations

from typing import Annotated

import jax
import jax.numpy as jnp
from flax import nnx

from cwjax.arms.settings import Whole


class Tiny(nnx.Module):
    """The least that training asks for: features, and a head."""

    def __init__(
        self, input_shape: tuple[int, ...], num_classes: int, width: int, *, rngs: nnx.Rngs
    ) -> None:
        self.dense = nnx.Linear(input_shape[0] + input_shape[1], width, rngs=rngs)
        self.head = nnx.Linear(width, num_classes, rngs=rngs)

    def features(self, inputs: jax.Array) -> jax.Array:
        means = [inputs.mean(axis=(axis, 3)) for axis in (1, 2)]
        return nnx.relu(self.dense(jnp.concatenate(means, axis=1)))


def tiny(
    input_shape: tuple[int, ...],
    num_classes: int,
    rngs: nnx.Rngs,
    *,
    width: Annotated[int, Whole(1, 100)] = 4,
) -> Tiny:
    """One dense layer."""
    return Tiny(input_shape, num_classes, width, rngs=rngs)
