"""Confidence intervals from Student's t distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A confidence interval, in the unit of the scores."""

    ci_low: float
    ci_high: float
    confidence: float

    @property
    def excludes_zero(self) -> bool:
        """Whether all of it lies on one side of 0."""
        return self.ci_low > 0 or self.ci_high < 0

    def inside(self, bound: float) -> bool:
        """Whether all of it lies within (-bound, bound)."""
        return -bound < self.ci_low and self.ci_high < bound


def error_rate(confidence: float) -> float:
    """1 - confidence, free of rounding (1 - 0.95 is not 0.05 in binary)."""
    return round(1 - confidence, 12)


def mean_interval(values: ArrayLike, confidence: float, inflation: float = 1.0) -> Interval:
    """Student's interval for a mean: mean ± t(1 - α/2, n - 1)·s/√n.

    Args:
        values: `[n]`, n ≥ 2.
        confidence: 1 - α.
        inflation: factor of the standard error where values depend on each other, as
            `resampled.inflation` gives it.
    """
    x = finite_array(values, "values")
    if x.size < 2:
        raise ValueError("an interval needs at least 2 values")
    sem = inflation * x.std(ddof=1) / np.sqrt(x.size)
    return t_interval(x.mean(), sem, x.size - 1, confidence)


def t_interval(centre: float, sem: float, df: float, confidence: float) -> Interval:
    """`centre` ± t(1 - α/2, df)·`sem`, with `sem` the standard error of `centre`."""
    half = scipy.stats.t.ppf((1 + confidence) / 2, df) * sem
    return Interval(float(centre - half), float(centre + half), confidence)


def finite_array(values: ArrayLike, name: str, ndim: int = 1) -> FloatArray:
    """As float64, refusing what no statistic should swallow.

    Raises:
        ValueError: no values, another number of dimensions, NaN or infinity.
    """
    array = np.asarray(values, np.float64)
    if array.ndim != ndim or array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}: {ndim} dimension(s), not empty, needed")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has {np.sum(~np.isfinite(array))} values that are not finite")
    return array
