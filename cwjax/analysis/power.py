"""How many seeds a comparison needs, and what it can detect with those it has."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import scipy.optimize
import scipy.stats
from numpy.typing import NDArray

from cwjax.analysis.intervals import FloatArray, error_rate
from cwjax.analysis.permutation import all_sign_flips, sign_flip_p_values

POWER = 0.8
"""Of the smallest difference that counts as detectable."""

MAX_DRAWS = 10_000
"""Simulated comparisons behind `verdict_power`: a standard error below 0.5 percentage points."""

MAX_SUMS = 2**25
"""Draws times flips of a simulation (under half a second): a huge family gets fewer draws."""


def seeds_floor(num_comparisons: int, confidence: float = 0.95) -> int:
    """Seeds below which no result can be significant: the least n with m·2^(1-n) < α.

    m·2^(1-n) is the smallest Holm-adjusted p that a sign-flip test can give. The least n is
    ⌈log₂(2m/α)⌉, or one more where 2m/α is a power of two.

    Args:
        num_comparisons: m, comparisons in the family.
        confidence: 1 - α.
    """
    return math.floor(math.log2(2 * num_comparisons / error_rate(confidence))) + 1


def t_test_power(effect: float, num_pairs: int, confidence: float = 0.95) -> float:
    """Power of the two-sided paired t test, by the noncentral t distribution.

    Args:
        effect: true mean difference in standard deviations of the differences.
        num_pairs: n ≥ 2.
        confidence: 1 - α.
    """
    df, noncentrality = num_pairs - 1, effect * math.sqrt(num_pairs)
    critical = scipy.stats.t.ppf((1 + confidence) / 2, df)
    upper = scipy.stats.nct.sf(critical, df, noncentrality)
    # The lower tail is the upper one mirrored; scipy's cdf is NaN where it is tiny, its sf is not.
    return float(upper + scipy.stats.nct.sf(critical, df, -noncentrality))


@lru_cache(maxsize=256)
def detectable_effect(num_pairs: int, confidence: float = 0.95) -> float:
    """The effect that the paired t test detects with a probability of `POWER`.

    Args:
        num_pairs: n ≥ 2.
        confidence: 1 - α, not adjusted for a family.

    Returns:
        In standard deviations of the differences: 3.264, 1.682, 1.156, 0.996, 0.660 for n = 3, 5,
        8, 10, 20 at 95%.
    """

    def excess(effect: float) -> float:
        return t_test_power(effect, num_pairs, confidence) - POWER

    high = 1.0
    while excess(high) < 0:
        high *= 2
    return float(scipy.optimize.brentq(excess, 0, high, xtol=1e-12))


def seeds_needed(effect: float, num_comparisons: int = 1, confidence: float = 0.95) -> int:
    """Seeds with which the paired t test detects an effect with a probability of `POWER`.

    Args:
        effect: in standard deviations of the differences, above 0.
        num_comparisons: of the family; the result is never below its floor.
        confidence: 1 - α, not adjusted for the family.
    """
    low = high = max(2, seeds_floor(num_comparisons, confidence))
    while t_test_power(effect, high, confidence) < POWER:
        low, high = high, 2 * high
    while high - low > 1:  # power is too small at low, unless low is the floor
        middle = (low + high) // 2
        if t_test_power(effect, middle, confidence) < POWER:
            low = middle
        else:
            high = middle
    return high


def simulation_flips(num_pairs: int, p_threshold: float) -> FloatArray:
    """Sign patterns that are enough to tell whether p is below a threshold.

    Args:
        num_pairs: n.
        p_threshold: as many patterns are drawn, from a fixed seed, that 20 of them reach it, and at
            least 4,096; or all 2^(n-1), where that is fewer.

    Returns:
        ±1, `[num_flips, num_pairs]`; the first row flips nothing.
    """
    num_flips = max(4_096, math.ceil(20 / p_threshold))
    if 2 ** (num_pairs - 1) <= num_flips:
        return all_sign_flips(num_pairs)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(num_flips, num_pairs))
    signs[0] = 1
    return signs


def verdict_rejects(
    differences: FloatArray, signs: FloatArray, num_comparisons: int = 1, confidence: float = 0.95
) -> NDArray[np.bool_]:
    """Whether the verdict is "better" or "worse", for many simulated comparisons at once.

    The rule: the seed interval excludes 0 and the sign-flip p is below α/m, Holm's first step.

    Args:
        differences: `[num_draws, num_pairs]`, at least 2 pairs.
        signs: the flips of the sign-flip test, `[num_flips, num_pairs]`.
        num_comparisons: m.
        confidence: 1 - α.

    Returns:
        `[num_draws]`
    """
    num_pairs = differences.shape[1]
    sem = differences.std(axis=1, ddof=1) / math.sqrt(num_pairs)
    critical = scipy.stats.t.ppf((1 + confidence) / 2, num_pairs - 1)
    excludes_zero = np.abs(differences.mean(axis=1)) > critical * sem
    p_values = sign_flip_p_values(differences, signs)
    significant = p_values * num_comparisons < error_rate(confidence)
    rejects: NDArray[np.bool_] = excludes_zero & significant
    return rejects


@lru_cache(maxsize=256)
def verdict_power(num_pairs: int, num_comparisons: int = 1, confidence: float = 0.95) -> float:
    """Probability of the verdict "better" at the effect that the t test detects with `POWER`.

    Simulated with normal differences from a fixed seed, for a family in which one arm differs from
    the baseline. It is below `POWER`: the sign-flip test is coarse at small n, and Holm's
    adjustment costs power.

    Args:
        num_pairs: n ≥ 2.
        num_comparisons: m.
        confidence: 1 - α.
    """
    signs = simulation_flips(num_pairs, error_rate(confidence) / num_comparisons)
    num_draws = max(100, min(MAX_DRAWS, MAX_SUMS // len(signs)))
    differences = np.random.default_rng(0).standard_normal((num_draws, num_pairs))
    differences += detectable_effect(num_pairs, confidence)
    return float(verdict_rejects(differences, signs, num_comparisons, confidence).mean())
