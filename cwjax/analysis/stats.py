"""Estimators on paired scores: arrays in, numbers out, no words.

A difference is treatment - baseline of one seed. Scores and differences are fractions, as the
metrics are. Every function refuses NaN and infinity with a ValueError: a mean that skips NaN hides
a failed run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

from cwjax.analysis.intervals import FloatArray, Interval, finite_array, mean_interval
from cwjax.analysis.paired import TIE_TOLERANCE

MIN_STD = 1e-12
"""Differences that spread less than this are equal up to rounding: nothing to judge by."""


@dataclass(frozen=True)
class PairedEstimates:
    """Everything that is estimated from the paired scores of two arms.

    Standard deviations are None for a single pair; the interval also when the differences do not
    spread (`MIN_STD`); the correlation when an arm does not.
    """

    num_pairs: int
    num_nonzero: int
    """Pairs whose difference is not 0, up to rounding."""
    baseline_mean: float
    baseline_std: float | None
    treatment_mean: float
    treatment_std: float | None
    difference: float
    """Mean of treatment - baseline."""
    difference_std: float | None
    seed_interval: Interval | None
    """For the mean difference, over seeds, on this test set."""
    probability_better: float
    probability_better_interval: Interval
    correlation: float | None
    """Between the two arms' scores over seeds: the higher, the more pairing helped."""


def probability_better(improvements: ArrayLike, confidence: float) -> tuple[float, Interval]:
    """P(treatment better than baseline) = (#positive + ½·#zero) / n, with Clopper-Pearson bounds.

    The lower bound counts ties against the treatment, the upper bound for it.

    Args:
        improvements: `[num_pairs]`, differences with the sign that makes positive better.
        confidence: of the two bounds together.
    """
    d = finite_array(improvements, "improvements")
    wins, ties, n = int(np.sum(d > 0)), int(np.sum(d == 0)), d.size
    tail, upper = (1 - confidence) / 2, wins + ties
    # Quantiles of Beta (Clopper & Pearson 1934): scipy's binomtest, which solves for them, is slow.
    low = scipy.stats.beta.ppf(tail, wins, n - wins + 1) if wins else 0.0
    high = scipy.stats.beta.ppf(1 - tail, upper + 1, n - upper) if upper < n else 1.0
    return (wins + ties / 2) / n, Interval(float(low), float(high), confidence)


def correlation(baseline_scores: ArrayLike, treatment_scores: ArrayLike) -> float | None:
    """Pearson's correlation of the two arms over seeds; None if an arm has no spread."""
    baseline = finite_array(baseline_scores, "baseline_scores")
    treatment = finite_array(treatment_scores, "treatment_scores")
    if min(np.ptp(baseline), np.ptp(treatment)) <= MIN_STD:
        return None
    return float(np.corrcoef(baseline, treatment)[0, 1])


def holm(p_values: Sequence[float], num_comparisons: int | None = None) -> tuple[float, ...]:
    """Holm's step-down adjustment: compare the result with α.

    Args:
        p_values: of the comparisons that were made.
        num_comparisons: size of the family, if it is larger: the others count as p = 1.

    Returns:
        max over the p₍ᵢ₎ up to each of (m - i + 1)·p₍ᵢ₎, at most 1, in the order of `p_values`
        (Holm 1979).
    """
    p = finite_array(p_values, "p_values")
    m = max(p.size, num_comparisons or 0)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate((m - np.arange(p.size)) * p[order])
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return tuple(adjusted.tolist())


def paired_estimates(
    baseline_scores: ArrayLike,
    treatment_scores: ArrayLike,
    *,
    confidence: float = 0.95,
    higher_is_better: bool = True,
    inflation: float = 1.0,
) -> PairedEstimates:
    """All estimates of one comparison.

    Args:
        baseline_scores: `[num_pairs]`, in the same order of seeds as
        treatment_scores: `[num_pairs]`.
        confidence: of the intervals.
        higher_is_better: whether a positive difference is an improvement.
        inflation: as in `mean_interval`.

    Raises:
        ValueError: no pairs, unequal lengths, NaN or infinity.
    """
    baseline = finite_array(baseline_scores, "baseline_scores")
    treatment = finite_array(treatment_scores, "treatment_scores")
    if baseline.shape != treatment.shape:
        raise ValueError(f"{baseline.size} baseline scores, {treatment.size} treatment scores")
    d = treatment - baseline
    d[np.abs(d) <= TIE_TOLERANCE * np.abs([baseline, treatment]).max()] = 0.0  # rounding errors
    difference_std = _std(d)
    has_spread = difference_std is not None and difference_std > MIN_STD
    better, better_interval = probability_better(d if higher_is_better else -d, confidence)
    return PairedEstimates(
        num_pairs=d.size,
        num_nonzero=int(np.count_nonzero(d)),
        baseline_mean=float(baseline.mean()),
        baseline_std=_std(baseline),
        treatment_mean=float(treatment.mean()),
        treatment_std=_std(treatment),
        difference=float(d.mean()),
        difference_std=difference_std,
        seed_interval=mean_interval(d, confidence, inflation) if has_spread else None,
        probability_better=better,
        probability_better_interval=better_interval,
        correlation=correlation(baseline, treatment),
    )


@dataclass(frozen=True)
class Trend:
    """How the difference changes with the imbalance."""

    slope: float
    """Mean over seeds of the change of the difference per doubling of the imbalance factor."""
    interval: Interval | None
    """Over seeds; None for a single seed."""
    seed_slopes: tuple[float, ...]


def trend(
    differences: ArrayLike,
    factors: ArrayLike,
    confidence: float = 0.95,
    inflation: float = 1.0,
) -> Trend:
    """One least-squares slope on log₂(factor) per seed, and a t interval over seeds.

    Cells of one data set share seeds and images and are not independent; seeds are.

    Args:
        differences: `[num_seeds, num_factors]`.
        factors: imbalance factors `[num_factors]`, at least two distinct ones.
        confidence: of the interval.
        inflation: as in `mean_interval`.
    """
    d = finite_array(differences, "differences", ndim=2)
    x = np.log2(finite_array(factors, "factors"))
    if d.shape[1] != x.size or np.ptp(x) == 0:
        raise ValueError("a trend needs a column of differences a factor and two distinct factors")
    centred = x - x.mean()
    slopes = d @ centred / (centred @ centred)
    interval = mean_interval(slopes, confidence, inflation) if slopes.size > 1 else None
    return Trend(float(slopes.mean()), interval, tuple(slopes.tolist()))


def _std(values: FloatArray) -> float | None:
    return float(values.std(ddof=1)) if values.size > 1 else None
