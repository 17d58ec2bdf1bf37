"""Which runs are compared with which: pairs of one seed, and what became of seeds without one."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from cwjax.analysis.metrics import Metric
from cwjax.arms.arm import NULL_CONTROL
from cwjax.config import Policy
from cwjax.errors import ConfigError


@dataclass(frozen=True)
class Pairing:
    """One comparison to make, by name."""

    cell: str
    """What tells this data from the other cells'; empty where there is only one."""
    baseline: str
    treatment: str
    same_as: str | None = None
    """The baseline, or another treatment, that has equal settings: the two count once."""
    control: bool = False
    """An A/A control: judged alone, outside the family."""

    @property
    def key(self) -> tuple[str, str, str]:
        """Equal for comparisons that count once in the family."""
        return (self.cell, self.baseline, self.same_as or self.treatment)

    @property
    def in_family(self) -> bool:
        """Whether it counts: no control, and not the baseline under another name."""
        return not self.control and self.same_as != self.baseline


def pairings(
    arms: Sequence[str],
    baseline: str,
    equal_arms: Mapping[str, str],
    cell: str = "",
    *,
    controls: Collection[str] = (NULL_CONTROL,),
) -> tuple[Pairing, ...]:
    """Every arm of one cell with the baseline; those of several cells together are one family.

    Args:
        arms: their names, the baseline among them.
        baseline: its name.
        equal_arms: arms that were not trained themselves -> the arm with equal settings that was.
        cell: its name.
        controls: names of A/A controls, where they are among the arms.

    Raises:
        ConfigError: unknown or repeated names.
    """
    unknown = ({baseline} | equal_arms.keys() | set(equal_arms.values())) - set(arms)
    if unknown:
        raise ConfigError(
            f"no arm named {', '.join(sorted(unknown))}: the arms are {', '.join(arms)}"
        )
    if len(set(arms)) < len(arms):
        raise ConfigError(f"arms {', '.join(arms)}: name each once")

    def trained_as(arm: str) -> str:
        return equal_arms.get(arm, arm)

    def twin(arm: str) -> str | None:
        other = baseline if trained_as(arm) == trained_as(baseline) else trained_as(arm)
        return other if other != arm else None

    return tuple(
        Pairing(cell, baseline, arm, twin(arm), arm in controls) for arm in arms if arm != baseline
    )


def family_size(family: Sequence[Pairing]) -> int:
    """How many comparisons share one error rate: equal arms count once, controls do not.

    Args:
        family: of all cells of a study.
    """
    return len({pairing.key for pairing in family if pairing.in_family})


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
        """The seeds of all runs, good and bad."""
        return {*self.scores, *self.bad_runs}


@dataclass(frozen=True)
class BadRun:
    """A run without a score."""

    arm: str
    seed: int
    status: str
    """"diverged", "failed", or "undefined" where it has ended well but this metric is not."""


@dataclass(frozen=True)
class SeedFacts:
    """What the reader must know about the seeds of a comparison."""

    lacking: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Arm -> seeds that only the other arm has; they are not compared."""
    dropped: tuple[BadRun, ...] = ()
    """Runs that were left out with their pairs."""
    worst: tuple[BadRun, ...] = ()
    """Runs that were counted with the metric's worst score."""
    refused: tuple[BadRun, ...] = ()
    """Runs that no rule covers; with any, there is nothing to compare."""
    undefined: tuple[BadRun, ...] = ()
    """Runs whose score is NaN or infinite."""


@dataclass(frozen=True)
class Matched:
    """The scores of a pairing, seed by seed."""

    seeds: tuple[int, ...]
    baseline_scores: tuple[float, ...]
    treatment_scores: tuple[float, ...]
    facts: SeedFacts


def match(
    baseline: ArmScores, treatment: ArmScores, metric: Metric, policy: Policy | None
) -> Matched:
    """Lines up the scores of the seeds that both arms have.

    Args:
        baseline: its runs.
        treatment: its runs.
        metric: of their scores.
        policy: for runs without a score: "drop-pair" leaves both runs of that seed out,
            "worst-score" gives them the metric's worst score if it has one, None is no rule.

    Raises:
        ConfigError: no seed in common.
    """
    arms = (baseline, treatment)
    all_seeds = baseline.seeds | treatment.seeds
    common = sorted(baseline.seeds & treatment.seeds)
    if not common:
        raise ConfigError(
            f"{treatment.name} and {baseline.name} have no seed in common: give both runs of the "
            "same seeds"
        )
    lacking = {arm.name: tuple(sorted(all_seeds - arm.seeds)) for arm in arms}
    lacking = {name: seeds for name, seeds in lacking.items() if seeds}
    bad, fill = _bad_runs(arms, common), math.nan
    dropped: tuple[BadRun, ...] = ()
    worst: tuple[BadRun, ...] = ()
    if policy is None or (policy == "worst-score" and metric.worst is None):
        uncovered = _bad_runs(arms, sorted(all_seeds))
        if uncovered:
            return Matched((), (), (), SeedFacts(lacking, refused=uncovered))
    elif bad and policy == "drop-pair":
        common = [seed for seed in common if all(seed in arm.scores for arm in arms)]
        dropped = bad
    elif bad and metric.worst is not None:
        fill, worst = metric.worst, bad
    scores = [tuple(arm.scores.get(seed, fill) for seed in common) for arm in arms]
    undefined = tuple(
        BadRun(arm.name, seed, "undefined")
        for arm, of_arm in zip(arms, scores, strict=True)
        for seed, score in zip(common, of_arm, strict=True)
        if not math.isfinite(score)
    )
    facts = SeedFacts(lacking, dropped, worst, undefined=undefined)
    return Matched(tuple(common), scores[0], scores[1], facts)


def _bad_runs(arms: Sequence[ArmScores], seeds: Sequence[int]) -> tuple[BadRun, ...]:
    return tuple(
        BadRun(arm.name, seed, arm.bad_runs[seed])
        for arm in arms
        for seed in seeds
        if seed in arm.bad_runs
    )
