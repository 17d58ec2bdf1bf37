"""Convolution, pooling and dropout, written the way XLA runs them fast.

Activations are laid out `[height, width, batch, channels]`: batch and channels together are one
long contiguous row, so every slice along height and width is a block copy.
"""

import jax
import jax.numpy as jnp
from jax import Array


def _patches(x: Array, rows: int, cols: int, start: tuple[int, int], stride: int) -> Array:
    """The 3x3 windows of `x` as `[rows, cols, batch, 9 * channels]`."""
    taps = []
    for i in range(3):
        for j in range(3):
            top, left = start[0] + i, start[1] + j
            last = (top + stride * (rows - 1) + 1, left + stride * (cols - 1) + 1)
            taps.append(
                jax.lax.slice(
                    x,
                    (top, left, 0, 0),
                    (*last, *x.shape[2:]),
                    (stride, stride, 1, 1),
                )
            )
    return jnp.concatenate(taps, axis=-1)


def conv_relu(x: Array, kernel: Array, bias: Array) -> Array:
    """ReLU of a VALID 3x3 convolution: `[H, W, B, C] -> [H-2, W-2, B, F]`."""
    height, width = x.shape[0] - 2, x.shape[1] - 2
    patches = _patches(x, height, width, (0, 0), 1)
    return jax.nn.relu(patches @ kernel.reshape(-1, kernel.shape[-1]) + bias)


def conv_relu_pool(x: Array, kernel: Array, bias: Array) -> Array:
    """2x2 max-pooling of `conv_relu`: `[H, W, B, C] -> [(H-2)//2, (W-2)//2, B, F]`."""
    rows, cols = (x.shape[0] - 2) // 2, (x.shape[1] - 2) // 2
    weights = kernel.reshape(-1, kernel.shape[-1])
    pooled = None
    for i in range(2):
        for j in range(2):
            out = _patches(x, rows, cols, (i, j), 2) @ weights
            pooled = out if pooled is None else jnp.maximum(pooled, out)
    return jax.nn.relu(pooled + bias)


def dropout(x: Array, key: Array, rate: float = 0.5) -> Array:
    """Zero a `rate` of the elements of `x` and scale the others by 1 / (1 - rate)."""
    keep = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), 0)
