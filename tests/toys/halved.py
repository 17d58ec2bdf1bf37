"""A schedule: a smaller learning rate for the second half."""

from __future__ import annotations

from cwjax.arms.settings import Fraction


def halved(done: float, *, by: Fraction = 0.5) -> float:
    """Multiplied by a factor from half of the epochs on."""
    return by if done >= 0.5 else 1.0
