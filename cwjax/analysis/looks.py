"""Looking at results before all seeds are trained, without paying for it in false verdicts.

Planned looks: the numbers of seeds at which results are read are fixed before the runs, and the
error rate is spent linearly over them (Lan & DeMets 1983) on joint sign flips, as AdaStop does
(Mathieu et al. 2023, arXiv 2306.10882). An arm that is decided needs no further seeds.

Unplanned looks: a design that is extended after it was judged is judged more strictly each time.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import scipy.stats

from cwjax.analysis.flips import LOG2_ROWS, flips_for
from cwjax.analysis.intervals import FloatArray, error_rate
from cwjax.analysis.paired import (
    MIN_SEEDS,
    TIE_TOLERANCE,
    Differences,
    Judged,
    Levels,
    Sample,
    boundaries,
    can_reject,
    describe,
    finite_or_none,
    left_out,
    on_common_scale,
    t_quantile,
    to_t,
    without_verdict,
)
from cwjax.errors import ConfigError

FUTILE_POWER = 0.05
"""An arm whose power to show the smallest effect of interest falls below this is given up."""

NUM_LOOKS = 5
"""How many looks there are where a plan says only how many seeds there may be."""


@dataclass(frozen=True)
class LookPlan:
    """When results are read; fixed before the runs.

    Raises:
        ConfigError: looks that do not ascend, or come before any result could be significant.
    """

    looks: tuple[int, ...]
    """Number of seeds at each look; the last is the largest number that is ever trained."""
    confidence: float = 0.95
    """1 - α, for the whole family and all looks together."""
    smallest_effect: float | None = None
    """Smallest difference that would matter, in the unit of the scores. With it an arm also stops
    when it is equivalent or futile, and a decided arm goes on until its size is resolved."""

    def __post_init__(self) -> None:
        if not self.looks or list(self.looks) != sorted(set(self.looks)):
            raise ConfigError(f"looks are {self.looks}: give ascending numbers of seeds")
        first = first_look(self.looks[-1], self.confidence)
        if self.looks[0] < first:
            raise ConfigError(
                f"a look at {self.looks[0]} of {self.looks[-1]} seeds cannot decide anything: look "
                f"first at {first} or more"
            )

    @property
    def alphas(self) -> tuple[float, ...]:
        """Error spent up to each look: α·n/N."""
        alpha, last = error_rate(self.confidence), self.looks[-1]
        return tuple(alpha * n / last for n in self.looks)


def first_look(max_seeds: int, confidence: float = 0.95) -> int:
    """The smallest number n of seeds at which α·n/N can be reached: 8 of 30.

    Raises:
        ConfigError: `max_seeds` are too few to decide anything.
    """
    alpha = error_rate(confidence)
    for n in range(MIN_SEEDS, max_seeds + 1):
        if can_reject(n, alpha * n / max_seeds):
            return n
    enough = next(n for n in range(MIN_SEEDS, 1100) if can_reject(n, alpha))
    raise ConfigError(f"{max_seeds} seeds cannot decide anything: give at least {enough}")


def default_looks(max_seeds: int, confidence: float = 0.95) -> tuple[int, ...]:
    """About five looks, evenly spaced on a logarithmic scale and rounded to multiples of 5.

    The joint test needs no more seeds for more arms, so their number does not matter here.

    >>> default_looks(30)
    (8, 10, 15, 20, 30)
    >>> default_looks(6)
    (6,)

    Args:
        max_seeds: N, the last look.
        confidence: 1 - α.

    Raises:
        ConfigError: `max_seeds` are too few to decide anything.
    """
    first = first_look(max_seeds, confidence)
    between = np.geomspace(first, max_seeds, NUM_LOOKS)[1:-1]
    rounded = {round(n) if n < 10 else 5 * round(n / 5) for n in between.tolist()}
    return tuple(sorted({first, max_seeds, *(n for n in rounded if first < n < max_seeds)}))


Stop = Literal["decided", "equivalent", "futile"]


@dataclass(frozen=True)
class Look:
    """What was read at one look; `None` stands for infinity."""

    num_seeds: int
    boundary: float | None
    """|t| that decides at this look, for the arms that are still undecided after it (before it,
    where all are decided)."""
    boundary_of_all: float | None
    """|t| of the simultaneous intervals: the boundary of all arms."""
    t: tuple[float | None, ...]
    """|t| of each arm on the seeds it has; None where infinite or without seeds."""
    decided: tuple[int, ...]
    """Arms that are decided at this look, by their place in the input."""


@dataclass(frozen=True)
class ArmState:
    """Where one arm stands after a look."""

    judged: Judged
    """The facts that count: of the look at which the arm stopped, or of the latest. No p: the
    boundaries of planned looks are what |t| is held against."""
    decided_at: int | None
    """Seeds of the look at which it was decided."""
    stopped: Stop | None
    """Why it needs no further seeds; None while it does, or when all are used."""
    needs_seeds: bool


@dataclass(frozen=True)
class LooksState:
    """A planned design after some of its looks."""

    looks: tuple[Look, ...]
    arms: tuple[ArmState, ...]
    """In the order given."""


def judge_looks(
    comparisons: Sequence[Differences],
    seeds: Sequence[int],
    plan: LookPlan,
    num_looks: int,
    *,
    log2_flips: int = LOG2_ROWS,
) -> LooksState:
    """Replay the first looks of a plan: what was decided when, and who needs more seeds.

    The answer depends on the plan, the order of seeds and the differences only. Seeds that an arm
    was given beyond the look at which it stopped are not looked at.

    Args:
        comparisons: each distinct one once, as in `paired.judge_family`; an arm may lack seeds.
        seeds: in the order in which they are trained, at least as many as the last look taken has.
        plan: fixed before the runs.
        num_looks: looks taken so far, 1 or more.
        log2_flips: base-2 logarithm of the number of flips.

    Raises:
        ValueError: more looks than the plan or the seeds have.
    """
    if not 1 <= num_looks <= len(plan.looks):
        raise ValueError(f"num_looks is {num_looks}: the plan has {len(plan.looks)}")
    num_seeds = plan.looks[num_looks - 1]
    if len(seeds) < num_seeds:
        raise ValueError(f"{len(seeds)} seeds: look {num_looks} has {num_seeds}")
    replay = _Replay(comparisons, seeds[:num_seeds], plan, log2_flips)
    looks = tuple(replay.take_look() for _ in range(num_looks))
    last = num_looks == len(plan.looks)
    arms = tuple(
        ArmState(facts, at, stopped, needs_seeds=stopped is None and not last)
        for facts, at, stopped in zip(replay.facts, replay.decided_at, replay.stopped, strict=True)
    )
    return LooksState(looks, arms)


class _Replay:
    """The looks of a plan, one after the other."""

    def __init__(
        self,
        comparisons: Sequence[Differences],
        seeds: Sequence[int],
        plan: LookPlan,
        log2_flips: int,
    ) -> None:
        self.comparisons, self.seeds, self.plan = comparisons, seeds, plan
        m = len(comparisons)
        self.flips = flips_for(len(seeds), m * len(plan.looks), log2_flips)
        self.sums = np.zeros((m, self.flips.num_rows))
        self.statistics: list[FloatArray] = []
        """For each look, the statistic of each arm under each flip; 0 where it cannot reject."""
        self.samples = [c.on(()) for c in comparisons]
        self.undecided = list(range(m))
        self.decided_with: dict[int, float] = {}
        self.decided_sign: dict[int, int] = {}
        alpha = error_rate(plan.confidence)
        self.levels = Levels(alpha, alpha, alpha, log2_flips)
        self.facts = [without_verdict(s, "too_few_seeds", self.levels) for s in self.samples]
        self.decided_at: list[int | None] = [None] * m
        self.stopped: list[Stop | None] = [None] * m

    def take_look(self) -> Look:
        """Add the seeds of the next look to the arms that go on, decide, and see who stops."""
        k, plan = len(self.statistics), self.plan
        num_seeds, nominal = plan.looks[k], self.levels.nominal
        active = [i for i, stopped in enumerate(self.stopped) if stopped is None]
        self._add_seeds(plan.looks[k - 1] if k else 0, num_seeds, active)
        reference = max(sample.size for sample in self.samples)
        of_all = self._boundary(range(len(self.samples)))
        boundary, decided = of_all, []
        while left := [i for i in self.undecided if self.statistics[k][i].any()]:
            boundary = self._boundary(left)
            crossing = [
                i
                for i in left
                if self.statistics[k][i, 0] > boundary + TIE_TOLERANCE
                and self.samples[i].t > t_quantile(nominal, self.samples[i].size)
            ]
            if not crossing:
                break
            decided += crossing
            for i in crossing:
                self.undecided.remove(i)
                self.decided_with[i] = to_t(boundary, reference)
                self.decided_sign[i], self.decided_at[i] = self.samples[i].sign, num_seeds
        for i in active:
            self.facts[i] = self._describe(i, to_t(of_all, reference))
            self.stopped[i] = self._stop(i)
        return Look(
            num_seeds,
            finite_or_none(to_t(boundary, reference)),
            finite_or_none(to_t(of_all, reference)),
            tuple(finite_or_none(s.t) if s.std is not None else None for s in self.samples),
            tuple(sorted(decided)),
        )

    def _add_seeds(self, first: int, last: int, active: Sequence[int]) -> None:
        new = np.zeros((len(self.samples), last))
        for i in active:
            added = self.comparisons[i].on(self.seeds[first:last])
            column = {seed: first + j for j, seed in enumerate(self.seeds[first:last])}
            new[i, [column[seed] for seed in added.seeds]] = added.values
            self.samples[i] = self.comparisons[i].on(self.seeds[:last])
        self.sums += self.flips.sums(new)
        squares = np.array([(sample.values**2).sum() for sample in self.samples])
        statistics = on_common_scale(self.sums.copy(), [s.size for s in self.samples], squares)
        spent = self.plan.alphas[len(self.statistics)]
        for row, sample in zip(statistics, self.samples, strict=True):
            if not can_reject(sample.num_nonzero, spent):
                row[:] = 0
        self.statistics.append(statistics)

    def _boundary(self, arms: Sequence[int]) -> float:
        """The statistic that decides at the latest look when these arms are undecided."""
        if not self.statistics[-1][arms].any():
            return 1.0
        maxima = [statistics[arms].max(axis=0) for statistics in self.statistics]
        return boundaries(maxima, self.plan.alphas[: len(maxima)])[-1]

    def _describe(self, arm: int, critical_value: float) -> Judged:
        sample, spent = self.samples[arm], self.plan.alphas[len(self.statistics) - 1]
        levels = replace(self.levels, spent=spent)
        if not can_reject(sample.num_nonzero, spent):
            return replace(left_out(sample, critical_value, levels), p_raw=None, p=None)
        observed = self.statistics[-1][arm, 0]
        return describe(
            sample,
            critical_value,
            levels,
            flips_alone=bool(observed > self._boundary([arm]) + TIE_TOLERANCE),
            decided_with=self.decided_with.get(arm),
            decided_sign=self.decided_sign.get(arm),
        )

    def _stop(self, arm: int) -> Stop | None:
        """Why the arm needs no seeds after this look, if it does not."""
        facts, effect = self.facts[arm], self.plan.smallest_effect
        if effect is None:
            return "decided" if facts.decided else None
        inside = facts.interval is not None and facts.interval.inside(effect)
        if facts.decided:
            return "decided" if inside or facts.beyond(effect) else None
        if inside:
            return "equivalent"
        more = self.plan.looks[-1] - self.plan.looks[len(self.statistics) - 1]
        alpha = self.levels.nominal / len(self.samples)
        futile = (
            facts.status == "judged"
            and more > 0
            and conditional_power(self.samples[arm], effect, more, alpha) < FUTILE_POWER
        )
        return "futile" if futile else None


def conditional_power(sample: Sample, effect: float, more_seeds: int, alpha: float) -> float:
    """The chance that |t| over all seeds exceeds t(1 - α/2, N - 1), given the seeds so far.

    Normal formula (Lan, Simon & Halperin 1982) for a true difference of `effect` in the direction
    that has been seen, with the standard deviation that has been seen.

    Args:
        sample: the differences so far, n ≥ 2.
        effect: in the unit of the scores, above 0.
        more_seeds: N - n, at least 1.
        alpha: of the test at the end, e.g. α/m for one of m comparisons.
    """
    if not sample.std:
        return 1.0
    n, total = sample.size, sample.size + more_seeds
    expected = sample.t * math.sqrt(n) + more_seeds * effect / sample.std
    missing = t_quantile(alpha, total) * math.sqrt(total) - expected
    return float(scipy.stats.norm.sf(missing / math.sqrt(more_seeds)))


@dataclass(frozen=True)
class Judging:
    """One judging of a design without planned looks, to be kept beside its results."""

    look: int
    """How many judgings counted so far, this one included; 0 as long as none could reject."""
    alpha: float
    """What the adjusted p of this judging is held against."""
    seeds: frozenset[int]
    """All seeds that were ever judged."""


def judge_again(
    previous: Judging | None, seeds: Collection[int], confidence: float = 0.95
) -> Judging:
    """The judging that follows: stricter if seeds were added after a look.

    Look k ≥ 2 is held against α/(k(k + 1)), so that all looks together err with a probability
    below α(1 + ½) however many there are. A judging counts if it has seeds that none before it had,
    and could reject with so many: a pilot of two seeds is free, added arms judge the same look
    again.

    >>> first = judge_again(None, range(10))
    >>> second = judge_again(first, range(20))
    >>> (first.alpha, second.look, round(second.alpha, 5))
    (0.05, 2, 0.00833)

    Args:
        previous: the judging before, if there was one.
        seeds: the most that any comparison of this judging has.
        confidence: 1 - α.
    """
    alpha, before = error_rate(confidence), previous.look if previous else 0
    known = previous.seeds if previous else frozenset()
    if previous and known.issuperset(seeds):
        return previous
    look = before + 1
    held = alpha if look == 1 else alpha / (look * (look + 1))
    counts = can_reject(len(set(seeds)), held)
    return Judging(look if counts else before, held, known.union(seeds))


def judge_merged(
    parts: Sequence[Judging], seeds: Collection[int], confidence: float = 0.95
) -> Judging:
    """The first judging of designs that were merged: one look more than the part with most.

    Args:
        parts: the latest judging of each part that was judged.
        seeds: and `confidence` as in `judge_again`.
        confidence: 1 - α.
    """
    everything = frozenset(seeds).union(*(part.seeds for part in parts))
    looks = max((part.look for part in parts), default=0)
    judging = judge_again(Judging(looks, 0.0, frozenset()), seeds, confidence)
    return replace(judging, seeds=everything)
