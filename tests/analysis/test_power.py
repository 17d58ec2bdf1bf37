"""Floors, detectable effects and seeds needed against statsmodels."""

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from cwjax.analysis.permutation import all_sign_flips
from cwjax.analysis.power import (
    detectable_effect,
    seeds_floor,
    seeds_needed,
    simulation_flips,
    t_test_power,
    verdict_power,
    verdict_rejects,
)


def test_floor_of_seeds():
    assert [seeds_floor(m) for m in (1, 2, 5, 10, 20, 40)] == [6, 7, 8, 9, 10, 11]
    for m in range(1, 200):
        for confidence in (0.8, 0.9, 0.95, 0.99):
            n = seeds_floor(m, confidence)
            assert m * 2.0 ** (1 - n) < 1 - confidence <= m * 2.0 ** (2 - n) * (1 + 1e-12)
    assert seeds_floor(1, 0.75) == 4  # 2^(1-3) equals α, which is not below it


@pytest.mark.parametrize(
    ("num_pairs", "constant"), [(3, 3.264), (5, 1.682), (8, 1.156), (10, 0.996), (20, 0.660)]
)
def test_constants_of_the_detectable_effect(num_pairs, constant):
    assert detectable_effect(num_pairs) == pytest.approx(constant, abs=5e-4)


@pytest.mark.parametrize("num_pairs", [2, 3, 6, 10, 30, 1000])
def test_power_agrees_with_statsmodels(num_pairs):
    reference = TTestPower()
    for effect in (0.0, 0.05, 0.3, 1.0):
        expected = reference.power(effect, num_pairs, 0.05)
        if np.isfinite(expected):  # scipy's cdf, which it uses, is NaN in places
            assert t_test_power(effect, num_pairs) == pytest.approx(expected, abs=1e-10)
    at_effect = t_test_power(detectable_effect(num_pairs), num_pairs)
    assert at_effect == pytest.approx(0.8, abs=1e-9)


@pytest.mark.parametrize("num_pairs", [2, 3, 7, 20, 10**4])
def test_power_is_never_nan(num_pairs):
    powers = [t_test_power(effect, num_pairs) for effect in np.geomspace(1e-3, 1e3, 60)]
    assert np.isfinite(powers).all()
    assert (np.diff(powers) > -1e-12).all()


@pytest.mark.parametrize("effect", [0.01, 0.2, 0.5, 0.8])
def test_seeds_needed_is_the_smallest_number(effect):
    n = seeds_needed(effect)
    assert t_test_power(effect, n) >= 0.8 > t_test_power(effect, n - 1)
    expected = TTestPower().solve_power(effect, power=0.8, alpha=0.05)
    assert n == np.ceil(expected)


def test_seeds_needed_is_never_below_the_floor():
    assert seeds_needed(50.0) == 6
    assert seeds_needed(50.0, num_comparisons=40) == 11


def test_simulation_flips_are_all_where_they_are_few():
    assert simulation_flips(10, 0.05) is all_sign_flips(10)
    sampled = simulation_flips(20, 0.001)
    assert sampled.shape == (20_000, 20)
    assert (sampled[0] == 1).all()


def test_rule_needs_interval_and_p_value():
    no_outlier, outlier = np.full(8, 1.0), np.full(8, 0.1)
    no_outlier[0], outlier[0] = 1.5, 9.0  # the outlier widens the t interval over 0, p stays 2^-7
    flips = all_sign_flips(8)
    assert verdict_rejects(np.stack([no_outlier, outlier]), flips).tolist() == [True, False]
    assert not verdict_rejects(no_outlier[None], flips, num_comparisons=7).any()  # 7/128 > 0.05


def test_verdict_power_falls_with_the_family_and_never_exceeds_the_t_test():
    powers = [verdict_power(10, m) for m in (1, 2, 5, 20)]
    assert powers == sorted(powers, reverse=True)
    assert powers[0] < 0.8
    assert verdict_power(10, 40) == 0  # 10 is below that family's floor of 11
