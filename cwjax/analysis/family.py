"""Every arm against the baseline, judged together: scores by seed in, typed facts out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cwjax.analysis import rule_power
from cwjax.analysis.decision import Verdict, decide
from cwjax.analysis.intervals import Interval, error_rate
from cwjax.analysis.looks import LookPlan, LooksState, Stop, judge_looks
from cwjax.analysis.paired import Differences, Judged, judge_family
from cwjax.analysis.pairing import ArmScores, Matched, Pairing, SeedFacts, family_size, match
from cwjax.analysis.resampled import Resampled, inflation, judge_resampled
from cwjax.analysis.rules import Rules
from cwjax.analysis.stats import PairedEstimates, paired_estimates
from cwjax.errors import ConfigError


@dataclass(frozen=True)
class Power:
    """What the rule can see, by simulation of this rule for this family."""

    detectable_effect: float
    """The difference that it detects in 80% of cases."""
    seeds_needed: int | None
    """With which it detects the smallest effect of interest in 80% of cases; None without one."""


@dataclass(frozen=True)
class Comparison:
    """One comparison made: facts, no words."""

    pairing: Pairing
    metric: str
    seeds: tuple[int, ...]
    """The seeds that the facts rest on; a decided arm keeps those of the look that decided it."""
    differences: tuple[float, ...]
    """Treatment - baseline, one per seed."""
    facts: SeedFacts
    """What the reader must know about the seeds."""
    estimates: PairedEstimates | None
    """None where the comparison is refused, no pair is left or a secondary metric is undefined."""
    judged: Judged | None
    """None where estimates is, and for a secondary metric."""
    verdict: Verdict | None
    """None for a secondary metric."""
    smallest_effect: float | None = None
    """The smallest difference of interest, if one was given; in the unit of the scores."""
    num_comparisons: int = 1
    """Comparisons that share one error rate with this one; 1 outside the family."""
    power: Power | None = None
    """None where `judged` has nothing to say of size."""
    new_test_sets: Interval | None = None
    """Over new seeds and new test examples; put in by `conclude`, by who has the logits."""
    deterministic: bool = False
    """Whether both arms predict the same on every seed; put in by `conclude`."""
    stopped: Stop | None = None
    """At planned looks: why the arm needed no further seeds."""
    needs_seeds: bool = False
    """At planned looks: whether it is to be trained on the seeds of the next one."""


@dataclass(frozen=True)
class Pair:
    """A comparison to make, with the scores of its arms."""

    pairing: Pairing
    baseline: ArmScores
    treatment: ArmScores


@dataclass(frozen=True)
class Seeds:
    """How the seeds of a study were planned, which decides how strictly they are judged."""

    plan: LookPlan | None = None
    """When results are read, if that was planned."""
    order: tuple[int, ...] = ()
    """All seeds in the order in which they are trained; for planned looks."""
    num_looks: int = 0
    """Planned looks taken so far."""
    alpha: float | None = None
    """What an unplanned, repeated judging is held against [default: 1 - confidence]."""
    splits: Mapping[str, tuple[int, int]] | None = None
    """Cell -> test and training examples, where every seed draws its own test split."""

    def inflation(self, cell: str, num_seeds: int) -> float:
        """Factor of standard errors over seeds: above 1 where their splits share examples."""
        return 1.0 if self.splits is None else inflation(num_seeds, *self.splits[cell])


@dataclass(frozen=True)
class JudgedStudy:
    """All comparisons on one metric."""

    comparisons: tuple[Comparison, ...]
    looks: LooksState | None = None
    """What was read at the planned looks; None without a plan."""
    critical_value: float | None = None
    """|t| of the simultaneous intervals."""
    keys: tuple[tuple[str, str, str], ...] = ()
    """`Pairing.key` of the distinct comparisons of the family, as `looks` counts them."""


def compare_family(pairs: Sequence[Pair], rules: Rules, seeds: Seeds | None = None) -> JudgedStudy:
    """Makes comparisons that share one error rate: those of all cells of a study.

    A/A controls and the baseline under another name are judged outside the family; arms with equal
    settings count once.

    Args:
        pairs: the comparisons to make.
        rules: what they are judged by.
        seeds: how they were planned [default: a fixed number, judged once].

    Returns:
        One comparison per pair, in their order; verdicts claim no more than this test set until
        `conclude` knows better.

    Raises:
        ConfigError: no seed in common, or a primary metric that is undefined (NaN) in a run.
    """
    seeds = seeds or Seeds()
    matched = [match(pair.baseline, pair.treatment, rules.metric, rules.diverged) for pair in pairs]
    undefined = [run for each in matched for run in each.facts.undefined]
    if undefined and rules.primary:
        runs = ", ".join(f"{run.arm} seed {run.seed}" for run in undefined)
        raise ConfigError(
            f"{rules.metric.title} is undefined for {runs}: choose another primary metric"
        )
    if not rules.primary:
        return JudgedStudy(
            tuple(
                _comparison(pair, each, rules, seeds)
                for pair, each in zip(pairs, matched, strict=True)
            )
        )
    return _judge(pairs, matched, rules, seeds)


def _judge(
    pairs: Sequence[Pair], matched: Sequence[Matched], rules: Rules, seeds: Seeds
) -> JudgedStudy:
    family: dict[tuple[str, str, str], Differences] = {}
    for pair, each in zip(pairs, matched, strict=True):
        if pair.pairing.in_family and each.seeds:
            family.setdefault(pair.pairing.key, _differences(each))
    judged, state, critical = _judge_distinct(family, rules, seeds)
    arms = dict(zip(family, state.arms, strict=True)) if state is not None else {}
    size = max(family_size([pair.pairing for pair in pairs]), rules.num_comparisons)
    comparisons = []
    for pair, each in zip(pairs, matched, strict=True):
        key, in_family = pair.pairing.key, pair.pairing.in_family
        facts = None
        if each.seeds and in_family:
            facts = judged[key]
        elif each.seeds:
            fixed = replace(seeds, plan=None)
            facts = _judge_distinct({key: _differences(each)}, rules, fixed)[0][key]
        comparison = _comparison(pair, each, rules, seeds, facts, size if in_family else 1)
        if (arm := arms.get(key)) is not None:
            comparison = replace(comparison, stopped=arm.stopped, needs_seeds=arm.needs_seeds)
        comparisons.append(comparison)
    return JudgedStudy(tuple(comparisons), state, critical, tuple(family))


def _differences(matched: Matched) -> Differences:
    pairs = zip(matched.seeds, matched.baseline_scores, matched.treatment_scores, strict=True)
    by_seed = {seed: treatment - baseline for seed, baseline, treatment in pairs}
    scores = [*matched.baseline_scores, *matched.treatment_scores]
    return Differences(by_seed, scale=max(map(abs, scores), default=0) or 1.0)


def _judge_distinct(
    family: Mapping[tuple[str, str, str], Differences], rules: Rules, seeds: Seeds
) -> tuple[dict[tuple[str, str, str], Judged], LooksState | None, float | None]:
    """The facts of distinct comparisons, the state of planned looks, the critical value."""
    if not family:
        return {}, None, None
    differences = list(family.values())
    if seeds.plan is not None:
        state = judge_looks(differences, seeds.order, seeds.plan, seeds.num_looks)
        facts = [arm.judged for arm in state.arms]
        return dict(zip(family, facts, strict=True)), state, state.looks[-1].boundary_of_all
    # Without the scores of the others, Bonferroni's method stands for the joint distribution.
    others = max(1, math.ceil(rules.num_comparisons / len(family)))
    alpha = (seeds.alpha or error_rate(rules.confidence)) / others
    if seeds.splits is None:
        together = judge_family(differences, rules.confidence, alpha=alpha)
    else:
        resampled = [
            Resampled(each, *seeds.splits[cell])
            for (cell, _, _), each in zip(family, differences, strict=True)
        ]
        together = judge_resampled(resampled, rules.confidence, alpha=alpha)
    facts = [
        replace(each, p=None if each.p is None else min(1.0, others * each.p))
        for each in together.comparisons
    ]
    return dict(zip(family, facts, strict=True)), None, together.critical_value


def _comparison(
    pair: Pair,
    matched: Matched,
    rules: Rules,
    seeds: Seeds,
    judged: Judged | None = None,
    num_comparisons: int = 1,
) -> Comparison:
    """The facts of one comparison, on the seeds that were judged."""
    taken = set(matched.seeds if judged is None else judged.seeds)
    if matched.facts.undefined:
        taken = set()  # a difference that is NaN is none
    kept = [i for i, seed in enumerate(matched.seeds) if seed in taken]
    baseline = [matched.baseline_scores[i] for i in kept]
    treatment = [matched.treatment_scores[i] for i in kept]
    estimates = None
    if baseline:
        estimates = paired_estimates(
            baseline,
            treatment,
            confidence=rules.confidence,
            higher_is_better=rules.metric.higher_is_better,
            inflation=seeds.inflation(pair.pairing.cell, len(kept)),
        )
    comparison = Comparison(
        pairing=pair.pairing,
        metric=rules.metric.name,
        seeds=tuple(matched.seeds[i] for i in kept),
        differences=tuple(t - b for b, t in zip(baseline, treatment, strict=True)),
        facts=matched.facts,
        estimates=estimates,
        judged=judged,
        verdict=None,
        smallest_effect=rules.smallest_effect,
        num_comparisons=num_comparisons,
        power=None if judged is None else _power(judged, rules, num_comparisons, seeds),
    )
    if not rules.primary:
        return comparison
    return conclude(comparison, rules, splits_are_new=seeds.splits is not None)


def _power(judged: Judged, rules: Rules, size: int, seeds: Seeds) -> Power | None:
    std, looks = judged.difference_std, seeds.plan is not None
    if judged.status != "judged" or not std or seeds.splits is not None:
        return None
    number = len(seeds.order) if looks else len(judged.seeds)
    detectable = rule_power.detectable_effect(
        number, size, looks=looks, confidence=rules.confidence
    )
    if detectable is None:
        return None
    needed = None
    if rules.smallest_effect is not None:
        needed = rule_power.seeds_needed(
            rules.smallest_effect / std, size, looks=looks, confidence=rules.confidence
        )
    return Power(detectable * std, needed)


def conclude(
    comparison: Comparison,
    rules: Rules,
    *,
    new_test_sets: Interval | None = None,
    deterministic: bool = False,
    splits_are_new: bool = False,
) -> Comparison:
    """The comparison with its verdict, once what needs logits is known.

    Args:
        comparison: on the primary metric.
        rules: what it is judged by.
        new_test_sets: the interval over new seeds and new test examples, at the level of
            `comparison.judged.critical_value`; None where the metric has none.
        deterministic: whether both arms predict the same on every seed.
        splits_are_new: whether every seed draws its own test split.
    """
    verdict = decide(
        comparison.judged,
        higher_is_better=rules.metric.higher_is_better,
        smallest_effect=rules.smallest_effect,
        new_test_sets=new_test_sets,
        splits_are_new=splits_are_new,
        deterministic=deterministic,
    )
    return replace(
        comparison, verdict=verdict, new_test_sets=new_test_sets, deterministic=deterministic
    )
