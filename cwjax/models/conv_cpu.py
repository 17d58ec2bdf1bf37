"""Convolution, max-pooling and dropout in the form XLA runs fast; the same maths as Flax's own.

On CPU, XLA runs a convolution inside a compiled loop many times slower than the matrix products it
consists of, and differentiates slices into chains of padded sums. There the layers are matrix
products over slices. On other backends they are the stock convolution: `on_cpu` is the one switch.

Activations are laid out `[height, width, batch, channels]`: batch and channels together are one
long contiguous row, so every slice along height and width is a block copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

Block = Sequence[Sequence[Array]]  # rows of columns of arrays of one shape
Arrays = TypeVar("Arrays")

# With fewer input channels the matrix products of the Winograd form are too thin to pay.
MIN_WINOGRAD_CHANNELS = 8


def on_cpu() -> bool:
    """Whether to trace the CPU forms; accelerators have fast convolutions of their own."""
    return jax.default_backend() == "cpu"


def conv_relu(x: Array, kernel: Array, bias: Array) -> Array:
    """ReLU of a VALID 3x3 convolution: `[H, W, B, C] -> [H - 2, W - 2, B, F]`.

    Args:
        x: float32 activations `[H, W, B, C]`.
        kernel: float32 `[3, 3, C, F]`.
        bias: float32 `[F]`.
    """
    if not on_cpu():
        return jax.nn.relu(_stock_conv(x, kernel) + bias)
    patches = jnp.concatenate(_listed(_slices(x, 3, 1)), axis=-1)
    outputs = jax.nn.relu(_rows(patches) @ _rows(kernel) + bias)
    return outputs.reshape(*patches.shape[:-1], -1)


def conv_relu_pool(x: Array, kernel: Array, bias: Array) -> Array:
    """2x2 max-pooling of `conv_relu`: `[H, W, B, C] -> [(H - 2) // 2, (W - 2) // 2, B, F]`.

    The positions that pooling drops from an odd size are never computed. Among equal maxima of a
    window the first gets the gradient, as in `flax.nnx.max_pool`. Arguments as for `conv_relu`.

    On CPU a window of 2x2 outputs comes from one 4x4 tile of inputs, so every product below is a
    matrix product over the tiles. With many channels they are taken in the basis of Winograd's
    F(2x2, 3x3) (Lavin & Gray 2016, https://arxiv.org/abs/1509.09308): 16 products instead of 36.
    Ties stay ties: where an image is constant along an axis, that basis holds exact zeros.
    """
    rows, cols = (x.shape[0] - 2) // 2, (x.shape[1] - 2) // 2
    if not on_cpu():
        used = lax.slice(x, (0, 0, 0, 0), (2 * rows + 2, 2 * cols + 2, *x.shape[2:]))
        offsets = _listed(_slices(_stock_conv(used, kernel), 2, 2))
        return jax.nn.relu(_first_max(offsets) + bias)
    tiles = [[_rows(tap) for tap in row] for row in _slices(x, 4, 2)]
    if x.shape[-1] < MIN_WINOGRAD_CHANNELS:
        inputs = _patches_of_offsets(tiles)
        products = (_rows(inputs) @ _rows(kernel)).reshape(*inputs.shape[:-1], -1)
        signs = np.eye(4)
    else:
        inputs = jnp.stack(_listed(_on_both_axes(_winograd_input, tiles)))
        kernels = np.kron(WINOGRAD_KERNEL, WINOGRAD_KERNEL) @ kernel.reshape(9, -1)
        products = _matmul(_materialise(inputs), kernels.reshape(16, *kernel.shape[2:]))
        signs = np.kron(WINOGRAD_OUTPUT, WINOGRAD_OUTPUT)
    pooled = _sum_pool_relu(signs, _materialise(products), bias)
    return pooled.reshape(rows, cols, x.shape[2], -1)


def conv(x: Array, kernel: Array, stride: int = 1) -> Array:
    """A 3x3 convolution of zero-padded `x`: `[H, W, B, C] -> [⌈H/stride⌉, ⌈W/stride⌉, B, F]`.

    Args:
        x: float32 activations `[H, W, B, C]`.
        kernel: float32 `[3, 3, C, F]`.
        stride: of both axes.
    """
    padded = jnp.pad(x, ((1, 1), (1, 1), (0, 0), (0, 0)))
    if not on_cpu():
        return _stock_conv(padded, kernel, stride)
    patches = jnp.concatenate(_listed(_slices(padded, 3, stride)), axis=-1)
    outputs = _rows(patches) @ _rows(kernel)
    return _materialise(outputs.reshape(*patches.shape[:-1], -1))


def dropout(x: Array, key: Array, rate: float = 0.5) -> Array:
    """Zeroes each element with probability `rate` and divides the others by `1 - rate`.

    A word of random bits holds 32 masks of rate 1/2, or 4 of another rate, rounded to 1/256.

    Raises:
        ValueError: the rate is not within 0 and 255/256.
    """
    threshold = round(256 * rate)
    if not 0 <= threshold < 256:
        raise ValueError(f"rate {rate}: dropout needs a rate from 0 to 255/256")
    masks_per_word = 32 if threshold == 128 else 4
    words = jax.random.bits(key, (-(-x.size // masks_per_word),), jnp.uint32)
    if threshold == 128:
        keep = (words[:, None] >> jnp.arange(32, dtype=jnp.uint32)) & 1 == 1
    else:
        keep = lax.bitcast_convert_type(words, jnp.uint8) >= threshold
    keep = keep.reshape(-1)[: x.size].reshape(x.shape)
    return _materialise(jnp.where(keep, x * (256 / (256 - threshold)), 0))


def _stock_conv(x: Array, kernel: Array, stride: int = 1) -> Array:
    layout = ("HWNC", "HWIO", "HWNC")
    strides = (stride, stride)
    return lax.conv_general_dilated(x, kernel, strides, "VALID", dimension_numbers=layout)


def _first_max(arrays: Sequence[Array]) -> Array:
    """The largest; among equals the first gets the gradient (`jnp.maximum` would split it)."""
    largest = arrays[0]
    for array in arrays[1:]:
        largest = jnp.where((array > largest) | jnp.isnan(array), array, largest)
    return largest


def _materialise(arrays: Arrays) -> Arrays:
    """Asks XLA to compute `arrays` once, not again within every operation that reads them."""
    kept: Arrays = lax.optimization_barrier(arrays)
    return kept


def _listed(block: Block) -> list[Array]:
    return [array for row in block for array in row]


def _rows(x: Array) -> Array:
    """All axes but the last merged."""
    return x.reshape(-1, x.shape[-1])


@jax.custom_vjp
def _matmul(x: Array, kernel: Array) -> Array:
    """`x @ kernel` for a batch of both: `[N, num_rows, C] @ [N, C, F]`."""
    return x @ kernel


def _matmul_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return x @ kernel, (x, kernel)


def _matmul_backward(saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    x, kernel = saved
    # XLA:CPU multiplies by a transposed left side at two thirds of its speed; a copy costs less.
    transposed = _materialise(x.transpose(0, 2, 1))
    return grad @ kernel.transpose(0, 2, 1), transposed @ grad


_matmul.defvjp(_matmul_forward, _matmul_backward)


# Slices of the input: one for each place in a window.


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _slices(x: Array, size: int, stride: int) -> Block:
    """`block[a][b]` holds element (a, b) of every `size` x `size` window of `x`."""
    rows, cols = ((side - size) // stride + 1 for side in x.shape[:2])
    return [
        [
            lax.slice(
                x,
                (a, b, 0, 0),
                (a + stride * (rows - 1) + 1, b + stride * (cols - 1) + 1, *x.shape[2:]),
                (stride, stride, 1, 1),
            )
            for b in range(size)
        ]
        for a in range(size)
    ]


def _slices_forward(x: Array, size: int, stride: int) -> tuple[Block, tuple[int, ...]]:
    return _slices(x, size, stride), x.shape


def _slices_backward(size: int, stride: int, shape: tuple[int, ...], grads: Block) -> tuple[Array]:
    """Adds every slice's gradient up in place; automatic differentiation would pad each first."""
    rows, cols, *rest = grads[0][0].shape
    overlap = (size - 1) // stride
    # With the stride as an axis of its own, every term is added to one contiguous box.
    total = jnp.zeros((rows + overlap, stride, cols + overlap, stride, *rest), grads[0][0].dtype)
    for a in range(size):
        for b in range(size):
            top, left = a // stride, b // stride
            box = (slice(top, top + rows), a % stride, slice(left, left + cols), b % stride)
            total = total.at[box].add(grads[a][b])
    total = total.reshape(stride * (rows + overlap), stride * (cols + overlap), *rest)
    total = total[: shape[0], : shape[1]]  # with a stride, the last slices may end short of it
    missing = [(0, side - have) for side, have in zip(shape, total.shape, strict=True)]
    return (_materialise(jnp.pad(total, missing)),)


_slices.defvjp(_slices_forward, _slices_backward)


def _patches_of_offsets(tiles: Block) -> Array:
    """The 3x3 windows at the four offsets of every 4x4 tile: `[4, num_tiles, 9 * C]`."""
    return jnp.stack(
        [
            jnp.concatenate([tiles[p + i][q + j] for i in range(3) for j in range(3)], axis=-1)
            for p in range(2)
            for q in range(2)
        ]
    )


# Winograd's F(2, 3) on one axis: 2 outputs of a 3-tap kernel over 4 inputs from 4 products.

WINOGRAD_KERNEL = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]], np.float32) / 2
WINOGRAD_OUTPUT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])


