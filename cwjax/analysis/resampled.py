"""Comparisons whose seeds split the data anew, judged by the corrected resampled t test.

Splits of the same data share training examples, so the differences are not independent and neither
sign flips nor Student's t hold: the naive t test errs in 20 to 30% of cases. Nadeau & Bengio (2003)
correct its variance for the overlap; Bouckaert & Frank (2004) show that it then errs in about 5%.
Test examples differ between splits, so their sampling is in the variance already.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import scipy.stats

from cwjax.analysis.intervals import error_rate
from cwjax.analysis.paired import (
    Differences,
    Judged,
    JudgedFamily,
    Levels,
    Sample,
    Status,
    can_reject,
    describe,
    finite_or_none,
    t_quantile,
    without_verdict,
)
from cwjax.analysis.stats import holm


@dataclass(frozen=True)
class Resampled:
    """One comparison over random splits.

    Raises:
        ValueError: no test or training examples.
    """

    differences: Differences
    """By seed, each seed a split."""
    num_test: int
    """Test examples of each split."""
    num_train: int
    """Training examples of each split, before any imbalance is made."""

    def __post_init__(self) -> None:
        if self.num_test < 1 or self.num_train < 1:
            raise ValueError(f"{self.num_test} test and {self.num_train} training examples")

    def inflation(self, num_splits: int) -> float:
        """See the function of that name."""
        return inflation(num_splits, self.num_test, self.num_train)


def inflation(num_splits: int, num_test: int, num_train: int) -> float:
    """How many times the naive standard error the corrected one is.

    The variance of the mean is s²·(1/n + n_test/n_train) instead of s²/n.

    Args:
        num_splits: n.
        num_test: test examples of each split.
        num_train: training examples of each split, before any imbalance is made.
    """
    return math.sqrt(1 + num_splits * num_test / num_train)


def judge_resampled(
    comparisons: Sequence[Resampled], confidence: float = 0.95, *, alpha: float | None = None
) -> JudgedFamily:
    """Judge comparisons over random splits together, p adjusted by Holm's method.

    `Judged.t` is the corrected |t|. `Judged.critical_value` keeps its meaning, half-width of the
    interval in standard errors s/√n: it contains the correction. The intervals that hold together
    are Bonferroni's.

    >>> noise = [0.003, -0.001, 0.002, -0.002, 0.001, -0.003, 0.002, -0.002]
    >>> splits = Differences({i: 0.02 + x for i, x in enumerate(noise)})
    >>> family = judge_resampled([Resampled(splits, num_test=100, num_train=400)])
    >>> family.comparisons[0].decided
    True

    Args:
        comparisons: each distinct one once, as in `paired.judge_family`.
        confidence: 1 - α.
        alpha: a stricter error rate of this judging, as in `paired.judge_family`; it also asks for
            as many seeds.
    """
    nominal = error_rate(confidence)
    alpha = nominal if alpha is None else alpha
    levels = Levels(nominal, alpha, alpha)
    samples = [c.differences.on(sorted(c.differences.by_seed)) for c in comparisons]
    p_raw = {
        i: _p_value(sample, comparison)
        for i, (sample, comparison) in enumerate(zip(samples, comparisons, strict=True))
        if can_reject(sample.size, alpha) and sample.num_nonzero
    }
    adjusted = dict(zip(p_raw, holm(list(p_raw.values())), strict=True)) if p_raw else {}

    def judge(i: int) -> Judged:
        sample, n = samples[i], samples[i].size
        if i not in p_raw:
            status: Status = "too_few_seeds" if sample.num_nonzero or not n else "identical"
            facts = without_verdict(sample, status, levels)
            return replace(facts, interval_alone=None)  # Student's does not hold here
        not_yet_decided = sum(p >= p_raw[i] for p in p_raw.values())
        alone, together, step = (
            comparisons[i].inflation(n) * t_quantile(rate, n)
            for rate in (nominal, alpha / len(p_raw), alpha / not_yet_decided)
        )
        decided = adjusted[i] < alpha
        facts = describe(
            sample,
            together,
            levels,
            flips_alone=p_raw[i] < nominal,
            decided_with=step if decided else None,
        )
        return replace(
            facts,
            t=finite_or_none(sample.t / comparisons[i].inflation(n)),
            p_raw=p_raw[i],
            p=adjusted[i],
            interval_alone=sample.interval(alone, confidence) if sample.std else None,
        )

    judged = tuple(judge(i) for i in range(len(samples)))
    return JudgedFamily(judged, None)


def _p_value(sample: Sample, comparison: Resampled) -> float:
    t = sample.t / comparison.inflation(sample.size)
    return float(2 * scipy.stats.t.sf(t, sample.size - 1))
