"""Comparisons over the same seeds, judged together by one joint sign-flip distribution.

If the two arms of a comparison do not differ, the difference of each seed is as likely to be +x as
-x. Flipping the signs of *seeds*, the same for all comparisons, keeps how the comparisons depend on
each other (they share the baseline's runs), and the distribution of the largest |t| over the family
gives adjusted p-values (step-down max-T: Westfall & Young 1993, Romano & Wolf 2005) and intervals
that hold all together. NumPy and scipy only; differences in, typed facts out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from cwjax.analysis.flips import LOG2_ROWS, flips_for
from cwjax.analysis.intervals import FloatArray, Interval, error_rate, finite_array

TIE_TOLERANCE = 1e-12
"""Statistics, which lie in [0, 1], and differences, relative to the scores, tie within this."""

MIN_SEEDS = 6
"""Fewer seeds than that get no verdict, whatever the confidence."""

Status = Literal["judged", "identical", "too_few_seeds"]


@dataclass(frozen=True)
class Differences:
    """One comparison: what it differs by on each seed.

    Raises:
        ValueError: NaN or infinity, or a scale that is not above 0.
    """

    by_seed: Mapping[int, float]
    """Seed -> score(treatment) - score(baseline); comparisons may have different seeds."""
    scale: float = 1.0
    """Size of the scores: what is below 1e-12 of it is rounding. 1 suits fractions."""

    def __post_init__(self) -> None:
        if self.by_seed:
            finite_array(list(self.by_seed.values()), "differences")
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale is {self.scale}: give a number above 0")

    @classmethod
    def between(
        cls, seeds: Sequence[int], baseline: ArrayLike, treatment: ArrayLike
    ) -> Differences:
        """The differences of two arms' scores.

        Args:
            seeds: `[num_seeds]`, each once.
            baseline: scores `[num_seeds]`, in the order of the seeds.
            treatment: the same.

        Raises:
            ValueError: unequal lengths, no scores, NaN or infinity.
        """
        scores = finite_array(baseline, "baseline"), finite_array(treatment, "treatment")
        if not len(set(seeds)) == scores[0].size == scores[1].size:
            raise ValueError(
                f"{len(set(seeds))} seeds, {scores[0].size} and {scores[1].size} scores"
            )
        scale = float(np.abs(scores).max())
        return cls(dict(zip(seeds, (scores[1] - scores[0]).tolist(), strict=True)), scale or 1.0)

    def on(self, seeds: Sequence[int]) -> Sample:
        """The differences of those of the seeds that there are, in the order given."""
        own = tuple(seed for seed in seeds if seed in self.by_seed)
        values = np.array([self.by_seed[seed] for seed in own], np.float64)
        values[np.abs(values) <= TIE_TOLERANCE * self.scale] = 0.0
        return Sample(own, values, self.scale)


@dataclass(frozen=True, eq=False)
class Sample:
    """The differences that one judging looks at, rounding errors set to 0."""

    seeds: tuple[int, ...]
    values: FloatArray
    scale: float

    @property
    def size(self) -> int:
        """Number of seeds."""
        return len(self.seeds)

    @property
    def num_nonzero(self) -> int:
        """Seeds on which the arms differ: the others carry no sign to flip."""
        return int(np.count_nonzero(self.values))

    @cached_property
    def mean(self) -> float | None:
        """Mean difference, 0 if it is a rounding error; None without seeds."""
        if not self.size:
            return None
        mean = float(self.values.mean())
        return mean if abs(mean) > TIE_TOLERANCE * self.scale else 0.0

    @cached_property
    def std(self) -> float | None:
        """Standard deviation of the differences; 0 if they spread by rounding only."""
        if self.size < 2:
            return None
        spread = np.ptp(self.values)
        return float(self.values.std(ddof=1)) if spread > TIE_TOLERANCE * self.scale else 0.0

    @cached_property
    def t(self) -> float:
        """|t| = |mean|·√n/std; infinite for equal differences, 0 where there is nothing to test."""
        if not self.mean or self.std is None:
            return 0.0
        return abs(self.mean) * math.sqrt(self.size) / self.std if self.std > 0 else math.inf

    @property
    def sign(self) -> int:
        """The sign of the mean: -1, 0 or 1."""
        return int(np.sign(self.mean or 0.0))

    def interval(self, critical_value: float, confidence: float) -> Interval | None:
        """Mean ± critical_value·std/√n; None if that is unbounded or there is no spread to see."""
        if self.mean is None or self.std is None or math.isinf(critical_value):
            return None
        half = critical_value * self.std / math.sqrt(self.size)
        return Interval(self.mean - half, self.mean + half, confidence)


@dataclass(frozen=True)
class Judged:
    """What is known about one comparison; `dataclasses.asdict` of it is plain JSON."""

    status: Status
    """"identical": every difference is 0. "too_few_seeds": no flips of so few can reach α."""
    seeds: tuple[int, ...]
    """That the facts rest on."""
    difference: float | None
    """Mean difference; None without seeds."""
    difference_std: float | None
    """None with fewer than 2 seeds."""
    t: float | None
    """|t|; None where it is infinite (equal differences that are not 0) or there is none."""
    p_raw: float | None
    """Sign-flip p of this comparison alone; None unless judged, and at planned looks."""
    p: float | None
    """Adjusted for the family; None where p_raw is."""
    critical_value: float | None
    """Half-width of `interval` in standard errors: max(c, t(1 - α/2, n - 1)); None if infinite."""
    interval: Interval | None
    """All these intervals of the family hold together. None unless judged."""
    interval_alone: Interval | None
    """Student's interval of this comparison alone; None without spread."""
    decided: bool
    """Whether the difference is established, for the whole family."""
    decided_alone: bool
    """Whether it would be, were this the only comparison."""
    step_down_only: bool
    """Decided because others were decided first, or at an earlier look, while |t| does not exceed
    `critical_value`: the interval ends at 0."""
    sign: int
    """-1, 0 or 1: of the difference when it was decided, of the mean if undecided."""
    fragile_without: int | None
    """The seed without which a decided comparison's interval would hold 0, if there is one; of
    several, the one that matters most."""

    def beyond(self, effect: float) -> bool:
        """Whether all of `interval` lies farther from 0 than the effect, on the decided side."""
        if self.interval is None:
            return False
        nearest = self.interval.ci_low if self.sign > 0 else -self.interval.ci_high
        return nearest > effect


