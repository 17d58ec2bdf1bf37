"""The fast layers against Flax's own: values, gradients, ties; dropout's distribution."""

import functools
from collections.abc import Callable

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import HealthCheck, given, settings
from jax import Array

from cwjax.models import conv_cpu

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
# Height, width, batch, channels, filters: smallest image, odd sides, few and many channels.
SHAPES = [(4, 4, 1, 1, 1), (7, 6, 2, 1, 3), (5, 9, 3, 3, 2), (6, 7, 2, 8, 4), (9, 8, 1, 9, 2)]


@pytest.fixture(params=["cpu", "accelerator"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both forms of the layers; the accelerators' one runs on CPU too, only slowly."""
    monkeypatch.setattr(conv_cpu, "on_cpu", lambda: request.param == "cpu")
    return request.param


def flax_conv(x: Array, kernel: Array, bias: Array, *, pool: bool) -> Array:
    """`nnx.Conv`, ReLU and `nnx.max_pool` on `[height, width, batch, channels]`."""
    conv = nnx.Conv(*kernel.shape[2:], kernel_size=(3, 3), padding="VALID", rngs=nnx.Rngs(0))
    conv.kernel[...], conv.bias[...] = kernel, bias
    y = nnx.relu(conv(x.transpose(2, 0, 1, 3)))
    if pool:
        y = nnx.max_pool(y, (2, 2), strides=(2, 2))
    return y.transpose(1, 2, 0, 3)


@functools.cache
def value_and_gradients(name: str, pool: bool) -> Callable[..., list[Array]]:
    """The compiled layer with all its gradients; compiled once a shape, however many tests ask.

    Args:
        name: "flax", or a form of the fast layers, which must be the one in force.
        pool: whether max-pooling follows.
    """
    layer = conv_cpu.conv_relu_pool if pool else conv_cpu.conv_relu
    if name == "flax":
        layer = functools.partial(flax_conv, pool=pool)

    def compute(operands: tuple[Array, ...], cotangent: Array) -> list[Array]:
        value, vjp = jax.vjp(layer, *operands)
        return [value, *vjp(cotangent)]

    return jax.jit(compute)


def arguments(
    generator: np.random.Generator, shape: tuple[int, ...], filters: int, *, ties: bool
) -> tuple[Array, Array, Array]:
    """Input, kernel and bias; with `ties` of small integers, so that many outputs are equal."""
    channels = shape[-1]
    shapes = (shape, (3, 3, channels, filters), (filters,))
    if ties:
        return tuple(jnp.asarray(generator.integers(-1, 2, s), jnp.float32) for s in shapes)
    scales = (1, (9 * channels) ** -0.5, 1)
    return tuple(
        jnp.asarray(scale * generator.normal(size=s), jnp.float32)
        for s, scale in zip(shapes, scales, strict=True)
    )


def assert_equals_flax(
    form: str, x: Array, kernel: Array, bias: Array, *, pool: bool, seed: int = 0
) -> None:
    rows, cols = (side // 2 if pool else side for side in (x.shape[0] - 2, x.shape[1] - 2))
    generator = np.random.default_rng(seed)
    cotangent = generator.normal(size=(rows, cols, x.shape[2], bias.size)).astype(np.float32)
    ours, theirs = (
        value_and_gradients(name, pool)((x, kernel, bias), cotangent) for name in (form, "flax")
    )
    for name, our, their in zip(("value", "x", "kernel", "bias"), ours, theirs, strict=True):
        np.testing.assert_allclose(our, their, **TOLERANCE, err_msg=name)


@pytest.mark.parametrize("pool", [False, True])
@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(shape=st.sampled_from(SHAPES), ties=st.booleans(), seed=st.integers(0, 1000))
def test_values_and_gradients_equal_flax(
    form: str, pool: bool, shape: tuple[int, ...], ties: bool, seed: int
) -> None:
    operands = arguments(np.random.default_rng(seed), shape[:4], shape[4], ties=ties)
    assert_equals_flax(form, *operands, pool=pool, seed=seed)


@pytest.mark.parametrize("axis", [(0,), (1,), (0, 1)])
def test_images_constant_along_an_axis_keep_their_ties(form: str, axis: tuple[int, ...]) -> None:
    # Real digits are full of such ties: background and straight strokes. They must be exact.
    x, kernel, bias = arguments(np.random.default_rng(6), SHAPES[-1][:4], SHAPES[-1][4], ties=False)
    x = jnp.broadcast_to(x.mean(axis, keepdims=True), x.shape)
    assert_equals_flax(form, x, kernel, bias + 1, pool=True)


@pytest.mark.parametrize("channels", [1, 8])
def test_nan_stays_visible(form: str, channels: int) -> None:
    x, kernel, bias = arguments(np.random.default_rng(7), (6, 6, 2, channels), 3, ties=False)
    y = conv_cpu.conv_relu_pool(x.at[3, 3, 1, 0].set(jnp.nan), kernel, bias)
    assert jnp.isnan(y[:, :, 1]).all()
    assert not jnp.isnan(y[:, :, 0]).any()


@pytest.mark.parametrize("layer", [conv_cpu.conv_relu, conv_cpu.conv_relu_pool])
def test_runs_side_by_side_equal_each_run_alone(form: str, layer: Callable[..., Array]) -> None:
    generator = np.random.default_rng(8)
    runs = [arguments(generator, (7, 6, 2, 8), 3, ties=False) for _ in range(3)]

    def gradients(*operands: Array) -> tuple[Array, ...]:
        return jax.grad(lambda *o: (layer(*o) ** 2).sum(), argnums=(0, 1, 2))(*operands)

    together = jax.jit(jax.vmap(gradients))(
        *(jnp.stack(column) for column in zip(*runs, strict=True))
    )
    for index, run in enumerate(runs):
        for ours, alone in zip(together, jax.jit(gradients)(*run), strict=True):
            np.testing.assert_allclose(ours[index], alone, **TOLERANCE)


def test_inside_compiled_loops(form: str) -> None:
    x, kernel, bias = arguments(np.random.default_rng(9), (6, 6, 2, 8), 3, ties=False)

    def step(kernel: Array) -> Array:
        loss = lambda k: (conv_cpu.conv_relu_pool(x, k, bias) ** 2).mean()  # noqa: E731
        return kernel - 0.1 * jax.grad(loss)(kernel)

    expected = jax.jit(lambda k: step(step(k)))(kernel)
    fori = jax.jit(lambda k, n: jax.lax.fori_loop(0, n, lambda _, k: step(k), k))(kernel, 2)
    scan, _ = jax.jit(lambda k: jax.lax.scan(lambda k, _: (step(k), None), k, length=2))(kernel)
    np.testing.assert_allclose(fori, expected, **TOLERANCE)
    np.testing.assert_allclose(scan, expected, **TOLERANCE)


@pytest.mark.parametrize(("rate", "exact_rate"), [(0.5, 0.5), (0.3, 77 / 256), (0.875, 0.875)])
def test_dropout_keeps_rate_and_scale(rate: float, exact_rate: float) -> None:
    shape = (13, 11, 5, 33)  # neither a multiple of 4 nor of 32
    x = jnp.linspace(1, 2, int(np.prod(shape))).reshape(shape)
    y = conv_cpu.dropout(x, jax.random.key(0), rate)
    kept = np.asarray(y != 0)
    np.testing.assert_allclose(y[kept], x[kept] / (1 - exact_rate), rtol=1e-6)
    spread = (exact_rate * (1 - exact_rate) / x.size) ** 0.5
    assert abs(kept.mean() - (1 - exact_rate)) < 4 * spread
    gradient = jax.grad(lambda x: conv_cpu.dropout(x, jax.random.key(0), rate).sum())(x)
    np.testing.assert_allclose(gradient, kept / (1 - exact_rate), rtol=1e-6)


@pytest.mark.parametrize("rate", [0.5, 0.25])
def test_dropout_masks_are_independent(rate: float) -> None:
    x = jnp.ones(100_000)
    first, second = (np.asarray(conv_cpu.dropout(x, jax.random.key(s), rate)) > 0 for s in (1, 2))
    spread = 4 / x.size**0.5
    assert abs(np.corrcoef(first, second)[0, 1]) < spread
    for lag in (1, 2, 4, 8, 16, 32):  # masks are cut from shared words: neighbours must not tell
        assert abs(np.corrcoef(first[lag:], first[:-lag])[0, 1]) < spread, lag


def test_dropout_of_a_run_does_not_depend_on_its_neighbours() -> None:
    keys = jax.random.split(jax.random.key(3), 4)
    x = jnp.ones((4, 6, 5, 7))
    together = jax.vmap(conv_cpu.dropout)(x, keys)
    for index in range(4):
        np.testing.assert_array_equal(together[index], conv_cpu.dropout(x[index], keys[index]))


def test_dropout_of_rate_zero_keeps_everything() -> None:
    np.testing.assert_array_equal(conv_cpu.dropout(jnp.ones(7), jax.random.key(0), 0.0), np.ones(7))


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_dropout_refuses_a_rate_outside_its_range(rate: float) -> None:
    with pytest.raises(ValueError, match=f"rate {rate}"):
        conv_cpu.dropout(jnp.ones(3), jax.random.key(0), rate)
