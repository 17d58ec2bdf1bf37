"""The rule that turns the numbers of one comparison into words; the first matching case wins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cwjax.analysis import power
from cwjax.analysis.intervals import Interval, error_rate, t_interval
from cwjax.analysis.metrics import Metric
from cwjax.analysis.stats import PairedEstimates

Key = Literal[
    "refused",
    "identical",
    "no_verdict",
    "too_few_seeds",
    "better",
    "worse",
    "equivalent",
    "suggestive",
    "no_detectable_difference",
]


@dataclass(frozen=True)
class Verdict:
    """What is concluded about one comparison."""

    key: Key
    """For machines."""
    size: Literal["more_than", "less_than", "unresolved"] | None
    """Of a better or worse arm, beside the smallest effect of interest; None if none was given."""
    words: str
    """One sentence, and what the reader must know about the seeds."""


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


@dataclass(frozen=True)
class Question:
    """Who is compared with whom, and on what."""

    baseline: str
    treatment: str
    metric: Metric
    confidence: float


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


def refused(question: Question, bad_runs: Sequence[str]) -> Verdict:
    """The verdict when runs diverged or failed and no rule says how to count them."""
    return Verdict(
        "refused",
        None,
        f"No verdict: refused for {_who(question)}, because {', '.join(bad_runs)} did not end in a "
        "score; drop-pair or worst-score says how to count such runs.",
    )


def no_pairs(question: Question) -> Verdict:
    """The verdict when dropping pairs leaves none."""
    words = f"No verdict: no pair of runs of {_who(question)} is left to judge by."
    return Verdict("no_verdict", None, words)


def decide(question: Question, estimates: PairedEstimates, evidence: Evidence) -> Verdict:
    """Apply the rule, case by case, in its order.

    Significant means both: the seed interval excludes 0, and the adjusted p is below α.

    Args:
        question: the names for the words.
        estimates: of the paired scores.
        evidence: see there; its p and intervals are None only where the estimates' are.
    """
    who, interval = _who(question), estimates.seed_interval
    title, n = question.metric.title, estimates.num_pairs
    if estimates.num_nonzero == 0:
        words = f"{who} are identical: no difference in {title} on any of {_count(n, 'seed')}."
        return Verdict("identical", None, words)
    if interval is None or evidence.p_holm is None:
        why = "n = 1" if n == 1 else f"all {n} differences are equal"
        amount = _amount(question, estimates)
        words = f"No verdict: no spread to judge by ({why}): {who} differ by {amount}."
        return Verdict("no_verdict", None, words)
    if n < evidence.seeds_floor:
        words = (
            f"Too few seeds: needs {evidence.seeds_floor} for a family of "
            f"{_count(evidence.num_comparisons, 'comparison')}, has {n} of {who}."
        )
        return Verdict("too_few_seeds", None, words)
    significant = evidence.p_holm < error_rate(question.confidence)
    numbers = _numbers(question, estimates, evidence)
    if interval.excludes_zero and significant:
        return _better_or_worse(question, estimates, evidence, numbers)
    effect, tost = evidence.smallest_effect, evidence.equivalence_interval
    if effect is not None and tost is not None and tost.inside(effect):
        words = f"{who} are equivalent within {_plain(question, effect)}: {numbers}."
        return Verdict("equivalent", None, words)
    if interval.excludes_zero or significant:
        missing = (
            "the adjusted p-value does not" if interval.excludes_zero else "the interval does not"
        )
        words = f"Suggestive, not established: {who} differ by {numbers}; {missing} confirm it."
        return Verdict("suggestive", None, words)
    words = f"No detectable difference between {who}: {numbers}{_detectable(question, evidence)}."
    return Verdict("no_detectable_difference", None, words)


def _better_or_worse(
    question: Question, estimates: PairedEstimates, evidence: Evidence, numbers: str
) -> Verdict:
    improved = (estimates.difference > 0) == question.metric.higher_is_better
    key: Key = "better" if improved else "worse"
    claim = f"{question.treatment} is {key} than {question.baseline}"
    effect = evidence.smallest_effect
    if effect is None or evidence.size_interval is None or evidence.equivalence_interval is None:
        return Verdict(key, None, f"{claim}: {numbers}.")
    bound = _plain(question, effect)
    if evidence.size_interval.beyond(effect):
        return Verdict(key, "more_than", f"{claim} by more than {bound}: {numbers}.")
    if evidence.equivalence_interval.inside(effect):
        return Verdict(key, "less_than", f"{claim}, but by less than {bound}: {numbers}.")
    words = f"{claim}, size unresolved (more or less than {bound}): {numbers}."
    return Verdict(key, "unresolved", words)


def _who(question: Question) -> str:
    return f"{question.treatment} and {question.baseline}"


def _numbers(question: Question, estimates: PairedEstimates, evidence: Evidence) -> str:
    interval = estimates.seed_interval
    if interval is None:
        return _amount(question, estimates)
    low, high = (_signed(question.metric, x) for x in (interval.ci_low, interval.ci_high))
    direction = "" if question.metric.higher_is_better else "lower is better; "
    p = f"p = {evidence.p_holm:.2g}"
    if evidence.num_comparisons > 1:
        p += f" adjusted for {evidence.num_comparisons} comparisons"
    return (
        f"{_amount(question, estimates)} ({direction}{100 * question.confidence:g}% interval "
        f"{low} to {high}, n = {estimates.num_pairs}, {p})"
    )


def _amount(question: Question, estimates: PairedEstimates) -> str:
    metric, difference = question.metric, estimates.difference
    unit = " percentage points" if metric.is_fraction else ""
    return f"{_signed(metric, difference)}{unit} in {metric.title}"


def _detectable(question: Question, evidence: Evidence) -> str:
    if evidence.detectable_effect is None or evidence.verdict_power is None:
        return ""
    words = (
        f"; detectable is {_plain(question, evidence.detectable_effect)} (by a paired t test with "
        f"80% power; this rule's power there is {100 * evidence.verdict_power:.0f}%)"
    )
    if evidence.seeds_needed is not None and evidence.smallest_effect is not None:
        words += f"; for {_plain(question, evidence.smallest_effect)} that test needs about "
        words += _count(evidence.seeds_needed, "seed")
    return words


def _plain(question: Question, value: float) -> str:
    if not question.metric.is_fraction:
        return f"{value:.3g}"
    return _count(f"{100 * value:.3g}", "percentage point")


def _signed(metric: Metric, value: float) -> str:
    if metric.is_fraction:
        return f"{round(100 * value, 2) + 0.0:+.2f}"  # + 0.0: no "-0.00"
    return f"{value + 0.0:+.4g}"


def _count(n: int | str, noun: str) -> str:
    return f"{n} {noun}" + ("" if str(n) == "1" else "s")