@dataclass(frozen=True)
class JudgedFamily:
    """Comparisons that share one error rate."""

    comparisons: tuple[Judged, ...]
    """In the order given."""
    critical_value: float | None
    """c: the 1 - α quantile of the largest |t|; None if infinite or no comparison is in the
    family."""


def judge_family(
    comparisons: Sequence[Differences],
    confidence: float = 0.95,
    *,
    alpha: float | None = None,
    log2_flips: int = LOG2_ROWS,
) -> JudgedFamily:
    """Judge comparisons together, once all their seeds are there.

    >>> shifts = {"balanced": 0.020, "focal": 0.001}
    >>> noise = [0.003, -0.001, 0.002, -0.002, 0.001, -0.003, 0.002, -0.002]
    >>> family = [Differences({i: s + x for i, x in enumerate(noise)}) for s in shifts.values()]
    >>> [judged.decided for judged in judge_family(family).comparisons]
    [True, False]

    Args:
        comparisons: each distinct one once: arms with equal settings, controls and refused pairs
            are for the caller to leave out.
        confidence: 1 - α.
        alpha: a stricter error rate of this judging, as `looks.judge_again` gives for a design that
            was extended; α without it.
        log2_flips: base-2 logarithm of the number of flips. Smaller only where a simulation has to
            be fast.

    Raises:
        ConfigError: so many seeds that it would take minutes.
    """
    nominal = error_rate(confidence)
    alpha = nominal if alpha is None else alpha
    samples = [c.on(sorted(c.by_seed)) for c in comparisons]
    in_family = [i for i, s in enumerate(samples) if can_reject(s.num_nonzero, alpha)]
    levels = Levels(nominal, alpha, alpha, log2_flips)
    if not in_family:
        judged = tuple(left_out(sample, 0.0, levels) for sample in samples)
        return JudgedFamily(judged, None)

    family = [samples[i] for i in in_family]
    reference = max(sample.size for sample in family)
    statistics = joint_statistics(family, log2_flips)
    observed = statistics[:, 0].copy()
    p_raw = _shares(statistics, observed)
    order = np.argsort(-observed, kind="stable")
    # Row j becomes the largest statistic over the comparisons not yet taken at step j.
    statistics = statistics[order]
    np.maximum.accumulate(statistics[::-1], axis=0, out=statistics[::-1])
    p = np.empty_like(p_raw)
    p[order] = np.maximum.accumulate(_shares(statistics, observed[order]))
    c = to_t(boundaries(statistics[:1], [alpha])[0], reference)
    facts = {}
    for step, k in enumerate(order):
        sample = family[k]
        decided_with = None
        if p[k] < alpha and sample.t > t_quantile(alpha, sample.size):
            decided_with = c
            if not sample.t > c:
                decided_with = to_t(boundaries(statistics[[step]], [alpha])[0], reference)
        alone = bool(p_raw[k] < nominal)
        described = describe(sample, c, levels, decided_with=decided_with, flips_alone=alone)
        facts[in_family[k]] = replace(described, p_raw=float(p_raw[k]), p=float(p[k]))
    judged = tuple(
        facts[i] if i in facts else left_out(sample, c, levels) for i, sample in enumerate(samples)
    )
    return JudgedFamily(judged, finite_or_none(c))


