"""The rule that turns the numbers of one comparison into a verdict; the first match wins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from cwjax.analysis import power
from cwjax.analysis.intervals import Interval, error_rate, t_interval
from cwjax.analysis.rules import Rules
from cwjax.analysis.stats import PairedEstimates

Key = Literal[
    "refused",
    "identical",
    "no_verdict",
    "too_few_seeds",
    "estimates_only",
    "better",
    "worse",
    "equivalent",
    "suggestive",
    "no_detectable_difference",
]


@dataclass(frozen=True)
class Verdict:
    """What is concluded about one comparison; `cwjax.report.words` says it in a sentence."""

    key: Key
    size: Literal["more_than", "less_than", "unresolved"] | None = None
    """Size of a better or worse arm's difference, beside the smallest effect of interest; None if
    none was given."""


@dataclass(frozen=True)
class Evidence:
    """What the rule looks at beside the estimates: the family, the smallest effect, the power."""

    p_holm: float | None
    """The sign-flip p, adjusted for the family."""
    num_comparisons: int
    """Of the family."""
    seeds_floor: int
    """Seeds below which nothing in this family can be significant."""
    smallest_effect: float | None
    """Of interest; without it nothing is said about equivalence or size."""
    size_interval: Interval | None
    """At 1 - α/m: beyond the smallest effect, the difference is larger than it."""
    equivalence_interval: Interval | None
    """At 1 - 2α/m: inside the smallest effect, the difference is smaller than it (TOST)."""
    detectable_effect: float | None
    """The difference that the unadjusted paired t test detects with 80% power."""
    verdict_power: float | None
    """The power of this rule at detectable_effect, from simulation."""
    seeds_needed: int | None
    """With which the unadjusted paired t test detects the smallest effect with 80% power."""


def gather_evidence(
    estimates: PairedEstimates,
    p_holm: float | None,
    num_comparisons: int,
    smallest_effect: float | None,
    confidence: float,
) -> Evidence:
    """Nothing about size without a smallest effect, nothing about power below the floor.

    Args:
        estimates: of the paired scores.
        p_holm: their sign-flip p, adjusted for the family.
        num_comparisons: m, size of the family.
        smallest_effect: in the unit of the scores.
        confidence: 1 - α.
    """
    n, std = estimates.num_pairs, estimates.difference_std
    floor = power.seeds_floor(num_comparisons, confidence)
    size_interval = equivalence_interval = detectable = rule_power = needed = None
    if estimates.seed_interval is not None and std is not None:
        alpha = error_rate(confidence) / num_comparisons
        if smallest_effect is not None:
            location = (estimates.difference, std / math.sqrt(n), n - 1)
            size_interval = t_interval(*location, 1 - alpha)
            equivalence_interval = t_interval(*location, 1 - 2 * alpha)
        if n >= floor:
            detectable = power.detectable_effect(n, confidence) * std
            rule_power = power.verdict_power(n, num_comparisons, confidence)
            if smallest_effect is not None:
                needed = power.seeds_needed(smallest_effect / std, num_comparisons, confidence)
    return Evidence(
        p_holm=p_holm,
        num_comparisons=num_comparisons,
        seeds_floor=floor,
        smallest_effect=smallest_effect,
        size_interval=size_interval,
        equivalence_interval=equivalence_interval,
        detectable_effect=detectable,
        verdict_power=rule_power,
        seeds_needed=needed,
    )


def decide(estimates: PairedEstimates, evidence: Evidence, rules: Rules) -> Verdict:
    """Applies the rule, case by case, in its order.

    Significant means both: the seed interval excludes 0, and the adjusted p is below α.

    Args:
        estimates: of the paired scores.
        evidence: its p and intervals are None only where the estimates' are.
        rules: metric, confidence and smallest effect.
    """
    interval, n = estimates.seed_interval, estimates.num_pairs
    if estimates.num_nonzero == 0:
        return Verdict("identical")
    if interval is None or evidence.p_holm is None:
        return Verdict("no_verdict")
    if n < evidence.seeds_floor:
        return Verdict("too_few_seeds")
    significant = evidence.p_holm < error_rate(rules.confidence)
    if interval.excludes_zero and significant:
        return _better_or_worse(estimates, evidence, rules)
    effect, tost = evidence.smallest_effect, evidence.equivalence_interval
    if effect is not None and tost is not None and tost.inside(effect):
        return Verdict("equivalent")
    if interval.excludes_zero or significant:
        return Verdict("suggestive")
    return Verdict("no_detectable_difference")


def _better_or_worse(estimates: PairedEstimates, evidence: Evidence, rules: Rules) -> Verdict:
    improved = (estimates.difference > 0) == rules.metric.higher_is_better
    key: Key = "better" if improved else "worse"
    effect = evidence.smallest_effect
    if effect is None or evidence.size_interval is None or evidence.equivalence_interval is None:
        return Verdict(key)
    if evidence.size_interval.beyond(effect):
        return Verdict(key, "more_than")
    if evidence.equivalence_interval.inside(effect):
        return Verdict(key, "less_than")
    return Verdict(key, "unresolved")
