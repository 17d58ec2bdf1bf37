"""What the joint rule detects: the table against the rule itself and against the t test."""

import numpy as np
import pytest

from cwjax.analysis import power
from cwjax.analysis.looks import LookPlan, default_looks, judge_looks
from cwjax.analysis.paired import Differences, judge_family
from cwjax.analysis.power_table import DETECTABLE, FAMILIES, SEEDS
from cwjax.analysis.rule_power import (
    detectable_effect,
    seeds_needed,
    simulated_column,
)


def simulated_power(effect, m, n, draws, looks=False):
    """How often the first of m arms is decided, by the rule that verdicts are made with."""
    rng = np.random.default_rng([m, n])
    found = 0
    for _ in range(draws):
        scores = rng.standard_normal((m + 1, n))
        rows = (scores[1:] - scores[0]) / 2**0.5
        rows[0] += effect
        family = [Differences(dict(enumerate(row))) for row in rows.tolist()]
        if looks:
            plan = LookPlan(default_looks(n))
            state = judge_looks(family, range(n), plan, len(plan.looks), log2_flips=11)
            found += state.arms[0].decided_at is not None
        else:
            found += judge_family(family, log2_flips=11).comparisons[0].decided
    return found / draws


@pytest.mark.fault(56)
@pytest.mark.parametrize(
    ("m", "n", "looks", "draws"),
    [
        (1, 8, False, 1_000),
        (3, 13, False, 1_000),  # between the values of the table
        pytest.param(5, 10, False, 1_000, marks=pytest.mark.exhaustive),
        pytest.param(18, 20, False, 600, marks=pytest.mark.slow),
        pytest.param(1, 20, True, 600, marks=pytest.mark.slow),
        pytest.param(18, 30, True, 600, marks=pytest.mark.exhaustive),
        pytest.param(60, 15, False, 600, marks=pytest.mark.exhaustive),  # beyond them
    ],
)
def test_power_at_the_detectable_effect(m, n, looks, draws, record_property):
    effect = detectable_effect(n, m, looks=looks)
    found = simulated_power(effect, m, n, draws, looks)
    record_property("power", found)
    design = "looks" if looks else "fixed"
    print(f"m = {m}, n = {n}, {design}: power {found:.3f} at {effect:.2f} sd")
    # Beside this simulation's error that of the table, and of what lies between its values.
    assert found == pytest.approx(0.8, abs=3 * np.sqrt(0.16 / draws) + 0.02)


def test_one_comparison_is_close_to_the_t_test():
    for n in (10, 20, 50, 100):
        assert detectable_effect(n) == pytest.approx(power.detectable_effect(n), rel=0.05)


@pytest.mark.slow
def test_the_table_is_what_its_script_writes():
    assert simulated_column(7, looks=False) == [row[SEEDS.index(7)] for row in DETECTABLE[False]]


def test_larger_families_need_more_and_more_seeds_need_less():
    for looks in (False, True):
        effects = np.array([[detectable_effect(n, m, looks=looks) for n in range(6, 300)]
                            for m in (1, 2, 3, 7, 18, 40, 80, 200)])  # fmt: skip
        assert (np.diff(effects, axis=0) > 0).all()
        assert (np.diff(effects, axis=1) < 0).all()
    assert (np.array(DETECTABLE[True]) >= np.array(DETECTABLE[False])).all()
    assert np.shape(DETECTABLE[True]) == (len(FAMILIES), len(SEEDS))


def test_seeds_needed_is_the_smallest_number():
    for m in (1, 18):
        for effect in (0.05, 0.3, 1.0, 1.5):
            n = seeds_needed(effect, m)
            assert detectable_effect(n, m) <= effect < detectable_effect(n - 1, m)
    assert seeds_needed(50.0, 40) == 6
    assert seeds_needed(1.0, 18, looks=True) > seeds_needed(1.0, 18)


def test_ten_seeds_are_not_enough_for_eighteen_arms():
    """What the unadjusted t test says; the rule needs twice as many."""
    assert 18 <= seeds_needed(1.0, 18) <= 21
    found = simulated_power(1.0, 18, 10, 300)
    print(f"m = 18, 1 sd, 10 seeds: power {found:.3f}")
    assert found < 0.5


def test_no_effect_is_detectable_with_too_few_seeds():
    assert detectable_effect(5) is None
    assert detectable_effect(6, confidence=0.99) is None
    assert seeds_needed(50.0, confidence=0.99) == 8


@pytest.mark.exhaustive
@pytest.mark.parametrize(("confidence", "n"), [(0.9, 10), (0.99, 12), (0.99, 30)])
def test_other_confidences_are_right_within_ten_percent(confidence, n):
    column = simulated_column(n, looks=False, confidence=confidence, num_draws=500)
    scaled = [detectable_effect(n, m, confidence=confidence) for m in FAMILIES]
    np.testing.assert_allclose(scaled, column, rtol=0.1)