def can_reject(num_seeds: int, alpha: float) -> bool:
    """Whether so many flipped seeds can reach a p below α: the smallest p is 2/2^n."""
    return num_seeds >= MIN_SEEDS and 2.0 ** (1 - num_seeds) < alpha


def joint_statistics(samples: Sequence[Sample], log2_flips: int = LOG2_ROWS) -> FloatArray:
    """The statistic of every comparison under every flip: see `on_common_scale`.

    Args:
        samples: at least one. The seeds of all, sorted, are the columns of the flips.
        log2_flips: see `judge_family`.

    Returns:
        `[num_samples, num_flips]`; column 0 is what was observed.
    """
    column = {seed: i for i, seed in enumerate(sorted({s for x in samples for s in x.seeds}))}
    differences = np.zeros((len(samples), len(column)))
    for row, sample in zip(differences, samples, strict=True):
        row[[column[seed] for seed in sample.seeds]] = sample.values
    sums = flips_for(len(column), len(samples), log2_flips).sums(differences)
    return on_common_scale(sums, [s.size for s in samples], (differences**2).sum(axis=1))


def on_common_scale(sums: FloatArray, sizes: Sequence[int], squares: FloatArray) -> FloatArray:
    """Sums of flipped differences -> statistics in [0, 1] that order as |t| does.

    With n seeds r = |Σ ε_i d_i| / √(n Σ d²) is monotone in |t| and, unlike it, finite where all
    flipped differences are equal. Where comparisons have unequal n, r becomes that value of the
    largest n at which |t| is the same, so that the |t| are what is compared.

    Args:
        sums: `[num_comparisons, num_flips]`; overwritten.
        sizes: n of each comparison.
        squares: Σ d² of each, `[num_comparisons]`; where it is 0, or n is 1, the statistic is 0.
    """
    n = np.asarray(sizes, np.float64)
    defined = (n > 1) & (squares > 0)
    statistics = np.abs(sums, out=sums)
    statistics[~defined] = 0
    statistics /= np.where(defined, np.sqrt(n * squares), 1)[:, None]
    weight = (n - 1) / max(n.max() - 1, 1)
    for row in np.flatnonzero(defined & (weight < 1)):
        r, w = statistics[row], weight[row]
        statistics[row] = r * math.sqrt(w) / np.sqrt(1 + (w - 1) * r**2)
    return statistics


def boundaries(maxima: Sequence[FloatArray] | FloatArray, alphas: Sequence[float]) -> list[float]:
    """What the largest statistic of a family has to exceed, look by look.

    The boundary of a look is the smallest value at which a share below the look's α of the flips
    have crossed a boundary at this look or before. A fixed design is one look.

    Args:
        maxima: `[num_flips]` for each look, the largest statistic of the family.
        alphas: error spent up to each look, ascending.

    Returns:
        A statistic for each look; crossing is being above it by more than `TIE_TOLERANCE`.
    """
    crossed: NDArray[np.bool_] | None = None
    result = []
    for maximum, alpha in zip(maxima, alphas, strict=True):
        crossed = np.zeros(maximum.size, np.bool_) if crossed is None else crossed
        allowed = math.ceil(round(alpha * maximum.size, 9)) - 1 - int(crossed.sum())
        left = maximum[~crossed]
        place = left.size - 1 - max(allowed, 0)
        boundary = float(np.partition(left, place)[place])
        crossed = crossed | (maximum > boundary + TIE_TOLERANCE)
        result.append(boundary)
    return result


def to_t(statistic: float, size: int) -> float:
    """The |t| over so many seeds above which a statistic crosses this one; infinite at 1."""
    r = statistic + TIE_TOLERANCE
    return math.sqrt((size - 1) * r**2 / (1 - r**2)) if r < 1 else math.inf


@lru_cache(maxsize=4096)
def t_quantile(alpha: float, size: float) -> float:
    """Student's t(1 - α/2, n - 1), with `size` n."""
    return float(scipy.stats.t.isf(alpha / 2, size - 1))


@dataclass(frozen=True)
class Levels:
    """What a judging is held to."""

    nominal: float
    """The error rate asked for: of a comparison alone."""
    alpha: float
    """The error rate of the simultaneous intervals, and of Student's t beside the flips."""
    spent: float
    """The error rate of the flips so far: alpha, or at a planned look the part that is spent."""
    log2_flips: int = LOG2_ROWS
    """Base-2 logarithm of the number of flips."""


