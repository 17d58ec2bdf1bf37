"""An optimiser: plain stochastic gradient descent."""

from __future__ import annotations

import optax


def sgd() -> optax.GradientTransformation:
    """The gradients as they are."""
    return optax.identity()
