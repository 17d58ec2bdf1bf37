"""Augmentations of training images, by the name that `--augment` takes.

To add one, write a function from a key and the images of a batch to images of the same shape and
add its line to `AUGMENTATIONS`; its keyword-only parameters are the settings. It runs inside the
compiled step. What it draws for an example depends on the run's key, the step and the example's
slot in the batch alone, so that the arms of a pair share it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from cwjax.arms.settings import Whole, choose
from cwjax.errors import ConfigError

if TYPE_CHECKING:  # settings are checked without JAX
    import jax


def none(key: jax.Array, images: jax.Array) -> jax.Array:
    """Images as they are."""
    return images


def flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Mirrored left to right, every other image."""
    import jax
    import jax.numpy as jnp

    is_flipped = jax.random.bernoulli(key, shape=(len(images), 1, 1, 1))
    return jnp.where(is_flipped, images[:, :, ::-1], images)


def crop_flip(
    key: jax.Array, images: jax.Array, *, padding: Annotated[int, Whole(1, 100)] = 4
) -> jax.Array:
    """As flip, and moved by up to padding pixels each way, over black."""
    import jax
    import jax.numpy as jnp

    flip_key, crop_key = jax.random.split(key)
    corners = jax.random.randint(crop_key, (len(images), 2), 0, 2 * padding + 1)
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))

    def crop(image: jax.Array, corner: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (*corner, 0), images.shape[1:])

    return flip(flip_key, jax.vmap(crop)(padded, corners))


AUGMENTATIONS: dict[str, Callable[..., jax.Array]] = {
    "none": none,
    "flip": flip,
    "crop_flip": crop_flip,
}


def find_augmentation(text: str) -> Callable[..., jax.Array]:
    """The augmentation that `--augment` names, or ConfigError."""
    return choose("--augment", text, AUGMENTATIONS)


def check_augmentation(text: str, input_shape: tuple[int, ...], dataset: str) -> None:
    """Raises a `ConfigError` where there are features to augment; arguments as `check_input`."""
    if text != "none" and len(input_shape) != 3:
        raise ConfigError(f"{dataset}: --augment {text} is for images: leave it out for features")
