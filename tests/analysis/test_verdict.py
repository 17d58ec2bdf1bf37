"""Every row of the verdict's table, in its order, on scores that lead there."""

import numpy as np
import pytest

from cwjax.analysis.family import Pair, compare_family, paired_comparison
from cwjax.analysis.metrics import METRICS, Metric
from cwjax.analysis.pairing import ArmScores, BadRun, Pairing
from cwjax.analysis.rules import Rules
from cwjax.analysis.verdict import Verdict

BASELINE = np.linspace(0.88, 0.92, 10)
NOISE = np.array([3, -1, 2, -2, 1, -3, 2, -2, 1, -1]) * 1e-3  # mean 0, no two flips alike


def compare(shift, spread=1.0, n=10, **settings):
    treatment = BASELINE[:n] + shift + spread * NOISE[:n]
    names = {"baseline": "uniform", "treatment": "balanced"}
    return paired_comparison(BASELINE[:n], treatment, **names, **settings)


def test_identical():
    for n in (1, 2, 3, 5, 10):
        result = compare(0, spread=0, n=n)
        assert result.verdict == Verdict("identical")
        assert result.differences == (0.0,) * n
        assert result.estimates.num_nonzero == 0


@pytest.mark.fault(54)
def test_no_spread_to_judge_by():
    one = compare(0.01, n=1)
    assert one.verdict == Verdict("no_verdict")
    assert one.estimates.difference == pytest.approx(0.013)
    constant = compare(0.01, spread=0, n=10)  # a spread of rounding errors only
    assert constant.verdict == Verdict("no_verdict")
    assert constant.estimates.num_pairs == 10
    for result in (one, constant):
        assert result.estimates.seed_interval is None
        assert result.estimates.p_value is None
        assert result.evidence.detectable_effect is None


@pytest.mark.parametrize(("n", "m", "floor"), [(2, 1, 6), (3, 1, 6), (5, 1, 6), (6, 2, 7)])
def test_too_few_seeds(n, m, floor):
    result = compare(0.5, n=n, num_comparisons=m, smallest_effect=0.01)
    assert result.verdict == Verdict("too_few_seeds")
    assert (result.evidence.seeds_floor, result.evidence.num_comparisons) == (floor, m)
    assert result.estimates.num_pairs == n
    assert result.estimates.seed_interval.excludes_zero  # however clear it looks
    assert result.evidence.detectable_effect is None
    assert result.evidence.seeds_needed is None


def test_better_and_worse():
    better, worse = compare(0.02), compare(-0.02)
    assert (better.verdict, worse.verdict) == (Verdict("better"), Verdict("worse"))
    assert better.estimates.difference == pytest.approx(0.02)
    interval = better.estimates.seed_interval
    assert (interval.ci_low, interval.ci_high) == pytest.approx((0.0185, 0.0215), abs=5e-5)
    assert better.evidence.p_holm == 2**-9
    assert worse.estimates.difference == pytest.approx(-0.02)


def test_lower_is_better():
    for metric in ("loss", "ece", "classwise_ece"):
        assert compare(-0.02, metric=metric).verdict.key == "better"
        assert compare(0.02, metric=metric).verdict.key == "worse"


@pytest.mark.parametrize(
    ("effect", "size"), [(0.01, "more_than"), (0.03, "less_than"), (0.02, "unresolved")]
)
def test_size_beside_the_smallest_effect(effect, size):
    assert compare(0.02, smallest_effect=effect).verdict == Verdict("better", size)
    assert compare(-0.02, smallest_effect=effect).verdict == Verdict("worse", size)


def test_size_is_judged_by_the_intervals_of_the_family():
    alone, family = (compare(0.02, smallest_effect=0.0184, num_comparisons=m) for m in (1, 2))
    assert alone.verdict.size == "more_than"
    assert family.verdict.size == "unresolved"
    assert family.evidence.size_interval.confidence == 1 - 0.05 / 2
    assert family.evidence.equivalence_interval.confidence == 1 - 2 * 0.05 / 2


def test_equivalent():
    assert compare(0.0, smallest_effect=0.005).verdict == Verdict("equivalent")
    assert compare(0.0, smallest_effect=0.001).verdict.key == "no_detectable_difference"