def _winograd_input(a: Array, b: Array, c: Array, d: Array) -> list[Array]:
    return [a - c, b + c, c - b, b - d]


def _on_both_axes(transform: Callable[..., list[Array]], block: Block) -> Block:
    columns = [transform(*column) for column in zip(*block, strict=True)]
    return [transform(*row) for row in zip(*columns, strict=True)]


# Pooling of the four outputs of a window, each a signed sum of products.


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sum_pool_relu(signs: np.ndarray, products: Array, bias: Array) -> Array:
    """`relu(max over o of sum over n of signs[o, n] * products[n] + bias)`: `[num_tiles, F]`.

    Args:
        signs: -1, 0 or 1, `[4, num_products]`.
        products: `[num_products, num_tiles, F]`.
        bias: `[F]`.
    """
    return _sum_pool_relu_forward(signs, products, bias)[0]


def _sum_pool_relu_forward(signs: np.ndarray, products: Array, bias: Array) -> tuple[Array, Array]:
    outputs = [
        sum(sign * product for sign, product in zip(row, products, strict=True) if sign)
        for row in signs.astype(products.dtype)
    ]
    largest = jnp.maximum(jnp.maximum(*outputs[:2]), jnp.maximum(*outputs[2:]))
    # The first output that is the maximum, or -1 where ReLU stops the gradient; as a float because
    # XLA:CPU compares and selects floats four times faster than integers.
    winner = jnp.full_like(largest, 3)
    for index in (2, 1, 0):
        winner = jnp.where(outputs[index] == largest, index, winner)
    winner = jnp.where(largest + bias > 0, winner, -1)
    return _materialise((jax.nn.relu(largest + bias), winner))


def _sum_pool_relu_backward(signs: np.ndarray, winner: Array, grad: Array) -> tuple[Array, Array]:
    grad = _materialise(grad)
    sign = jnp.zeros((), grad.dtype)
    for index, row in enumerate(signs.astype(grad.dtype)):
        sign = jnp.where(winner == index, row[:, None, None], sign)
    return _materialise(grad * sign), jnp.where(winner >= 0, grad, 0).sum(0)


_sum_pool_relu.defvjp(_sum_pool_relu_forward, _sum_pool_relu_backward)
