"""The optimisers, by the name that `--optimizer` takes.

To add one, write a function that returns an optax transformation *without* a learning rate, and add
its line to `OPTIMIZERS`. What comes out of it is multiplied by `-Batches.learning_rate`, which is
data, so that another learning rate does not compile anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # settings are checked without JAX, which optax imports
    import optax


def rmsprop() -> optax.GradientTransformation:
    """Keras 3's RMSprop: decay 0.9, epsilon 1e-7 inside the square root, no momentum."""
    import optax

    return optax.scale_by_rms(decay=0.9, eps=1e-7, eps_in_sqrt=True)


OPTIMIZERS: dict[str, Callable[[], optax.GradientTransformation]] = {"rmsprop": rmsprop}