def test_suggestive_interval_only():
    # 2 comparisons, 7 seeds: p = 2/128·2 cannot be, but one sign against six can leave p above α.
    differences = np.array([5, 6, 5, 6, 5, 6, -1]) * 1e-3
    result = paired_comparison(BASELINE[:7], BASELINE[:7] + differences, num_comparisons=2)
    assert result.estimates.seed_interval.excludes_zero
    assert result.evidence.p_holm > 0.05
    assert result.verdict == Verdict("suggestive")
    assert result.estimates.difference == pytest.approx(0.032 / 7)


def test_suggestive_p_value_only():
    differences = np.array([1, 1, 1, 1, 1, 1, 1, 90]) * 1e-3  # the outlier widens the interval
    result = paired_comparison(BASELINE[:8], BASELINE[:8] + differences)
    assert not result.estimates.seed_interval.excludes_zero
    assert result.evidence.p_holm < 0.05
    assert result.verdict == Verdict("suggestive")


def test_no_detectable_difference():
    result = compare(0.0005)
    assert result.verdict == Verdict("no_detectable_difference")
    assert result.estimates.difference == pytest.approx(0.0005)
    interval = result.estimates.seed_interval
    assert (interval.ci_low, interval.ci_high) == pytest.approx((-0.00097, 0.00197), abs=5e-6)
    assert result.evidence.p_holm == pytest.approx(0.5, abs=0.01)
    assert result.evidence.detectable_effect == pytest.approx(0.00205, abs=5e-6)
    assert result.evidence.verdict_power == pytest.approx(0.78, abs=0.005)
    assert result.evidence.detectable_effect == pytest.approx(
        0.996 * result.estimates.difference_std, rel=1e-3
    )


def test_seeds_needed_with_a_smallest_effect():
    assert compare(0.0005, smallest_effect=0.001).evidence.seeds_needed == 36


def test_nothing_about_size_without_a_smallest_effect():
    result = compare(0.0005)
    assert result.evidence.size_interval is result.evidence.equivalence_interval is None
    assert result.evidence.seeds_needed is None


def test_ties_may_leave_too_few_differences():
    differences = np.array([4, 5, 6, 5, 0, 0, 0, 0]) * 1e-3
    result = paired_comparison(BASELINE[:8], BASELINE[:8] + differences)
    assert result.estimates.p_value == 2**-3
    assert result.verdict == Verdict("suggestive")
    assert (result.estimates.num_nonzero, result.estimates.num_pairs) == (4, 8)


def test_p_is_adjusted_and_the_family_told():
    evidence = compare(0.02, num_comparisons=2).evidence
    assert (evidence.p_holm, evidence.num_comparisons) == (2 * 2**-9, 2)


def test_confidence_is_used_throughout():
    result = compare(0.0015, confidence=0.8)
    assert result.estimates.seed_interval.confidence == 0.8
    assert result.evidence.seeds_floor == 4


def test_own_metric():
    bleu = Metric("bleu", "BLEU", worst=0.0, is_fraction=False)
    result = paired_comparison(100 * BASELINE, 100 * BASELINE + 2 + NOISE, metric=bleu)
    assert (result.metric, result.verdict) == ("bleu", Verdict("better"))
    assert result.estimates.difference == pytest.approx(2)


def test_refused_names_the_runs():
    arms = [
        ArmScores("uniform", {0: 0.5}, {3: "diverged", 5: "diverged"}),
        ArmScores("balanced", {0: 0.6, 3: 0.6}, {5: "failed"}),
    ]
    pair = Pair(Pairing("", "uniform", "balanced"), *arms)
    (result,) = compare_family([pair], Rules(metric=METRICS["accuracy"]))
    assert result.verdict == Verdict("refused")
    assert result.facts.refused == (
        BadRun("uniform", 3, "diverged"),
        BadRun("uniform", 5, "diverged"),
        BadRun("balanced", 5, "failed"),
    )
    (result,) = compare_family([pair], Rules(diverged="drop-pair"))
    assert (result.verdict, result.seeds) == (Verdict("no_verdict"), (0,))


def test_every_metric_is_judged_by_its_direction():
    for name, metric in METRICS.items():
        verdict = compare(0.02, metric=name).verdict
        assert verdict == Verdict("better" if metric.higher_is_better else "worse")
