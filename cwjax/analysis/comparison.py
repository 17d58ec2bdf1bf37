"""Two arms, or every arm of one data set against the baseline: scores by seed in, verdicts out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from numpy.typing import ArrayLike

from cwjax.analysis.family import Comparison, compare_family
from cwjax.analysis.intervals import finite_array
from cwjax.analysis.metrics import METRICS, Metric
from cwjax.analysis.pairing import ArmScores, Pair
from cwjax.analysis.rules import Rules
from cwjax.errors import ConfigError


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
) -> Comparison:
    """Compare two arms by their scores on the same seeds, wherever those come from.

    >>> uniform = [0.912, 0.905, 0.921, 0.899, 0.915, 0.908, 0.917, 0.903]
    >>> balanced = [0.931, 0.926, 0.935, 0.921, 0.930, 0.929, 0.934, 0.918]
    >>> result = paired_comparison(uniform, balanced, baseline="uniform", treatment="balanced")
    >>> result.verdict.key
    'better'
    >>> round(result.estimates.difference, 4)
    0.018

    Args:
        baseline_scores: `[num_seeds]`, fractions if the metric is one.
        treatment_scores: `[num_seeds]`, in the same order of seeds.
        metric: a name in `METRICS`, or a `Metric` of your own.
        smallest_effect: the smallest difference that would matter, in the unit of the scores;
            without it nothing is said about equivalence or size.
        confidence: 1 - α, with α the error rate of the whole family.
        num_comparisons: size of the family that this comparison belongs to; its p is adjusted as
            if it were the smallest (Bonferroni). `compare_arms`, with all scores, adjusts by Holm.
        baseline: the arm's name in the words.
        treatment: the arm's name in the words.

    Raises:
        ConfigError: an unknown metric, an impossible effect, confidence or number of comparisons.
        ValueError: no scores, unequal lengths, NaN or infinity.
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
    pair = Pair(
        ArmScores(baseline, dict(enumerate(scores[0].tolist()))),
        ArmScores(treatment, dict(enumerate(scores[1].tolist()))),
    )
    return compare_family([pair], rules)[0]


def compare_arms(
    arms: Sequence[ArmScores],
    baseline: str,
    rules: Rules,
    *,
    controls: Collection[str] = (),
    same_as: Mapping[str, str] | None = None,
) -> tuple[Comparison, ...]:
    """Compare every arm with the baseline: one family on one data set.

    Args:
        arms: the baseline and the others.
        baseline: name of the baseline.
        rules: see there.
        controls: names of A/A controls, judged outside the family.
        same_as: arm -> the arm with equal settings that was trained in its place; it need not be
            among `arms`, and the two count once.

    Returns:
        A comparison for every arm but the baseline, in the order of `arms`, then of `same_as`.

    Raises:
        ConfigError: unknown or repeated names, or what `compare_family` raises.
    """
    return compare_family(arm_pairs(arms, baseline, controls=controls, same_as=same_as), rules)


def arm_pairs(
    arms: Sequence[ArmScores],
    baseline: str,
    *,
    controls: Collection[str] = (),
    same_as: Mapping[str, str] | None = None,
    cell: str = "",
) -> list[Pair]:
    """Every arm of one data set with the baseline; several such lists together are one family.

    Args:
        arms: the baseline and the others.
        baseline: name of the baseline.
        controls: names of A/A controls.
        same_as: arm -> the arm with equal settings that was trained in its place.
        cell: in a sweep, what tells this data from the other cells'.

    Raises:
        ConfigError: unknown or repeated names.
    """
    by_name = {arm.name: arm for arm in arms}
    trained_as = {name: name for name in by_name} | dict(same_as or {})
    unknown = ({baseline, *controls} - trained_as.keys()) | (
        set(trained_as.values()) - by_name.keys()
    )
    if unknown:
        raise ConfigError(
            f"no arm named {', '.join(sorted(unknown))}: the arms are {', '.join(by_name)}"
        )
    if len(by_name) < len(arms):
        raise ConfigError(f"arms {', '.join(arm.name for arm in arms)}: name each once")

    def pair(name: str) -> Pair:
        trained, base = trained_as[name], trained_as[baseline]
        twin = baseline if trained == base else trained
        return Pair(
            replace(by_name[base], name=baseline),
            replace(by_name[trained], name=name),
            same_as=twin if twin != name else None,
            control=name in controls,
            cell=cell,
        )

    return [pair(name) for name in trained_as if name != baseline]


def find_metric(name: str) -> Metric:
    """The metric of that name.

    Raises:
        ConfigError: there is none; the message lists them.
    """
    if name not in METRICS:
        raise ConfigError(f"metric is {name!r}: choose one of {', '.join(METRICS)}")
    return METRICS[name]
