"""An augmentation: images of another brightness."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def dim(key: jax.Array, images: jax.Array) -> jax.Array:
    """Darker by up to a half."""
    brightness = jax.random.uniform(key, (len(images), 1, 1, 1), minval=0.5)
    return (images * brightness).astype(jnp.uint8)
