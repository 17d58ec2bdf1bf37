"""For notebooks and programs: what a comparison found, in numbers and as a sentence."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import ArrayLike

from cwjax.analysis import family
from cwjax.analysis.family import Comparison
from cwjax.analysis.metrics import Metric, find_metric
from cwjax.analysis.stats import PairedEstimates
from cwjax.analysis.verdict import Evidence, Verdict
from cwjax.report import words


@dataclass(frozen=True)
class PairedComparison:
    """Two arms compared; `str` of it is the verdict in a sentence."""

    comparison: Comparison
    metric: Metric

    @property
    def estimates(self) -> PairedEstimates:
        """Difference, intervals and p-value."""
        assert self.comparison.estimates is not None  # there is always a pair
        return self.comparison.estimates

    @property
    def evidence(self) -> Evidence:
        """What the verdict looks at beside the estimates."""
        assert self.comparison.evidence is not None
        return self.comparison.evidence

    @property
    def verdict(self) -> Verdict:
        """The verdict as a key, e.g. `better`."""
        assert self.comparison.verdict is not None
        return self.comparison.verdict

    def __str__(self) -> str:
        return words.verdict_sentence(self.comparison, self.metric)


def paired_comparison(
    baseline_scores: ArrayLike,
    treatment_scores: ArrayLike,
    *,
    metric: str | Metric = "balanced_accuracy",
    smallest_effect: float | None = None,
    confidence: float = 0.95,
    num_comparisons: int = 1,
    baseline: str = "baseline",
    treatment: str = "treatment",
) -> PairedComparison:
    """Compares two arms by their scores on the same seeds, wherever those come from.

    >>> uniform = [0.912, 0.905, 0.921, 0.899, 0.915, 0.908, 0.917, 0.903]
    >>> balanced = [0.931, 0.926, 0.935, 0.921, 0.930, 0.929, 0.934, 0.918]
    >>> result = paired_comparison(uniform, balanced, baseline="uniform", treatment="balanced")
    >>> result.verdict.key
    'better'
    >>> print(result)  # doctest: +ELLIPSIS
    balanced is better than uniform: +1.80 percentage points in balanced accuracy (95% interval ...

    Args:
        baseline_scores: `[num_seeds]`, fractions if the metric is one.
        treatment_scores: `[num_seeds]`, in the same order of seeds.
        metric: a name in `cwjax.analysis.metrics.METRICS`, or a `Metric` of your own.
        smallest_effect: the smallest difference that would matter, in the unit of the scores;
            without it nothing is said about equivalence or size.
        confidence: 1 - α, with α the error rate of the whole family.
        num_comparisons: size of the family that this comparison belongs to; its p is adjusted as
            if it were the smallest (Bonferroni).
        baseline: the arm's name in the sentence.
        treatment: the arm's name in the sentence.

    Raises:
        ConfigError: an unknown metric, an impossible effect, confidence or number of comparisons.
        ValueError: no scores, unequal lengths, NaN or infinity.
    """
    known = find_metric(metric) if isinstance(metric, str) else metric
    comparison = family.paired_comparison(
        baseline_scores,
        treatment_scores,
        metric=known,
        smallest_effect=smallest_effect,
        confidence=confidence,
        num_comparisons=num_comparisons,
        baseline=baseline,
        treatment=treatment,
    )
    return PairedComparison(comparison, known)
