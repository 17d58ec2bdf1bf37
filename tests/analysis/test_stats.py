"""Estimators against scipy and statsmodels."""

import numpy as np
import pytest
import scipy.stats
import statsmodels.api as sm
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from cwjax.analysis.intervals import Interval, error_rate, mean_interval
from cwjax.analysis.stats import (
    correlation,
    holm,
    paired_estimates,
    probability_better,
    trend,
)

BASELINE = np.array([0.912, 0.905, 0.921, 0.899, 0.915, 0.908, 0.917, 0.903])
TREATMENT = np.array([0.918, 0.903, 0.926, 0.899, 0.922, 0.917, 0.919, 0.911])


def test_estimates_agree_with_scipy_and_statsmodels():
    e = paired_estimates(BASELINE, TREATMENT, confidence=0.9)
    d = TREATMENT - BASELINE
    low, high = DescrStatsW(d).tconfint_mean(alpha=0.1)
    assert e.seed_interval.ci_low == pytest.approx(low, abs=1e-10)
    assert e.seed_interval.ci_high == pytest.approx(high, abs=1e-10)
    r = scipy.stats.pearsonr(BASELINE, TREATMENT).statistic
    assert e.correlation == pytest.approx(r, abs=1e-10)
    assert e.baseline_std == pytest.approx(scipy.stats.tstd(BASELINE), abs=1e-10)
    assert e.difference == pytest.approx(d.mean(), abs=1e-10)
    assert (e.num_pairs, e.num_nonzero) == (8, 7)


def test_probability_better_bounds_agree_with_statsmodels():
    share, interval = probability_better([1, 1, 1, 0, -1, 1, 1, 1], 0.95)
    assert share == (6 + 0.5) / 8
    low = proportion_confint(6, 8, 0.05, method="beta")[0]
    high = proportion_confint(7, 8, 0.05, method="beta")[1]
    assert interval.ci_low == pytest.approx(low, abs=1e-10)
    assert interval.ci_high == pytest.approx(high, abs=1e-10)
    assert probability_better([1, 1], 0.95)[1].ci_high == 1


def test_lower_is_better_turns_the_probability_round():
    up = paired_estimates(BASELINE, TREATMENT)
    down = paired_estimates(BASELINE, TREATMENT, higher_is_better=False)
    assert up.probability_better == 6.5 / 8
    assert down.probability_better == 1.5 / 8
    assert up.difference == down.difference


@pytest.mark.parametrize("p_values", [[0.01, 0.04, 0.03], [0.5], [0.02, 0.02, 0.9, 0.0001, 1.0]])
def test_holm_agrees_with_statsmodels(p_values):
    expected = multipletests(p_values, method="holm")[1]
    np.testing.assert_allclose(holm(p_values), expected, atol=1e-10)


def test_holm_counts_comparisons_not_made():
    assert holm([0.01, 0.02], 4) == holm([0.01, 0.02, 1.0, 1.0])[:2] == (0.04, 0.06)


def test_mean_interval_agrees_with_scipy():
    x = np.random.default_rng(0).normal(size=7)
    expected = scipy.stats.t.interval(0.95, 6, loc=x.mean(), scale=scipy.stats.sem(x))
    got = mean_interval(x, 0.95)
    np.testing.assert_allclose((got.ci_low, got.ci_high), expected, atol=1e-10)
    with pytest.raises(ValueError, match="at least 2"):
        mean_interval([1.0], 0.95)


def test_interval_position():
    interval = Interval(0.1, 0.3, 0.95)
    assert interval.excludes_zero
    assert interval.inside(0.31)
    assert not interval.inside(0.3)
    assert not Interval(-0.1, 0.3, 0.95).excludes_zero
    assert error_rate(0.95) == 0.05


@pytest.mark.fault(54)
def test_single_pair_has_no_interval():
    e = paired_estimates([0.9], [0.8])
    assert e.seed_interval is e.correlation is None
    assert e.difference_std is e.baseline_std is e.treatment_std is None
    assert e.difference == pytest.approx(-0.1)


@pytest.mark.fault(54)
def test_no_spread_has_no_interval():
    for treatment in (BASELINE, BASELINE + 0.01):  # + 0.01 spreads by rounding only
        e = paired_estimates(BASELINE, treatment)
        assert e.seed_interval is None
    assert e.num_nonzero == 8


def test_correlation_of_an_arm_without_spread_is_none():
    assert correlation([0.5, 0.5], [0.1, 0.2]) is None


@pytest.mark.fault(53)
@pytest.mark.parametrize(
    ("baseline", "treatment", "message"),
    [
        ([0.5, np.nan], [0.5, 0.5], "baseline_scores has 1 values that are not finite"),
        ([0.5, 0.5], [np.inf, 0.5], "treatment_scores has 1 values"),
        ([], [], "baseline_scores has shape"),
        ([0.5, 0.5], [0.5], "2 baseline scores, 1 treatment scores"),
    ],
)
def test_what_no_statistic_should_swallow_raises(baseline, treatment, message):
    with pytest.raises(ValueError, match=message):
        paired_estimates(baseline, treatment)


def test_trend_is_least_squares_per_seed():
    factors = np.array([1, 10, 20, 100])
    d = np.random.default_rng(2).normal(size=(5, 4)) + 0.3 * np.log2(factors)
    result = trend(d, factors, 0.95)
    slopes = [sm.OLS(row, sm.add_constant(np.log2(factors))).fit().params[1] for row in d]
    np.testing.assert_allclose(result.seed_slopes, slopes, atol=1e-10)
    low, high = DescrStatsW(slopes).tconfint_mean(alpha=0.05)
    assert result.slope == pytest.approx(np.mean(slopes), abs=1e-10)
    assert result.interval.ci_low == pytest.approx(low, abs=1e-10)
    assert result.interval.ci_high == pytest.approx(high, abs=1e-10)
    assert trend(d[:1], factors).interval is None


@pytest.mark.parametrize("factors", [[10, 10], [10], [1, 10, 100]])
def test_trend_needs_two_distinct_factors(factors):
    with pytest.raises(ValueError, match="two distinct factors"):
        trend([[0.1, 0.2], [0.2, 0.2]], factors)


def test_rounding_errors_are_ties():
    baseline = np.array([0.1 + 0.2, 0.5, 0.25, 0.125])
    result = paired_estimates(baseline, [0.3, 0.75, 0.5, 0.375])
    assert result.num_nonzero == 3
    assert result.probability_better == 3.5 / 4
