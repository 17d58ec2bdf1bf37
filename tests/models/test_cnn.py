"""The CNN is the notebook's, and its fast layers change nothing but the speed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import Array

from cwjax.models import conv_cpu
from cwjax.models.cnn import CNN


def images_of(shape: tuple[int, int, int], num_images: int = 3) -> Array:
    generator = np.random.default_rng(0)
    return jnp.asarray(generator.random((num_images, *shape)), jnp.float32)


def plain_flax_logits(model: CNN, images: Array) -> Array:
    """The same network from stock Flax layers, reading the same parameters."""
    x = nnx.max_pool(nnx.relu(model.conv1(images)), (2, 2), strides=(2, 2))
    x = nnx.max_pool(nnx.relu(model.conv2(x)), (2, 2), strides=(2, 2))
    x = nnx.relu(model.conv3(x))
    return model.head(nnx.relu(model.dense(x.reshape(len(x), -1))))


def test_notebooks_parameters() -> None:
    model = CNN((28, 28, 1), 10, rngs=nnx.Rngs(0))
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    shapes = {name: (p["kernel"].shape, p["bias"].shape) for name, p in params.items()}
    assert shapes == {
        "conv1": ((3, 3, 1, 32), (32,)),
        "conv2": ((3, 3, 32, 64), (64,)),
        "conv3": ((3, 3, 64, 64), (64,)),
        "dense": ((576, 128), (128,)),
        "head": ((128, 10), (10,)),
    }
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 130_890
    assert nnx.state(model, nnx.Not(nnx.Param)) == {}


def test_kernels_are_glorot_uniform_and_biases_zero() -> None:
    model = CNN((28, 28, 1), 10, rngs=nnx.Rngs(0))
    # Keras: the limit is sqrt(6 / (fan_in + fan_out)), each fan counted over the window.
    limits = {"conv1": 6 / (9 * 33), "conv2": 6 / (9 * 96), "dense": 6 / 704, "head": 6 / 138}
    for name, squared in limits.items():
        layer = getattr(model, name)
        kernel = np.asarray(layer.kernel[...])
        assert np.abs(kernel).max() <= squared**0.5
        assert kernel.std() == pytest.approx((squared / 3) ** 0.5, rel=0.1)
        assert not layer.bias[...].any()


def test_kernels_have_the_bits_of_flax_own_initialiser() -> None:
    key = nnx.Rngs(params=7).params()  # the first key the model draws: conv1's kernel
    expected = nnx.initializers.glorot_uniform()(key, (3, 3, 1, 32), jnp.float32)
    model = CNN((28, 28, 1), 10, rngs=nnx.Rngs(params=7))
    np.testing.assert_array_equal(model.conv1.kernel[...], expected)


@pytest.mark.parametrize(
    ("image_shape", "num_classes", "on_cpu"),
    [
        ((28, 28, 1), 10, True),
        pytest.param((19, 22, 3), 4, True, marks=pytest.mark.slow),
        ((19, 22, 3), 4, False),
    ],
)
def test_logits_and_gradients_equal_plain_flax(
    image_shape: tuple[int, int, int],
    num_classes: int,
    on_cpu: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conv_cpu, "on_cpu", lambda: on_cpu)
    graph, params = nnx.split(CNN(image_shape, num_classes, rngs=nnx.Rngs(1)))
    images = images_of(image_shape)

    def fast(params: nnx.State) -> tuple[Array, Array]:
        logits = nnx.merge(graph, params)(images)
        return (logits**2).sum(), logits

    def plain(params: nnx.State) -> tuple[Array, Array]:
        logits = plain_flax_logits(nnx.merge(graph, params), images)
        return (logits**2).sum(), logits

    grads, logits = jax.jit(jax.grad(fast, has_aux=True))(params)
    plain_grads, plain_logits = jax.jit(jax.grad(plain, has_aux=True))(params)
    assert logits.shape == (3, num_classes)
    np.testing.assert_allclose(logits, plain_logits, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(jax.tree.leaves(grads), jax.tree.leaves(plain_grads), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(17, 28, 1), (28, 17, 1), (28, 28, 0)])
def test_small_images_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="at least 18 x 18 x 1"):
        CNN(shape, 10, rngs=nnx.Rngs(0))


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="num_classes 1"):
        CNN((28, 28, 1), 1, rngs=nnx.Rngs(0))


@pytest.mark.slow
def test_dropout_follows_its_key_and_is_off_without() -> None:
    graph, params = nnx.split(CNN((18, 18, 1), 3, rngs=nnx.Rngs(0)))
    images = images_of((18, 18, 1), num_images=8)

    @jax.jit
    def features_and_logits(key: Array | None) -> tuple[Array, Array, Array]:
        model = nnx.merge(graph, params)
        features = model.features(images, dropout_key=key)
        return features, model.head(features), model(images, dropout_key=key)

    features, *_ = features_and_logits(None)
    dropped, of_features, logits = features_and_logits(jax.random.key(1))
    assert features.shape == (8, 128)
    np.testing.assert_allclose(logits, of_features, rtol=1e-6)
    np.testing.assert_array_equal(dropped, features_and_logits(jax.random.key(1))[0])
    assert (dropped != features_and_logits(jax.random.key(2))[0]).any()
    # The last of the three dropouts is on the features: half of the active ones go.
    active = (np.asarray(features) > 0).mean()
    assert (np.asarray(dropped) > 0).mean() == pytest.approx(active / 2, rel=0.25)
