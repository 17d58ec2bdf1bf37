"""The convolutional network of the experiments, as a Flax module."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from cwjax.models.conv_cpu import conv_relu, conv_relu_pool, dropout

NUM_FEATURES = 128


def glorot_uniform(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
    """`nnx.initializers.glorot_uniform`, drawn flat: the same bits, compiled in less time."""
    *window, fan_in, fan_out = shape
    limit = math.sqrt(6 / (math.prod(window) * (fan_in + fan_out)))
    return jax.random.uniform(key, (math.prod(shape),), dtype, -limit, limit).reshape(shape)


class CNN(nnx.Module):
    """Three 3x3 convolutions, two of them max-pooled, and two dense layers, with dropout.

    NNX rather than Linen: the module holds its parameters as plain attributes, so one object is
    model, layer list and (through `nnx.split`) the pytree that the compiled training step carries.

    Args:
        image_shape: height, width and channels of an image.
        num_classes: number of logits.
        dropout_rate: of the outputs of both pooled layers and of the first dense one.
        rngs: the stream `params` draws the Glorot-uniform kernels; biases start at zero.

    Raises:
        ValueError: if the image is smaller than 18 x 18 or a size is not positive.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...],
        num_classes: int,
        *,
        dropout_rate: float = 0.5,
        rngs: nnx.Rngs,
    ):
        height, width, channels = image_shape
        rows, cols = (((side - 2) // 2 - 2) // 2 - 2 for side in (height, width))
        if min(rows, cols, channels) < 1:
            raise ValueError(
                f"image_shape {image_shape}: the CNN needs images of at least 18 x 18 x 1 "
                "(height x width x channels)"
            )
        if num_classes < 2:
            raise ValueError(f"num_classes {num_classes}: the CNN needs at least 2")
        linear = partial(nnx.Linear, kernel_init=glorot_uniform, rngs=rngs)
        conv = partial(
            nnx.Conv, kernel_size=(3, 3), padding="VALID", kernel_init=glorot_uniform, rngs=rngs
        )
        self.conv1 = conv(channels, 32)
        self.conv2 = conv(32, 64)
        self.conv3 = conv(64, 64)
        self.dense = linear(rows * cols * 64, NUM_FEATURES)
        self.head = linear(NUM_FEATURES, num_classes)
        self.dropout_rate = dropout_rate

    def features(self, inputs: Array, *, dropout_key: Array | None = None) -> Array:
        """The 128 inputs of the head: `[batch, height, width, channels] -> [batch, 128]`.

        Args:
            inputs: float32 images, the pixels divided by 255.
            dropout_key: key of the three dropout masks; without it dropout is off.
        """
        keys = [None] * 3 if dropout_key is None else list(jax.random.split(dropout_key, 3))
        x = inputs.transpose(1, 2, 0, 3)
        x = self._dropout(conv_relu_pool(x, *_params(self.conv1)), keys[0])
        x = self._dropout(conv_relu_pool(x, *_params(self.conv2)), keys[1])
        x = conv_relu(x, *_params(self.conv3))
        x = x.transpose(2, 0, 1, 3).reshape(len(inputs), -1)
        return self._dropout(nnx.relu(self.dense(x)), keys[2])

    def __call__(self, inputs: Array, *, dropout_key: Array | None = None) -> Array:
        """Logits `[batch, num_classes]`; arguments as for `features`."""
        return self.head(self.features(inputs, dropout_key=dropout_key))

    def _dropout(self, x: Array, key: Array | None) -> Array:
        return x if key is None or not self.dropout_rate else dropout(x, key, self.dropout_rate)


def _params(layer: nnx.Conv) -> tuple[Array, Array]:
    assert layer.bias is not None  # nnx.Conv has one unless told otherwise
    return layer.kernel[...], layer.bias[...]