def describe(
    sample: Sample,
    critical_value: float,
    levels: Levels,
    *,
    flips_alone: bool,
    decided_with: float | None = None,
    decided_sign: int | None = None,
) -> Judged:
    """The facts of a comparison that is judged, whatever it was judged by.

    Args:
        sample: with at least `MIN_SEEDS` seeds, not all differences 0.
        critical_value: c of the whole family, in units of |t|; may be infinite.
        levels: error rates.
        flips_alone: whether the flips of this comparison alone would decide.
        decided_with: the critical value that |t| exceeded; None if undecided.
        decided_sign: of the difference when it was decided, if that was at an earlier look.

    Returns:
        The facts without p-values.
    """
    alpha, student = levels.alpha, t_quantile(levels.nominal, sample.size)
    used = max(critical_value, t_quantile(alpha, sample.size))
    interval = sample.interval(used, 1 - alpha)
    decided, sign = decided_with is not None, decided_sign or sample.sign
    step_down_only = decided and not sample.t > used
    if interval and decided != interval.excludes_zero:  # |t| may also be c up to rounding
        low, high = (0.0, interval.ci_high) if sign > 0 else (interval.ci_low, 0.0)
        interval = Interval(low, high, 1 - alpha)
    fragile = None
    if decided_with is not None:
        fragile = most_needed_seed(sample, decided_with if step_down_only else used, alpha)
    return Judged(
        status="judged",
        seeds=sample.seeds,
        difference=sample.mean,
        difference_std=sample.std,
        t=finite_or_none(sample.t),
        p_raw=None,
        p=None,
        critical_value=finite_or_none(used),
        interval=interval,
        interval_alone=sample.interval(student, 1 - levels.nominal) if sample.std else None,
        decided=decided,
        decided_alone=flips_alone and sample.t > student,
        step_down_only=step_down_only,
        sign=sign,
        fragile_without=fragile,
    )


def most_needed_seed(sample: Sample, critical_value: float, alpha: float) -> int | None:
    """The seed without which the interval would hold 0, with the same critical value.

    Args:
        sample: at least 3 seeds.
        critical_value: c; Student's quantile of one seed less is used where that is larger.
        alpha: of Student's quantile.

    Returns:
        Of several such seeds the one whose removal leaves the smallest |t|; None without one.
    """
    n = sample.size - 1
    deviations = sample.values - sample.values.mean()
    means = sample.values.mean() - deviations / n
    squares = np.maximum((deviations**2).sum() - deviations**2 * (n + 1) / n, 0)
    half = max(critical_value, t_quantile(alpha, n)) * np.sqrt(squares / (n - 1) / n)
    excess = np.abs(means) - half
    worst = int(np.argmin(excess))
    return sample.seeds[worst] if excess[worst] <= TIE_TOLERANCE * sample.scale else None


def finite_or_none(value: float) -> float | None:
    """None for infinity, which JSON does not have."""
    return value if math.isfinite(value) else None


def left_out(sample: Sample, critical_value: float, levels: Levels) -> Judged:
    """The facts of a comparison that does not count in the family's maximum.

    Few seeds give a few coarse flips that would lift the maximum, and take the power of all the
    others, without ever being decided themselves. So would many seeds of which few differ: those
    are judged by their own flips.
    """
    if not (sample.num_nonzero and can_reject(sample.size, levels.spent)):
        same = sample.size > 0 and not sample.num_nonzero
        return without_verdict(sample, "identical" if same else "too_few_seeds", levels)
    statistics = joint_statistics([sample], levels.log2_flips)
    p = float(_shares(statistics, statistics[:, 0])[0])
    c = max(critical_value, to_t(boundaries(statistics, [levels.spent])[0], sample.size))
    facts = describe(sample, c, levels, flips_alone=p < levels.nominal)
    return replace(facts, p_raw=p, p=p)


def without_verdict(sample: Sample, status: Status, levels: Levels) -> Judged:
    """The facts of a comparison that cannot be judged."""
    alone = None
    if sample.std:
        student = t_quantile(levels.nominal, sample.size)
        alone = sample.interval(student, 1 - levels.nominal)
    return Judged(
        status=status,
        seeds=sample.seeds,
        difference=sample.mean,
        difference_std=sample.std,
        t=finite_or_none(sample.t) if sample.std is not None else None,
        p_raw=None,
        p=None,
        critical_value=None,
        interval=None,
        interval_alone=alone,
        decided=False,
        decided_alone=False,
        step_down_only=False,
        sign=sample.sign,
        fragile_without=None,
    )


def _shares(statistics: FloatArray, observed: ArrayLike) -> FloatArray:
    """The share of flips whose statistic reaches the observed one, `[num_comparisons]`."""
    at_least = statistics >= np.asarray(observed)[:, None] - TIE_TOLERANCE
    shares: FloatArray = at_least.mean(axis=1)
    return shares
