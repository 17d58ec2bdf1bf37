"""Comparisons that share one error rate: estimates, adjusted p-values, verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike

from cwjax.analysis.intervals import finite_array
from cwjax.analysis.metrics import Metric, find_metric
from cwjax.analysis.new_test_sets import NewTestSetInterval
from cwjax.analysis.pairing import ArmScores, Matched, Pairing, SeedFacts, family_size, match
from cwjax.analysis.rules import Rules
from cwjax.analysis.stats import PairedEstimates, holm, paired_estimates
from cwjax.analysis.verdict import Evidence, Verdict, decide, gather_evidence
from cwjax.errors import ConfigError


@dataclass(frozen=True)
class Comparison:
    """One comparison made: facts, no words."""

    pairing: Pairing
    metric: str
    seeds: tuple[int, ...]
    """The seeds of the pairs that were compared."""
    differences: tuple[float, ...]
    """Treatment - baseline, one per seed."""
    facts: SeedFacts
    """What the reader must know about the seeds."""
    estimates: PairedEstimates | None
    """None where the comparison is refused, no pair is left or a secondary metric is undefined."""
    evidence: Evidence | None
    """None where estimates is, and for a secondary metric."""
    verdict: Verdict | None
    """None for a secondary metric."""
    new_test_sets: NewTestSetInterval | None = None
    """Put in (`dataclasses.replace`) by who has the logits of these seeds."""


@dataclass(frozen=True)
class Pair:
    """A comparison to make, with the scores of its arms."""

    pairing: Pairing
    baseline: ArmScores
    treatment: ArmScores


def compare_family(pairs: Sequence[Pair], rules: Rules) -> tuple[Comparison, ...]:
    """Makes comparisons that share one error rate: those of all cells of a study.

    Comparisons without a p-value (refused, identical, no spread) stay in the family, as p = 1.

    Args:
        pairs: the comparisons to make.
        rules: what they are judged by.

    Returns:
        One comparison per pair, in their order.

    Raises:
        ConfigError: no seed in common, or a primary metric that is undefined (NaN) in a run.
    """
    matched = [match(pair.baseline, pair.treatment, rules.metric, rules.diverged) for pair in pairs]
    undefined = [run for each in matched for run in each.facts.undefined]
    if undefined and rules.primary:
        runs = ", ".join(f"{run.arm} seed {run.seed}" for run in undefined)
        raise ConfigError(
            f"{rules.metric.title} is undefined for {runs}: choose another primary metric"
        )
    estimates = [_estimates(each, rules) for each in matched]
    size = max(family_size([pair.pairing for pair in pairs]), rules.num_comparisons)
    adjusted = _adjust(pairs, estimates, size)
    return tuple(
        _conclude(pair, each, estimate, p_holm, size if pair.pairing.in_family else 1, rules)
        for pair, each, estimate, p_holm in zip(pairs, matched, estimates, adjusted, strict=True)
    )


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
    """Compares two arms by their scores on the same seeds, wherever those come from.

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
            if it were the smallest (Bonferroni).
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
    arms = [
        ArmScores(name, dict(enumerate(values.tolist())))
        for name, values in zip((baseline, treatment), scores, strict=True)
    ]
    return compare_family([Pair(Pairing("", baseline, treatment), *arms)], rules)[0]


def _estimates(matched: Matched, rules: Rules) -> PairedEstimates | None:
    if not matched.seeds or matched.facts.undefined:
        return None
    return paired_estimates(
        matched.baseline_scores,
        matched.treatment_scores,
        confidence=rules.confidence,
        higher_is_better=rules.metric.higher_is_better,
    )


def _adjust(
    pairs: Sequence[Pair], estimates: Sequence[PairedEstimates | None], size: int
) -> list[float | None]:
    """Each pair's p-value, adjusted for a family of `size` where it belongs to it."""
    raw = [None if estimate is None else estimate.p_value for estimate in estimates]
    family = {
        pair.pairing.key: 1.0 if p is None else p
        for pair, p in zip(pairs, raw, strict=True)
        if pair.pairing.in_family
    }
    adjusted = dict(zip(family, holm(list(family.values()), size), strict=True)) if family else {}
    return [
        p if p is None or not pair.pairing.in_family else adjusted[pair.pairing.key]
        for pair, p in zip(pairs, raw, strict=True)
    ]


def _conclude(
    pair: Pair,
    matched: Matched,
    estimates: PairedEstimates | None,
    p_holm: float | None,
    size: int,
    rules: Rules,
) -> Comparison:
    verdict = evidence = None
    if rules.primary:
        if matched.facts.refused:
            verdict = Verdict("refused")
        elif estimates is None:
            verdict = Verdict("no_verdict")
        else:
            evidence = gather_evidence(
                estimates, p_holm, size, rules.smallest_effect, rules.confidence
            )
            verdict = decide(estimates, evidence, rules)
    pairs = zip(matched.baseline_scores, matched.treatment_scores, strict=True)
    return Comparison(
        pairing=pair.pairing,
        metric=rules.metric.name,
        seeds=matched.seeds,
        differences=() if estimates is None else tuple(t - b for b, t in pairs),
        facts=matched.facts,
        estimates=estimates,
        evidence=evidence,
        verdict=verdict,
    )
