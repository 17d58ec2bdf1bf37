"""Which runs are compared with which: pairs of one seed, and what became of seeds without one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cwjax.analysis.metrics import Metric
from cwjax.errors import ConfigError

Policy = Literal["drop-pair", "worst-score"]


@dataclass(frozen=True)
class ArmScores:
    """One arm's runs, by seed.

    Raises:
        ValueError: a seed is among both the good and the bad runs.
    """

    name: str
    scores: Mapping[int, float]
    """Score of each run that ended well."""
    bad_runs: Mapping[int, str] = field(default_factory=dict)
    """Status ("diverged" or "failed") of each of the others."""

    def __post_init__(self) -> None:
        both = sorted(self.scores.keys() & self.bad_runs.keys())
        if both:
            raise ValueError(f"{self.name} has seeds {both} both with a score and as bad runs")

    @property
    def seeds(self) -> set[int]:
        """Of all runs, good and bad."""
        return {*self.scores, *self.bad_runs}


@dataclass(frozen=True)
class Pair:
    """One comparison to make."""

    baseline: ArmScores
    treatment: ArmScores
    cell: str = ""
    """In a sweep: what tells this data from the other cells', e.g. "mnist long_tailed 100"."""
    same_as: str | None = None
    """The baseline, or another treatment, that has equal settings: the two count once."""
    control: bool = False
    """An A/A control: judged alone, outside the family."""

    @property
    def key(self) -> tuple[str, str, str]:
        """Equal for comparisons that count once in the family."""
        return (self.cell, self.baseline.name, self.same_as or self.treatment.name)

    @property
    def in_family(self) -> bool:
        """Whether it counts: no control, and not the baseline under another name."""
        return not self.control and self.same_as != self.baseline.name


@dataclass(frozen=True)
class Matched:
    """The scores of a pair, seed by seed."""

    seeds: tuple[int, ...]
    baseline_scores: tuple[float, ...]
    treatment_scores: tuple[float, ...]
    bad_runs: tuple[str, ...]
    """Runs that no rule covers; with any, there is nothing to compare."""
    undefined: tuple[str, ...]
    """Runs whose score is NaN or infinite."""
    notes: tuple[str, ...]
    """Sentences that the reader must see: seeds left out, scores put in."""


def match(pair: Pair, metric: Metric, policy: Policy | None) -> Matched:
    """Line up the scores of the seeds that both arms have.

    Args:
        pair: the arms.
        metric: of their scores.
        policy: for runs without a score: "drop-pair" leaves both runs of that seed out,
            "worst-score" gives them the metric's worst score if it has one, None is no rule.

    Raises:
        ConfigError: no seed in common.
    """
    arms = (pair.baseline, pair.treatment)
    common = sorted(pair.baseline.seeds & pair.treatment.seeds)
    if not common:
        raise ConfigError(
            f"{pair.treatment.name} and {pair.baseline.name} have no seed in common: give both "
            "runs of the same seeds"
        )
    notes = [*_same_arm_note(pair), *_unequal_seeds_note(arms, len(common))]
    bad, fill = _names(arms, common), math.nan
    if policy is None or (policy == "worst-score" and metric.worst is None):
        uncovered = _names(arms, sorted(pair.baseline.seeds | pair.treatment.seeds))
        if uncovered:
            return Matched((), (), (), uncovered, (), tuple(notes))
    elif bad and policy == "drop-pair":
        common = [s for s in common if all(s in arm.scores for arm in arms)]
        notes.append(f"Left out with their pairs: {', '.join(bad)}.")
    elif bad and metric.worst is not None:
        fill = metric.worst
        notes.append(f"Counted with the worst score, {fill:g}: {', '.join(bad)}.")
    baseline, treatment = (tuple(arm.scores.get(s, fill) for s in common) for arm in arms)
    undefined = tuple(
        f"{arm.name} seed {s}"
        for arm, scores in zip(arms, (baseline, treatment), strict=True)
        for s, score in zip(common, scores, strict=True)
        if not math.isfinite(score)
    )
    return Matched(tuple(common), baseline, treatment, (), undefined, tuple(notes))


def _names(arms: Sequence[ArmScores], seeds: Sequence[int]) -> tuple[str, ...]:
    """The bad runs among these seeds, in words."""
    return tuple(
        f"{arm.name} seed {s} ({arm.bad_runs[s]})"
        for arm in arms
        for s in seeds
        if s in arm.bad_runs
    )


def _same_arm_note(pair: Pair) -> list[str]:
    if pair.same_as is None:
        return []
    return [f"{pair.treatment.name} has the same settings as {pair.same_as} here: trained once."]


def _unequal_seeds_note(arms: Sequence[ArmScores], num_common: int) -> list[str]:
    all_seeds = set().union(*(arm.seeds for arm in arms))
    lacking = [
        f"{arm.name} lacks {', '.join(map(str, sorted(all_seeds - arm.seeds)))}"
        for arm in arms
        if all_seeds - arm.seeds
    ]
    if not lacking:
        return []
    return [
        f"UNEQUAL SEEDS: only the {num_common} that both arms have are compared "
        f"({'; '.join(lacking)})."
    ]
