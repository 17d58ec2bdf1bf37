"""What the joint rule can detect: by simulation of the rule itself, tabulated.

One arm differs from the baseline, the others of the family do not; differences are normal, and
correlated by ½ because all arms share the baseline's runs. The answer depends on little (family,
seeds, looks or not), takes minutes to compute and is wanted in every report. So it is a table in
the package, written by `python -m cwjax.analysis.rule_power`: unlike a cache it is there the first
time and is the same everywhere. It holds for 95%; other confidences are scaled from it as the
t test's detectable effect with Bonferroni's correction changes, which is right within 10%.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cwjax.analysis import power
from cwjax.analysis.flips import flips_for
from cwjax.analysis.intervals import FloatArray, error_rate
from cwjax.analysis.looks import LookPlan, default_looks
from cwjax.analysis.paired import (
    MIN_SEEDS,
    TIE_TOLERANCE,
    boundaries,
    can_reject,
    on_common_scale,
    t_quantile,
)
from cwjax.analysis.power import POWER
from cwjax.analysis.power_table import DETECTABLE, FAMILIES, SEEDS

NUM_DRAWS = 1_000
"""Simulated families behind a value of the table: a standard error of about 1.3%."""

LOG2_FLIPS = 12
"""Base-2 logarithm of the flips of a simulated test."""


def detectable_effect(
    num_seeds: int, num_comparisons: int = 1, *, looks: bool = False, confidence: float = 0.95
) -> float | None:
    """The difference that the rule detects with a probability of `POWER`.

    >>> round(detectable_effect(20, 18), 1)
    0.9

    Args:
        num_seeds: n; with looks the largest number of seeds.
        num_comparisons: m, of the family.
        looks: whether results are read at `looks.default_looks`; other looks differ little.
        confidence: 1 - α.

    Returns:
        In standard deviations of the differences; None if so few seeds cannot decide anything.
    """
    if not can_reject(num_seeds, error_rate(confidence)):
        return None
    families, seeds, at = np.log(FAMILIES), np.log(SEEDS), math.log(num_seeds)
    # The effect times √n varies slowly with n, and its logarithm with that of the family.
    scaled = np.log(DETECTABLE[looks]) + seeds / 2
    by_family = [float(np.interp(at, seeds, row)) for row in scaled]
    slope = (by_family[-1] - by_family[-2]) / (families[-1] - families[-2])
    beyond = max(math.log(num_comparisons) - families[-1], 0.0)
    value = np.interp(math.log(num_comparisons), families, by_family) + slope * beyond
    effect = float(np.exp(value - at / 2))
    if confidence != 0.95:
        this, tabulated = (
            power.detectable_effect(num_seeds, 1 - (1 - c) / num_comparisons)
            for c in (confidence, 0.95)
        )
        effect *= this / tabulated
    return effect


def seeds_needed(
    effect: float, num_comparisons: int = 1, *, looks: bool = False, confidence: float = 0.95
) -> int:
    """Seeds with which the rule detects an effect with a probability of `POWER`.

    >>> seeds_needed(1.0, 1), seeds_needed(1.0, 18)
    (11, 19)

    Args:
        effect: in standard deviations of the differences, above 0.
        num_comparisons: m, of the family.
        looks: see `detectable_effect`; the result is then the largest number of seeds.
        confidence: 1 - α.
    """

    def enough(n: int) -> bool:
        detected = detectable_effect(n, num_comparisons, looks=looks, confidence=confidence)
        return detected is not None and detected <= effect

    low, high = MIN_SEEDS - 1, MIN_SEEDS
    while not enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def critical_effects(
    families: Sequence[int],
    looks: Sequence[int],
    alphas: Sequence[float],
    num_draws: int,
    alpha: float,
) -> FloatArray:
    """The smallest effect at which the arm is decided, in each of many simulated families.

    The other arms stay in the family: without the rare false verdict among them, this is the whole
    step-down rule.

    Args:
        families: numbers of comparisons, ascending; a smaller family is a part of a larger one.
        looks: seeds at each look.
        alphas: error spent up to each look.
        num_draws: simulated families.
        alpha: of Student's t beside the flips.

    Returns:
        `[num_families, num_draws]`, in standard deviations of the differences.
    """
    rng = np.random.default_rng(0)
    num_seeds, num_arms = looks[-1], families[-1]
    flips = flips_for(num_seeds, log2_rows=LOG2_FLIPS)
    taken = np.arange(num_seeds) < np.array(looks)[:, None]  # [num_looks, num_seeds]
    flipped_ones = flips.sums(taken.astype(np.float64))
    student = [t_quantile(alpha, n) for n in looks]
    result = np.empty((len(families), num_draws))
    for draw in range(num_draws):
        scores = rng.standard_normal((num_arms + 1, num_seeds))
        d = (scores[1:] - scores[0]) / math.sqrt(2)
        own_sums, others = [], []
        for seeds in taken:
            sums, squares = flips.sums(d * seeds), (d**2 * seeds).sum(axis=1)
            own_sums.append(sums[0].copy())
            statistics = on_common_scale(sums[1:], [seeds.sum()] * (num_arms - 1), squares[1:])
            others.append(np.maximum.accumulate(statistics))
        for i, family in enumerate(families):
            rivals = [o[family - 2] if family > 1 else np.zeros(1) for o in others]
            low, high = math.log(0.02), math.log(200)
            for _ in range(14):
                middle = (low + high) / 2
                decided = _decided(
                    d[0], math.exp(middle), looks, alphas, student, own_sums, flipped_ones, rivals
                )
                low, high = (low, middle) if decided else (middle, high)
            result[i, draw] = math.exp((low + high) / 2)
    return result


def _decided(
    noise: FloatArray,
    effect: float,
    looks: Sequence[int],
    alphas: Sequence[float],
    student: Sequence[float],
    flipped_noise: Sequence[FloatArray],
    flipped_ones: FloatArray,
    rivals: Sequence[FloatArray],
) -> bool:
    """Whether an arm with this effect is decided at any look.

    Args:
        noise: its differences without the effect, `[num_seeds]`.
        effect: in standard deviations.
        looks: seeds at each look, and for each:
        alphas: the error spent,
        student: Student's quantile,
        flipped_noise: flipped sums of the noise, `[num_flips]`,
        flipped_ones: the same of ones,
        rivals: the largest statistic of the other arms, `[num_flips]`.
    """
    maxima: list[FloatArray] = []
    for k, n in enumerate(looks):
        d = noise[:n] + effect
        own = np.abs(flipped_noise[k] + effect * flipped_ones[k]) / math.sqrt(n * (d @ d))
        maxima.append(np.maximum(own, rivals[k]))
        boundary = boundaries(maxima, alphas[: k + 1])[-1]
        t = d.mean() * math.sqrt(n) / d.std(ddof=1)
        if own[0] > boundary + TIE_TOLERANCE and t > student[k]:
            return True
    return False


def simulated_column(
    num_seeds: int, looks: bool, confidence: float = 0.95, num_draws: int = NUM_DRAWS
) -> list[float]:
    """The detectable effect of each of `FAMILIES`, in standard deviations of the differences."""
    alpha = error_rate(confidence)
    plan = LookPlan(default_looks(num_seeds, confidence) if looks else (num_seeds,), confidence)
    effects = critical_effects(FAMILIES, plan.looks, plan.alphas, num_draws, alpha)
    return [round(float(np.quantile(row, POWER)), 4) for row in effects]


def main() -> None:
    """Write the table (about ten minutes)."""
    lines = [
        '"""What the rule detects: written by `python -m cwjax.analysis.rule_power`."""',
        "",
        f"FAMILIES = {FAMILIES}",
        '"""Comparisons in the family: rows."""',
        "",
        f"SEEDS = {SEEDS}",
        '"""Seeds, or with looks the largest number of seeds: columns."""',
        "",
        "DETECTABLE: dict[bool, tuple[tuple[float, ...], ...]] = {",
    ]
    for looks in (False, True):
        columns = [simulated_column(n, looks) for n in SEEDS]
        rows = [f"        {row}," for row in zip(*columns, strict=True)]
        lines += [f"    {looks}: (", *rows, "    ),"]
    lines += [
        "}",
        '"""With looks or without: the effect detected in 80% of cases at 95% confidence, in '
        "standard",
        'deviations of the differences."""',
    ]
    path = Path(__file__).with_name("power_table.py")
    path.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
