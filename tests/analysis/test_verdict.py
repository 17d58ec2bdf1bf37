"""Every row of the verdict's table, in its order, on scores that lead there."""

import numpy as np
import pytest

from cwjax.analysis.comparison import paired_comparison
from cwjax.analysis.metrics import METRICS, Metric
from cwjax.analysis.verdict import Question, no_pairs, refused

BASELINE = np.linspace(0.88, 0.92, 10)
NOISE = np.array([3, -1, 2, -2, 1, -3, 2, -2, 1, -1]) * 1e-3  # mean 0, no two flips alike


def compare(shift, spread=1.0, n=10, **settings):
    treatment = BASELINE[:n] + shift + spread * NOISE[:n]
    names = {"baseline": "uniform", "treatment": "balanced"}
    return paired_comparison(BASELINE[:n], treatment, **names, **settings)


def test_identical():
    for n in (1, 2, 3, 5, 10):
        result = compare(0, spread=0, n=n)
        assert result.verdict.key == "identical"
        seeds = "1 seed" if n == 1 else f"{n} seeds"
        assert result.verdict.words == (
            f"balanced and uniform are identical: no difference in balanced accuracy on any of "
            f"{seeds}."
        )


@pytest.mark.fault(54)
def test_no_spread_to_judge_by():
    one = compare(0.01, n=1)
    assert one.verdict.key == "no_verdict"
    assert one.verdict.words == (
        "No verdict: no spread to judge by (n = 1): balanced and uniform differ by +1.30 "
        "percentage points in balanced accuracy."
    )
    constant = compare(0.01, spread=0, n=10)  # a spread of rounding errors only
    assert constant.verdict.key == "no_verdict"
    assert "no spread to judge by (all 10 differences are equal)" in constant.verdict.words
    for result in (one, constant):
        assert result.estimates.seed_interval is None
        assert result.estimates.p_value is None
        assert result.evidence.detectable_effect is None


@pytest.mark.parametrize(("n", "m", "floor"), [(2, 1, 6), (3, 1, 6), (5, 1, 6), (6, 2, 7)])
def test_too_few_seeds(n, m, floor):
    result = compare(0.5, n=n, num_comparisons=m, smallest_effect=0.01)
    assert result.verdict.key == "too_few_seeds"
    family = "1 comparison" if m == 1 else f"{m} comparisons"
    expected = f"Too few seeds: needs {floor} for a family of {family}, has {n} of balanced and "
    assert result.verdict.words == expected + "uniform."
    assert result.estimates.seed_interval.excludes_zero  # however clear it looks
    assert result.evidence.detectable_effect is None
    assert result.evidence.seeds_needed is None


def test_better_and_worse():
    better, worse = compare(0.02), compare(-0.02)
    assert (better.verdict.key, better.verdict.size) == ("better", None)
    assert better.verdict.words == (
        "balanced is better than uniform: +2.00 percentage points in balanced accuracy "
        "(95% interval +1.85 to +2.15, n = 10, p = 0.002)."
    )
    assert worse.verdict.key == "worse"
    assert worse.verdict.words.startswith("balanced is worse than uniform: -2.00 percentage points")


def test_lower_is_better():
    for metric in ("loss", "ece", "classwise_ece"):
        assert compare(-0.02, metric=metric).verdict.key == "better"
        assert compare(0.02, metric=metric).verdict.key == "worse"
    assert compare(-0.02, metric="loss").verdict.words == (
        "balanced is better than uniform: -0.02 in test loss (lower is better; "
        "95% interval -0.02147 to -0.01853, n = 10, p = 0.002)."
    )


@pytest.mark.parametrize(
    ("effect", "size", "words"),
    [
        (0.01, "more_than", "balanced is better than uniform by more than 1 percentage point: "),
        (0.03, "less_than", "is better than uniform, but by less than 3 percentage points: "),
        (0.02, "unresolved", "better than uniform, size unresolved (more or less than 2 perc"),
    ],
)
def test_size_beside_the_smallest_effect(effect, size, words):
    result = compare(0.02, smallest_effect=effect)
    assert (result.verdict.key, result.verdict.size) == ("better", size)
    assert words in result.verdict.words
    worse = compare(-0.02, smallest_effect=effect)
    assert (worse.verdict.key, worse.verdict.size) == ("worse", size)


def test_size_is_judged_by_the_intervals_of_the_family():
    alone, family = (compare(0.02, smallest_effect=0.0184, num_comparisons=m) for m in (1, 2))
    assert alone.verdict.size == "more_than"
    assert family.verdict.size == "unresolved"
    assert family.evidence.size_interval.confidence == 1 - 0.05 / 2
    assert family.evidence.equivalence_interval.confidence == 1 - 2 * 0.05 / 2


