"""Dense networks on features, or on the pixels of images as they come."""

from __future__ import annotations

import itertools
import math

import jax
from flax import nnx

from cwjax.models.cnn import glorot_uniform
from cwjax.models.conv_cpu import dropout


class MLP(nnx.Module):
    """Dense layers with ReLU and dropout, and a linear head; without layers, softmax regression.

    Args:
        input_shape: of one example; images are flattened.
        num_classes: number of logits.
        hidden: widths of the layers below the head.
        dropout_rate: of each of these layers' outputs, in [0, 0.99].
        rngs: the stream `params` draws the Glorot-uniform kernels; biases start at zero.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        *,
        hidden: tuple[int, ...],
        dropout_rate: float,
        rngs: nnx.Rngs,
    ):
        widths = (math.prod(input_shape), *hidden)
        self.layers = nnx.List(
            nnx.Linear(*sizes, kernel_init=glorot_uniform, rngs=rngs)
            for sizes in itertools.pairwise(widths)
        )
        self.head = nnx.Linear(widths[-1], num_classes, kernel_init=glorot_uniform, rngs=rngs)
        self.dropout_rate = dropout_rate

    def features(self, inputs: jax.Array, *, dropout_key: jax.Array | None = None) -> jax.Array:
        """The inputs of the head: `[batch, ...] -> [batch, width]`.

        Args:
            inputs: float32, preprocessed.
            dropout_key: key of all dropout masks; without it dropout is off.
        """
        x = inputs.reshape(len(inputs), -1)
        for number, layer in enumerate(self.layers):
            x = nnx.relu(layer(x))
            if dropout_key is not None and self.dropout_rate > 0:
                x = dropout(x, jax.random.fold_in(dropout_key, number), self.dropout_rate)
        return x

    def __call__(self, inputs: jax.Array, *, dropout_key: jax.Array | None = None) -> jax.Array:
        """Logits `[batch, num_classes]`; arguments as for `features`."""
        return self.head(self.features(inputs, dropout_key=dropout_key))
