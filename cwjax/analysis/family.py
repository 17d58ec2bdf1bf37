"""Comparisons that share one error rate: estimates, adjusted p-values, verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cwjax.analysis.new_test_sets import NewTestSetInterval
from cwjax.analysis.pairing import Matched, Pair, match
from cwjax.analysis.rules import Rules
from cwjax.analysis.stats import PairedEstimates, holm, paired_estimates
from cwjax.analysis.verdict import (
    Evidence,
    Question,
    Verdict,
    decide,
    gather_evidence,
    no_pairs,
    refused,
)
from cwjax.errors import ConfigError


@dataclass(frozen=True)
class Comparison:
    """One comparison made; `dataclasses.asdict` of it is plain JSON without NaN."""

    baseline: str
    treatment: str
    metric: str
    cell: str
    control: bool
    seeds: tuple[int, ...]
    """Of the pairs that were compared."""
    differences: tuple[float, ...]
    """Treatment - baseline, one a seed."""
    notes: tuple[str, ...]
    """What the reader must know about seeds and runs; the verdict's words end with them."""
    estimates: PairedEstimates | None
    """None where the comparison is refused, no pair is left or a secondary metric is undefined."""
    evidence: Evidence | None
    """None where estimates is, and for a secondary metric."""
    verdict: Verdict | None
    """None for a secondary metric."""
    new_test_sets: NewTestSetInterval | None = None
    """Put in (`dataclasses.replace`) by who has the logits of these seeds."""


def compare_family(pairs: Sequence[Pair], rules: Rules) -> tuple[Comparison, ...]:
    """Make comparisons that share one error rate, e.g. all cells of a sweep.

    Comparisons without a p-value (refused, identical, no spread) stay in the family, as p = 1.

    Args:
        pairs: the comparisons to make.
        rules: see there.

    Returns:
        One comparison a pair, in their order.

    Raises:
        ConfigError: no seed in common, or a primary metric that is undefined (NaN) in a run.
    """
    matched = [match(pair, rules.metric, rules.diverged) for pair in pairs]
    undefined = ", ".join(run for m in matched for run in m.undefined)
    if undefined and rules.primary:
        raise ConfigError(
            f"{rules.metric.title} is undefined for {undefined}: choose another primary metric"
        )
    estimates = [_estimates(m, rules) for m in matched]
    adjusted = _adjust(pairs, estimates, rules.num_comparisons)
    return tuple(
        _conclude(pair, m, e, p_holm, family_size, rules)
        for pair, m, e, (p_holm, family_size) in zip(
            pairs, matched, estimates, adjusted, strict=True
        )
    )


def _estimates(matched: Matched, rules: Rules) -> PairedEstimates | None:
    if not matched.seeds or matched.undefined:
        return None
    return paired_estimates(
        matched.baseline_scores,
        matched.treatment_scores,
        confidence=rules.confidence,
        higher_is_better=rules.metric.higher_is_better,
    )


def _adjust(
    pairs: Sequence[Pair], estimates: Sequence[PairedEstimates | None], num_comparisons: int
) -> list[tuple[float | None, int]]:
    """Each pair's p-value adjusted for its family, and the family's size."""
    raw = [e.p_value if e is not None else None for e in estimates]
    family = {
        pair.key: 1.0 if p is None else p
        for pair, p in zip(pairs, raw, strict=True)
        if pair.in_family
    }
    size = max(len(family), num_comparisons)
    adjusted = dict(zip(family, holm(list(family.values()), size), strict=True)) if family else {}
    return [
        (p, 1) if not pair.in_family else (None if p is None else adjusted[pair.key], size)
        for pair, p in zip(pairs, raw, strict=True)
    ]


def _conclude(
    pair: Pair,
    matched: Matched,
    estimates: PairedEstimates | None,
    p_holm: float | None,
    family_size: int,
    rules: Rules,
) -> Comparison:
    notes, evidence = list(matched.notes), None
    question = Question(pair.baseline.name, pair.treatment.name, rules.metric, rules.confidence)
    if not rules.primary:
        verdict = None
        left_out = [*matched.bad_runs, *(f"{run} (undefined)" for run in matched.undefined)]
        if left_out:
            notes.append(f"Not compared, because of {', '.join(left_out)}.")
    elif matched.bad_runs:
        verdict = refused(question, matched.bad_runs)
    elif estimates is None:
        verdict = no_pairs(question)
    else:
        evidence = gather_evidence(
            estimates, p_holm, family_size, rules.smallest_effect, rules.confidence
        )
        verdict = decide(question, estimates, evidence)
        if 0 < estimates.num_nonzero < evidence.seeds_floor <= estimates.num_pairs:
            notes.append(
                f"Only {estimates.num_nonzero} of {estimates.num_pairs} differences are not 0: too "
                "few for any significance."
            )
    if verdict is not None:
        verdict = replace(verdict, words=" ".join([verdict.words, *notes]))
    return Comparison(
        baseline=pair.baseline.name,
        treatment=pair.treatment.name,
        metric=rules.metric.name,
        cell=pair.cell,
        control=pair.control,
        seeds=matched.seeds,
        differences=tuple(
            t - b
            for b, t in zip(matched.baseline_scores, matched.treatment_scores, strict=True)
            if estimates is not None
        ),
        notes=tuple(notes),
        estimates=estimates,
        evidence=evidence,
        verdict=verdict,
    )
