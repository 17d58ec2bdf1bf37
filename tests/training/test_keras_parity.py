"""Thirty training steps beside real Keras: `tests/golden/keras_parity.npz` has Keras's side.

Its digits keep clear of the kinks of ReLU and max-pooling, so float32 implementations stay
together; without that care two correct ones drift a percent apart within the thirty steps.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cwjax.arms.losses import (
    class_weights_at,
    example_weights,
    head_logits,
    per_example_loss,
    reduce_loss,
)
from cwjax.arms.row import ArmRow, replace, uniform_row
from cwjax.config import TrainConfig
from cwjax.models.cnn import CNN
from cwjax.training.lanes import Lane
from cwjax.training.optim import OPTIMIZERS
from cwjax.training.step import Batches, Block, Examples, make_programs, preprocess

GOLDEN_FILE = Path(__file__).parents[1] / "golden" / "keras_parity.npz"
NUM_CLASSES = 10
NUM_PARAMETERS = 130_890

Golden: TypeAlias = dict[str, np.ndarray]


class CNNWithoutDropout(CNN):
    """Keras trained without dropout: its masks could not be had here."""

    def features(self, inputs: jax.Array, *, dropout_key: jax.Array | None = None) -> jax.Array:
        return super().features(inputs, dropout_key=None)


def make_model(rngs: nnx.Rngs) -> CNN:
    return CNNWithoutDropout((28, 28, 1), NUM_CLASSES, rngs=rngs)


@pytest.fixture(scope="module")
def golden() -> Golden:
    with np.load(GOLDEN_FILE) as file:
        return dict(file)


@pytest.fixture(scope="module")
def row(golden: Golden) -> ArmRow:
    return replace(uniform_row(NUM_CLASSES), class_weights=golden["class_weights"])


def keras_params(golden: Golden, prefix: str, like: nnx.State) -> nnx.State:
    """Keras's arrays of one kind (initial, gradient, final) in the tree of `like`."""

    def keras_array(path: tuple[jax.tree_util.DictKey, ...], leaf: jax.Array) -> np.ndarray:
        layer, kind = path[0].key, path[1].key
        array = golden[f"{prefix}/{layer}/{kind}"]
        assert array.shape == leaf.shape, (layer, kind)
        return array

    params = jax.tree.map_with_path(keras_array, like)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == NUM_PARAMETERS
    return params


def assert_close(actual: nnx.State, expected: nnx.State, tolerance: float) -> None:
    """Every array within `tolerance` of the largest value of Keras's."""

    def check(path: object, ours: jax.Array, keras: np.ndarray) -> None:
        error = np.abs(np.asarray(ours) - keras).max()
        assert error <= tolerance * np.abs(keras).max(), (jax.tree_util.keystr(path), error)

    jax.tree.map_with_path(check, actual, expected)


def train_by_steps(
    golden: Golden, row: ArmRow, config: TrainConfig
) -> tuple[np.ndarray, nnx.State]:
    """Losses `[num_steps]` and final parameters of the program that trains on CPU."""
    num_steps, batch_size = golden["labels"].shape
    tx = OPTIMIZERS["rmsprop"]()
    programs = Lane(jax.devices()[:1], None).compile(
        make_programs(make_model, tx, config, NUM_CLASSES)
    )
    state = programs.initial_state(jnp.zeros(2, jnp.uint32), row)
    state = state._replace(params=keras_params(golden, "initial", state.params))
    examples = Examples(
        jnp.asarray(golden["images"].reshape(-1, 28, 28, 1)),
        jnp.asarray(golden["labels"].reshape(-1)),
    )
    losses = []
    for step in range(num_steps):
        slots = np.arange(batch_size, dtype=np.int32)[None]
        batches = Batches(
            indices=step * batch_size + slots,
            valid=np.ones((1, batch_size), bool),
            partners=slots,
            mix=np.ones(1, np.float32),
            learning_rate=np.full(1, config.learning_rate, np.float32),
        )
        block = Block(batches, num_steps=np.int32(1), epoch=np.int32(0))
        state = state._replace(loss_sum=jnp.float32(0))
        state = programs.train_block(state, row, examples, block)
        losses.append(float(state.loss_sum) / batch_size)
    return np.array(losses), state.params


@pytest.mark.slow
def test_thirty_steps_end_where_kerass_do(golden: Golden, row: ArmRow) -> None:
    losses, params = train_by_steps(golden, row, TrainConfig(batch_size=56))
    assert len(losses) == 30
    np.testing.assert_allclose(losses, golden["losses"], rtol=1e-4)
    assert_close(params, keras_params(golden, "final", params), 1e-3)


def test_first_gradients_are_kerass(golden: Golden, row: ArmRow) -> None:
    graph, params = nnx.split(make_model(nnx.Rngs(0)))
    images, labels = preprocess(golden["images"][0], row), golden["labels"][0]
    weights = class_weights_at(row, 0)

    def loss(params: nnx.State) -> jax.Array:
        model = nnx.merge(graph, params)
        head = model.head
        logits = head_logits(model.features(images), head.kernel[...], head.bias[...], row)
        return reduce_loss(
            per_example_loss(logits, labels, row, class_weights=weights),
            example_weights(labels, row, class_weights=weights),
            jnp.ones(len(labels), bool),
            "batch",
        )

    gradient = jax.jit(jax.grad(loss))(keras_params(golden, "initial", params))
    assert_close(gradient, keras_params(golden, "gradient", params), 1e-5)
