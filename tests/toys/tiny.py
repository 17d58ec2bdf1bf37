"""A network: one dense layer on the means of rows and columns."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx


class Tiny(nnx.Module):
    """The least that training asks for: features, and a head."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int, *, rngs: nnx.Rngs) -> None:
        self.dense = nnx.Linear(input_shape[0] + input_shape[1], 8, rngs=rngs)
        self.head = nnx.Linear(8, num_classes, rngs=rngs)

    def features(self, inputs: jax.Array, *, dropout_key: jax.Array | None = None) -> jax.Array:
        means = [inputs.mean(axis=(axis, 3)) for axis in (1, 2)]
        return nnx.relu(self.dense(jnp.concatenate(means, axis=1)))


make = Tiny