def test_equivalent():
    result = compare(0.0, smallest_effect=0.005)
    assert result.verdict.key == "equivalent"
    assert result.verdict.words.startswith(
        "balanced and uniform are equivalent within 0.5 percentage points: +0.00 percentage points"
    )
    assert compare(0.0, smallest_effect=0.001).verdict.key == "no_detectable_difference"


def test_suggestive_interval_only():
    # 2 comparisons, 7 seeds: p = 2/128·2 cannot be, but one sign against six can leave p above α.
    differences = np.array([5, 6, 5, 6, 5, 6, -1]) * 1e-3
    result = paired_comparison(BASELINE[:7], BASELINE[:7] + differences, num_comparisons=2)
    assert result.estimates.seed_interval.excludes_zero
    assert result.evidence.p_holm > 0.05
    assert result.verdict.key == "suggestive"
    assert result.verdict.words.startswith(
        "Suggestive, not established: treatment and baseline differ by +0.46 percentage points"
    )
    assert result.verdict.words.endswith("the adjusted p-value does not confirm it.")


def test_suggestive_p_value_only():
    differences = np.array([1, 1, 1, 1, 1, 1, 1, 90]) * 1e-3  # the outlier widens the interval
    result = paired_comparison(BASELINE[:8], BASELINE[:8] + differences)
    assert not result.estimates.seed_interval.excludes_zero
    assert result.evidence.p_holm < 0.05
    assert result.verdict.key == "suggestive"
    assert result.verdict.words.endswith("the interval does not confirm it.")


def test_no_detectable_difference():
    result = compare(0.0005)
    assert result.verdict.key == "no_detectable_difference"
    assert result.verdict.words == (
        "No detectable difference between balanced and uniform: +0.05 percentage points in "
        "balanced accuracy (95% interval -0.10 to +0.20, n = 10, p = 0.5); detectable is 0.205 "
        "percentage points (by a paired t test with 80% power; this rule's power there is 78%)."
    )
    assert result.evidence.detectable_effect == pytest.approx(
        0.996 * result.estimates.difference_std, rel=1e-3
    )


def test_seeds_needed_are_said_with_a_smallest_effect():
    words = compare(0.0005, smallest_effect=0.001).verdict.words
    assert words.endswith("for 0.1 percentage points that test needs about 36 seeds.")


def test_nothing_about_size_without_a_smallest_effect():
    result = compare(0.0005)
    assert result.evidence.size_interval is result.evidence.equivalence_interval is None
    assert result.evidence.seeds_needed is None


def test_ties_that_leave_too_few_differences_are_said():
    differences = np.array([4, 5, 6, 5, 0, 0, 0, 0]) * 1e-3
    result = paired_comparison(BASELINE[:8], BASELINE[:8] + differences)
    assert result.estimates.p_value == 2**-3
    assert result.verdict.key == "suggestive"
    assert result.verdict.words.endswith(
        "Only 4 of 8 differences are not 0: too few for any significance."
    )


def test_p_is_said_to_be_adjusted():
    assert (
        "p = 0.0039 adjusted for 2 comparisons)" in compare(0.02, num_comparisons=2).verdict.words
    )


def test_confidence_is_used_throughout():
    result = compare(0.0015, confidence=0.8)
    assert result.estimates.seed_interval.confidence == 0.8
    assert "80% interval" in result.verdict.words
    assert result.evidence.seeds_floor == 4


def test_own_metric():
    bleu = Metric("bleu", "BLEU", worst=0.0, is_fraction=False)
    result = paired_comparison(100 * BASELINE, 100 * BASELINE + 2 + NOISE, metric=bleu)
    assert result.verdict.words.startswith("treatment is better than baseline: +2 in BLEU (95%")


def test_refused_names_the_runs():
    question = Question("uniform", "balanced", METRICS["accuracy"], 0.95)
    verdict = refused(question, ("uniform seed 3 (diverged)", "balanced seed 5 (failed)"))
    assert verdict.key == "refused"
    assert verdict.words.startswith("No verdict: refused for balanced and uniform, because")
    assert "uniform seed 3 (diverged), balanced seed 5 (failed)" in verdict.words
    assert no_pairs(question).key == "no_verdict"


def test_every_metric_has_words():
    for name, metric in METRICS.items():
        assert metric.title in compare(0.02, metric=name).verdict.words
