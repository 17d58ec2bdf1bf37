"""Flax as its own MNIST example has it: stock layers, `nnx.jit` on one step, a Python loop."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.peers import LEARNING_RATE, Training, Work


class CNN(nnx.Module):
    """The notebook's network."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv1 = nnx.Conv(1, 32, (3, 3), padding="VALID", rngs=rngs)
        self.conv2 = nnx.Conv(32, 64, (3, 3), padding="VALID", rngs=rngs)
        self.conv3 = nnx.Conv(64, 64, (3, 3), padding="VALID", rngs=rngs)
        self.dense = nnx.Linear(3 * 3 * 64, 128, rngs=rngs)
        self.head = nnx.Linear(128, 10, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images float32 `[batch, 28, 28, 1]` to logits `[batch, 10]`."""
        x = self.dropout(nnx.max_pool(nnx.relu(self.conv1(x)), (2, 2), strides=(2, 2)))
        x = self.dropout(nnx.max_pool(nnx.relu(self.conv2(x)), (2, 2), strides=(2, 2)))
        x = nnx.relu(self.conv3(x)).reshape(x.shape[0], -1)
        return self.head(self.dropout(nnx.relu(self.dense(x))))


@nnx.jit
def train_step(
    model: CNN, optimizer: nnx.Optimizer[CNN], images: jax.Array, labels: jax.Array
) -> jax.Array:
    """One update of model and optimizer in place; returns the batch's mean loss."""

    def mean_loss(model: CNN) -> jax.Array:
        logits = model(images)
        loss: jax.Array = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
        return loss.mean()

    loss: jax.Array
    loss, grads = nnx.value_and_grad(mean_loss)(model)
    optimizer.update(model, grads)
    return loss


def prepare(work: Work) -> Training:
    """The model and its jitted step."""
    model = CNN(nnx.Rngs(0))
    tx = optax.rmsprop(LEARNING_RATE, decay=0.9, eps=1e-7, eps_in_sqrt=True)
    # Flax's advice for small models: spares most of the traversal of the modules at every step.
    step = nnx.cached_partial(train_step, model, nnx.Optimizer(model, tx, wrt=nnx.Param))
    rng = np.random.default_rng(0)

    def train_batch(batch: np.ndarray) -> jax.Array:
        return step(jnp.asarray(work.inputs[batch]), jnp.asarray(work.labels[batch]))

    def train_epochs(num_epochs: int) -> float:
        for _ in range(num_epochs):
            order = rng.permutation(len(work.labels)).reshape(-1, work.batch_size)
            losses = jax.device_get([train_batch(batch) for batch in order])
        return float(np.mean(losses))

    first = np.arange(work.batch_size)
    return Training(lambda: train_batch(first).block_until_ready(), train_epochs)
