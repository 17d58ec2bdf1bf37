"""ResNets for CIFAR's images, as He et al. 2016 (section 4.2) have them."""

from __future__ import annotations

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from cwjax.models.conv_cpu import conv

WIDTHS = (16, 32, 64)
"""Channels of the three stages; each but the first begins with a stride of 2."""


def _he_normal(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
    """Normal with variance 2 / fan_in, as PyTorch's; drawn flat, which compiles in less time."""
    scale = math.sqrt(2 / math.prod(shape[:-1]))
    return scale * jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape)


_conv = partial(
    nnx.Conv, kernel_size=(3, 3), padding=((1, 1), (1, 1)), use_bias=False, kernel_init=_he_normal
)
_norm = partial(nnx.BatchNorm, momentum=0.9, epsilon=1e-5)


class Block(nnx.Module):
    """Two convolutions beside a shortcut without parameters (option A).

    Args:
        in_width: channels that come in.
        width: channels that go out; a wider output has half the height and width of the input.
        rngs: the stream `params` draws the kernels.
    """

    def __init__(self, in_width: int, width: int, *, rngs: nnx.Rngs):
        self.stride = 1 if width == in_width else 2
        self.conv1 = _conv(in_width, width, strides=self.stride, rngs=rngs)
        self.norm1 = _norm(width, rngs=rngs)
        self.conv2 = _conv(width, width, rngs=rngs)
        self.norm2 = _norm(width, rngs=rngs)

    def __call__(self, x: Array, mask: Array | None) -> Array:
        """`[H, W, B, C] -> [H / stride, W / stride, B, F]`; mask broadcasts to x."""
        y = nnx.relu(self.norm1(conv(x, self.conv1.kernel[...], self.stride), mask=mask))
        y = self.norm2(conv(y, self.conv2.kernel[...]), mask=mask)
        added = y.shape[-1] - x.shape[-1]
        shortcut = x[:: self.stride, :: self.stride]
        if added:
            shortcut = jnp.pad(shortcut, ((0, 0),) * 3 + ((added // 2, added - added // 2),))
        return nnx.relu(y + shortcut)


class ResNet(nnx.Module):
    """6n + 2 layers: a convolution, three stages of n blocks, the mean over positions, the head.

    Batch normalisation has PyTorch's defaults: running statistics keep 0.9 of themselves at every
    step, epsilon is 1e-5.

    Args:
        image_shape: height, width and channels of an image.
        num_classes: number of logits.
        blocks_per_stage: n: 3 for ResNet-20, 5 for ResNet-32.
        rngs: the stream `params` draws the He-normal kernels.

    References:
        He et al. 2016, "Deep Residual Learning for Image Recognition".
    """

    def __init__(
        self,
        image_shape: tuple[int, ...],
        num_classes: int,
        *,
        blocks_per_stage: int,
        rngs: nnx.Rngs,
    ):
        self.conv = _conv(image_shape[-1], WIDTHS[0], rngs=rngs)
        self.norm = _norm(WIDTHS[0], rngs=rngs)
        widths = [WIDTHS[0], *(width for width in WIDTHS for _ in range(blocks_per_stage))]
        self.blocks = nnx.List(Block(*pair, rngs=rngs) for pair in itertools.pairwise(widths))
        self.head = nnx.Linear(WIDTHS[-1], num_classes, kernel_init=_he_normal, rngs=rngs)

    def features(self, inputs: Array, *, mask: Array | None = None) -> Array:
        """The 64 inputs of the head: `[batch, height, width, channels] -> [batch, 64]`.

        Args:
            inputs: float32 images, the pixels divided by 255.
            mask: bool `[batch]`, the examples that count in batch statistics [default: all].
        """
        in_layout = None if mask is None else mask[:, None]  # [..., batch, channels]
        x = conv(inputs.transpose(1, 2, 0, 3), self.conv.kernel[...])
        x = nnx.relu(self.norm(x, mask=in_layout))
        for block in self.blocks:
            x = block(x, in_layout)
        return x.mean((0, 1))

    def __call__(self, inputs: Array, *, mask: Array | None = None) -> Array:
        """Logits `[batch, num_classes]`; arguments as for `features`."""
        return self.head(self.features(inputs, mask=mask))
