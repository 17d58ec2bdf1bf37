"""A linear model whose state is kept often, and which ends its process where it is told to."""

from __future__ import annotations

import math
import os
import signal

import jax
import jax.numpy as jnp
from flax import nnx

from cwjax.training import chunk


class Keeping(nnx.Module):
    """Softmax regression; wherever it is built, states are kept five times a second."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int, rngs: nnx.Rngs) -> None:
        chunk.CHECKPOINT_SECONDS = 0.2
        self.head = nnx.Linear(math.prod(input_shape), num_classes, rngs=rngs)

    def features(self, inputs: jax.Array) -> jax.Array:
        return inputs.reshape(len(inputs), -1)


class Deadly(Keeping):
    """Ends its process, as a lack of memory does, once its numbers are not finite."""

    def features(self, inputs: jax.Array) -> jax.Array:
        def end(finite: jax.Array) -> None:
            if not finite and "RAY_RAYLET_PID" in os.environ:
                os.kill(os.getpid(), signal.SIGKILL)

        jax.debug.callback(end, jnp.isfinite(self.head.kernel[...]).all())
        return super().features(inputs)
