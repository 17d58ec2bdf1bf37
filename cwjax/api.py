"""For notebooks and programs: what a comparison found, in numbers and as a sentence."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import ArrayLike

from cwjax.analysis.decision import Verdict
from cwjax.analysis.family import Comparison, Pair, Seeds, compare_family
from cwjax.analysis.intervals import finite_array
from cwjax.analysis.metrics import Metric, find_metric
from cwjax.analysis.paired import Judged
from cwjax.analysis.pairing import ArmScores, Pairing
from cwjax.analysis.rules import Rules
from cwjax.analysis.stats import PairedEstimates
from cwjax.errors import ConfigError
from cwjax.report import words


@dataclass(frozen=True)
class PairedComparison:
    """Two arms compared; `str` of it is the verdict in a sentence."""

    comparison: Comparison
    metric: Metric

    @property
    def estimates(self) -> PairedEstimates:
        """Means, spread, difference, P(better)."""
        assert self.comparison.estimates is not None  # there is always a pair
        return self.comparison.estimates

    @property
    def judged(self) -> Judged:
        """What the verdict rests on: p, interval, whether the difference is established."""
        assert self.comparison.judged is not None
        return self.comparison.judged

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
    splits: tuple[int, int] | None = None,
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
    balanced is better than uniform on this test set: +1.80 percentage points in balanced ...

    Args:
        baseline_scores: `[num_seeds]`, fractions if the metric is one.
        treatment_scores: `[num_seeds]`, in the same order of seeds.
        metric: a name in `cwjax.analysis.metrics.METRICS`, or a `Metric` of your own.
        smallest_effect: the smallest difference that would matter, in the unit of the scores;
            without it nothing is said about equivalence or size.
        confidence: 1 - α, with α the error rate of the whole family.
        num_comparisons: size of the family that this comparison belongs to; without the scores of
            the others p and interval are adjusted by Bonferroni's method.
        splits: where every seed has a test split of its own, the number of its test and of its
            training examples; the corrected resampled t test then judges.
        baseline: the arm's name in the sentence.
        treatment: the arm's name in the sentence.

    Raises:
        ConfigError: an unknown metric, an impossible effect, confidence or number of comparisons,
            or scores in percent where fractions are asked for.
        ValueError: no scores, unequal lengths, NaN or infinity; splits without examples.
    """
    scores = [
        finite_array(baseline_scores, "baseline_scores"),
        finite_array(treatment_scores, "treatment_scores"),
    ]
    if scores[0].size != scores[1].size:
        raise ValueError(f"{scores[0].size} baseline scores, {scores[1].size} treatment scores")
    rules = Rules(
        metric=find_metric(metric) if isinstance(metric, str) else metric,
        smallest_effect=smallest_effect,
        confidence=confidence,
        num_comparisons=num_comparisons,
    )
    for name, values in zip(("baseline_scores", "treatment_scores"), scores, strict=True):
        outside = values[(values < 0) | (values > 1)]
        if rules.metric.is_fraction and outside.size:
            raise ConfigError(
                f"{name} has {outside[0]:g}: {rules.metric.title} is a fraction from 0 to 1, not "
                "percent"
            )
    arms = [
        ArmScores(name, dict(enumerate(values.tolist())))
        for name, values in zip((baseline, treatment), scores, strict=True)
    ]
    pair = Pair(Pairing("", baseline, treatment), *arms)
    seeds = Seeds(splits=None if splits is None else {"": splits})
    return PairedComparison(compare_family([pair], rules, seeds).comparisons[0], rules.metric)
