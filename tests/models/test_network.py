"""Flax's own idioms as pure functions: dropout streams, batch statistics, train and eval mode."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cwjax.models.network import Network

KEY = jax.random.key(0)


class Idioms(nnx.Module):
    """Two dropouts, streams that are kept, batch norm with a mask."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Dropout(0.5, rngs=rngs)
        self.second = nnx.Dropout(0.5, rngs=rngs)
        self.norm = nnx.BatchNorm(64, momentum=0.5, rngs=rngs)
        self.rngs = rngs
        self.head = nnx.Linear(64, 2, use_bias=False, rngs=rngs)

    def features(self, inputs: jax.Array, *, mask: jax.Array) -> jax.Array:
        return jnp.concatenate([self.first(inputs), self.second(inputs)], 1) + 0 * self.norm(
            jnp.concatenate([inputs, inputs], 1), mask=mask[:, None]
        )


NETWORK = Network(Idioms)
PARAMS, VARIABLES = NETWORK.initial(KEY)
MASK = jnp.arange(4) < 3


def train(key: jax.Array, inputs: jax.Array | None = None, network: Network = NETWORK):
    inputs = jnp.ones((4, 32)) if inputs is None else inputs
    return network.train(PARAMS, VARIABLES, inputs, mask=MASK, key=key)


def test_every_step_keys_dropout_anew() -> None:
    first, again, other = (
        np.asarray(jax.jit(train)(jax.random.key(seed)).features) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (first[:, :32] != first[:, 32:]).any()  # each layer draws for itself
    assert 0.3 < (first == 0).mean() < 0.7
    outputs = NETWORK.evaluate(PARAMS, VARIABLES, jnp.ones((4, 32)))
    np.testing.assert_array_equal(outputs.features, 1)


def test_statistics_move_in_training_alone_and_padding_stays_out() -> None:
    inputs = jnp.ones((4, 32)).at[3].set(1e6)
    after = train(KEY, inputs).variables
    np.testing.assert_allclose(after["norm"]["mean"][...], 0.5)  # half of 0, half of 1
    evaluated = NETWORK.evaluate(PARAMS, after, inputs)
    assert evaluated.variables is after
    assert NETWORK.keeps_variables
    assert not NETWORK.skips_partial_batches


def test_a_head_without_bias() -> None:
    kernel, bias = train(KEY).head
    assert kernel.shape == (64, 2)
    np.testing.assert_array_equal(bias, 0)


def test_parameters_are_those_of_the_params_stream_alone() -> None:
    plain = Idioms(nnx.Rngs(params=KEY, default=7))
    np.testing.assert_array_equal(PARAMS["head"]["kernel"][...], plain.head.kernel[...])


def test_random_streams_are_no_part_of_what_travels() -> None:
    assert set(VARIABLES) == {"norm"}
    assert set(PARAMS) == {"norm", "head"}
