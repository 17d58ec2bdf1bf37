"""The ResNets equal stock Flax layers: values, gradients, batch statistics."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cwjax.models import conv_cpu
from cwjax.models.registry import model_factory
from cwjax.models.resnet import ResNet

BATCH = 6


def stock_features(model: ResNet, images: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Stock convolutions and batch norm in `[batch, height, width, channels]`."""
    per_image = None if mask is None else mask[:, None, None, None]
    x = nnx.relu(model.norm(model.conv(images), mask=per_image))
    for block in model.blocks:
        y = nnx.relu(block.norm1(block.conv1(x), mask=per_image))
        y = block.norm2(block.conv2(y), mask=per_image)
        if y.shape != x.shape:  # option A: every other position, zeros for the new channels
            half = (y.shape[-1] - x.shape[-1]) // 2
            x = jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (half, half)))
        x = nnx.relu(y + x)
    return x.mean((1, 2))


def outputs(
    model: nnx.Module, images: jax.Array, mask: jax.Array | None, is_stock: bool
) -> tuple[Any, ...]:
    """Logits, gradients of their mean squares over real images, and the variables afterwards."""
    graph, params, variables = nnx.split(model, nnx.Param, ...)

    @jax.jit
    def run(params: nnx.State, variables: nnx.State) -> tuple[Any, ...]:
        def loss(params: nnx.State) -> tuple[jax.Array, Any]:
            copies = jax.tree.map(lambda array: array, variables)
            module = nnx.merge(graph, params, copies)
            if is_stock:
                logits = module.head(stock_features(module, images, mask))
            else:
                logits = module(images, mask=mask)
            used = jnp.ones(BATCH, bool) if mask is None else mask
            squares = jnp.where(used[:, None], logits**2, 0)
            return squares.mean(), (logits, nnx.state(module, nnx.BatchStat))

        grads, (logits, after) = jax.grad(loss, has_aux=True)(params)
        return logits, grads, after

    return run(params, variables)


def assert_close(ours: tuple[Any, ...], stock: tuple[Any, ...], *, atol: float) -> None:
    """Every array of `outputs`, relative to its largest entry."""
    for kind, mine, theirs in zip(("logits", "gradients", "statistics"), ours, stock, strict=True):
        pairs = zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True)
        for number, (leaf, leaf_of_stock) in enumerate(pairs):
            scale = max(1e-3, float(jnp.abs(leaf_of_stock).max()))
            np.testing.assert_allclose(
                leaf / scale, leaf_of_stock / scale, atol=atol, err_msg=f"{kind} {number}"
            )


@pytest.mark.parametrize(
    ("blocks_per_stage", "shape", "on_cpu", "mode"),
    [
        pytest.param(1, (9, 12, 3), True, "masked", marks=pytest.mark.slow),
        pytest.param(1, (9, 12, 3), False, "eval", marks=pytest.mark.exhaustive),
    ],
)
def test_equal_to_stock_flax_layers(
    blocks_per_stage: int,
    shape: tuple[int, int, int],
    on_cpu: bool,
    mode: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conv_cpu, "on_cpu", lambda: on_cpu)
    model = ResNet(shape, 10, blocks_per_stage=blocks_per_stage, rngs=nnx.Rngs(1))
    if mode == "eval":
        model.eval()
    images = jnp.asarray(np.random.default_rng(0).random((BATCH, *shape)), jnp.float32)
    mask = jnp.arange(BATCH) < BATCH - 2 if mode == "masked" else None
    ours, stock = (outputs(model, images, mask, is_stock) for is_stock in (False, True))
    assert_close(ours, stock, atol=1e-5)
    before = jax.tree.leaves(nnx.state(model, nnx.BatchStat))
    moved = any((a != b).any() for a, b in zip(before, jax.tree.leaves(ours[2]), strict=True))
    assert moved == (mode != "eval")


@pytest.mark.parametrize(
    ("blocks_per_stage", "shape", "mode"),
    [
        pytest.param(3, (17, 22, 1), "masked", marks=pytest.mark.slow),
        pytest.param(3, (32, 32, 3), "train", marks=pytest.mark.exhaustive),
        pytest.param(5, (32, 32, 3), "masked", marks=pytest.mark.exhaustive),
    ],
)
def test_full_depth_equals_stock_flax_layers(
    blocks_per_stage: int, shape: tuple[int, int, int], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64: of millions of float32 activations some round to another side of ReLU's kink.

    There a gradient jumps: layer by layer both are right, and together they differ by up to 6e-2.
    """
    monkeypatch.setattr(conv_cpu, "on_cpu", lambda: True)
    with jax.enable_x64(True):
        model = ResNet(shape, 10, blocks_per_stage=blocks_per_stage, rngs=nnx.Rngs(1))
        graph, state = nnx.split(model)
        double = nnx.merge(graph, jax.tree.map(lambda leaf: leaf.astype(jnp.float64), state))
        images = jnp.asarray(np.random.default_rng(0).random((BATCH, *shape)))
        assert images.dtype == jnp.float64
        mask = jnp.arange(BATCH) < BATCH - 2 if mode == "masked" else None
        ours, stock = (outputs(double, images, mask, is_stock) for is_stock in (False, True))
        assert_close(ours, stock, atol=1e-11)
        single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), state)
        images = images.astype(jnp.float32)
        ours, stock = (
            outputs(nnx.merge(graph, single), images, mask, is_stock) for is_stock in (False, True)
        )
        assert ours[0].dtype == jnp.float32
        assert_close((ours[0], {}, ours[2]), (stock[0], {}, stock[2]), atol=1e-5)


@pytest.mark.parametrize(("name", "num_parameters"), [("resnet20", 269_722), ("resnet32", 464_154)])
def test_parameters_of_he_et_al(name: str, num_parameters: int) -> None:
    """0.27 and 0.46 million; one convolution and two a block, all with batch norm, and the head."""
    model = nnx.eval_shape(lambda: model_factory(name, (32, 32, 3), 10)(nnx.Rngs(0)))
    params = nnx.state(model, nnx.Param)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == num_parameters
    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
    assert len(kernels) == {"resnet20": 20, "resnet32": 32}[name]


def test_kernels_are_he_normal() -> None:
    model = model_factory("resnet20", (32, 32, 3), 10)(nnx.Rngs(0))
    kernel = np.asarray(model.blocks[-1].conv2.kernel[...])
    assert kernel.std() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    assert np.abs(kernel).max() > 3 * kernel.std()  # not truncated at two
