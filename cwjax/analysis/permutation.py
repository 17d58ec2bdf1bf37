"""Tests of whether paired differences are symmetric around 0: sign flips and signed ranks."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

from cwjax.analysis.intervals import FloatArray, finite_array

TIE_TOLERANCE = 1e-12
"""Sums of flipped differences tie within this share of Σ|d|: rounding must not break a tie."""

MAX_EXACT_PAIRS = 16
"""Up to this many pairs the sign-flip test looks at all 2^n flips."""

NUM_SAMPLED_FLIPS = 99_999
"""Flips drawn (from a fixed seed) for more pairs than that."""


@lru_cache(maxsize=4)
def all_sign_flips(num_pairs: int) -> FloatArray:
    """The 2^(n-1) sign patterns that start with +; the others mirror them and give the same |sum|.

    Returns:
        ±1, `[2 ** (num_pairs - 1), num_pairs]`; the first row flips nothing.
    """
    patterns = np.arange(2 ** (num_pairs - 1))[:, None] >> np.arange(num_pairs) & 1
    signs: FloatArray = 1.0 - 2.0 * patterns[:, ::-1].astype(np.float64)
    signs.setflags(write=False)
    return signs


def sign_flip_p_values(differences: FloatArray, signs: FloatArray) -> FloatArray:
    """Share of the flips whose |sum| is at least the observed one, for many samples at once.

    Args:
        differences: `[num_samples, num_pairs]`.
        signs: ±1, `[num_flips, num_pairs]`, among them the pattern that flips nothing.

    Returns:
        Two-sided p-values, `[num_samples]`.
    """
    observed = np.abs(differences.sum(axis=1))
    threshold = observed - TIE_TOLERANCE * np.abs(differences).sum(axis=1)
    p_values = np.empty(len(differences))
    chunk = max(1, 2**22 // len(signs))  # 32 MiB of sums at a time
    for start in range(0, len(differences), chunk):
        part = slice(start, start + chunk)
        sums = np.abs(differences[part] @ signs.T)
        p_values[part] = (sums >= threshold[part, None]).mean(axis=1)
    return p_values


def sign_flip_test(differences: ArrayLike) -> tuple[float, int]:
    """Sign-flip permutation test of "the differences are symmetric around 0", two-sided.

    Exact for up to `MAX_EXACT_PAIRS` pairs; beyond that `NUM_SAMPLED_FLIPS` random flips from a
    fixed seed, and p = (1 + flips at least as large) / (1 + flips).

    Args:
        differences: `[num_pairs]`.

    Returns:
        The p-value and the number of flips it rests on.
    """
    d = finite_array(differences, "differences")
    if d.size <= MAX_EXACT_PAIRS:
        return float(sign_flip_p_values(d[None], all_sign_flips(d.size))[0]), 2**d.size
    result = scipy.stats.permutation_test(
        (d,),
        lambda x, axis: np.abs(np.sum(x, axis=axis)),
        permutation_type="samples",
        vectorized=True,
        n_resamples=NUM_SAMPLED_FLIPS,
        batch=2_000,
        alternative="greater",
        rng=np.random.default_rng(0),
    )
    # Counted here, since scipy's own tolerance for ties is narrower than sums of scores need.
    threshold = np.abs(d.sum()) - TIE_TOLERANCE * np.abs(d).sum()
    at_least = int(np.sum(result.null_distribution >= threshold))
    return (1 + at_least) / (1 + NUM_SAMPLED_FLIPS), NUM_SAMPLED_FLIPS


def wilcoxon_p_value(differences: ArrayLike) -> float:
    """Wilcoxon's signed-rank test, two-sided; zeros are dropped, ties share their ranks.

    Exact up to `MAX_EXACT_PAIRS` non-zero differences, as the sign-flip test of the signed ranks
    (scipy's own way with ties takes seconds there); scipy's beyond.

    Args:
        differences: `[num_pairs]`, not all 0.
    """
    d = finite_array(differences, "differences")
    # Ranks see only which differences are equal, so equal ones must not differ by rounding.
    d = np.round(d[d != 0] / np.abs(d).max(), 12)
    if d.size > MAX_EXACT_PAIRS:
        return float(scipy.stats.wilcoxon(d).pvalue)
    return sign_flip_test(np.sign(d) * scipy.stats.rankdata(np.abs(d)))[0]
