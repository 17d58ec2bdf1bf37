"""What Student's paired t test can detect; `rule_power` scales its own table by it."""

from __future__ import annotations

import math
from functools import lru_cache

import scipy.optimize
import scipy.stats

POWER = 0.8
"""How often the smallest detectable difference is found."""


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
