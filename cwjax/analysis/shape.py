"""Whether differences look as the test supposes: no verdict depends on it, the reader is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats

FAR = 6.0
"""Spreads from the median beyond which a seed is named."""

SKEWED = 0.01
"""Normal differences are called skewed in this share of cases."""

_MIN_FOR_SKEWNESS = 8


@dataclass(frozen=True)
class Shape:
    """What is odd about the differences of a comparison."""

    far_seeds: tuple[int, ...] = ()
    """Seeds whose difference lies far from all others, as that of a collapsed run does."""
    skewness: float | None = None
    """Where it is more than so many normal values show; else None."""


def shape(seeds: Sequence[int], differences: Sequence[float]) -> Shape:
    """Looks for single seeds that stand out, and for a long tail on one side.

    A seed stands out if it is more than six times 1.4826·MAD from the median (that is the standard
    deviation of normal values); nothing is said where half of the differences are equal. Skewness
    is told by D'Agostino's test (1970), from 8 seeds on.

    Args:
        seeds: `[num_seeds]`.
        differences: in their order.
    """
    d = np.asarray(differences, np.float64)
    if d.size < 3:
        return Shape()
    deviations = np.abs(d - np.median(d))
    spread = 1.4826 * float(np.median(deviations))
    if spread <= 1e-12 * float(np.abs(d).max()):
        return Shape()
    far = tuple(seeds[i] for i in np.flatnonzero(deviations > FAR * spread).tolist())
    skewed = d.size >= _MIN_FOR_SKEWNESS and scipy.stats.skewtest(d).pvalue < SKEWED
    return Shape(far, float(scipy.stats.skew(d)) if skewed else None)
