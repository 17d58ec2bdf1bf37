"""The corrected resampled t test in closed form; its error is simulated in test_joint_rule.py."""

import numpy as np
import pytest
import scipy.stats

from cwjax.analysis.paired import Differences
from cwjax.analysis.resampled import Resampled, judge_resampled


def splits(rows, num_test=90, num_train=810):
    return [
        Resampled(Differences(dict(enumerate(map(float, row)))), num_test, num_train)
        for row in rows
    ]


def test_closed_form():
    # Nadeau & Bengio 2003: t = mean / √((1/n + n_test/n_train)·s²) with n - 1 degrees of freedom.
    d = np.array([0.02, 0.05, -0.01, 0.03, 0.04, 0.00, 0.02, 0.03, 0.01, 0.06])
    [judged] = judge_resampled(splits([d])).comparisons
    error = np.sqrt((1 / 10 + 90 / 810) * d.var(ddof=1))
    assert judged.t == pytest.approx(d.mean() / error)
    assert judged.p_raw == pytest.approx(2 * scipy.stats.t.sf(d.mean() / error, 9))
    assert judged.p == judged.p_raw
    half = scipy.stats.t.ppf(0.975, 9) * error
    for interval in (judged.interval, judged.interval_alone):
        assert interval.ci_low == pytest.approx(d.mean() - half)
        assert interval.ci_high == pytest.approx(d.mean() + half)
    assert judged.critical_value * judged.difference_std / 10**0.5 == pytest.approx(half)
    naive = scipy.stats.ttest_1samp(d, 0)
    assert naive.pvalue < 0.01 < judged.p  # what the correction is for


def test_ten_by_ten_cross_validation_has_the_published_factor():
    # Bouckaert & Frank 2004 and Witten, Frank & Hall, 10 x 10: √(1/100 + 1/9) instead of √(1/100).
    assert Resampled(Differences({}), 1, 9).inflation(100) == pytest.approx(np.sqrt(1 + 100 / 9))


def test_holm_over_the_family():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4, 12)) + np.array([[3], [2], [1.2], [0]])
    family = judge_resampled(splits(rows))
    raw = np.array([j.p_raw for j in family.comparisons])
    by_size = np.argsort(raw)
    stepped = np.maximum.accumulate((4 - np.arange(4)) * raw[by_size])
    np.testing.assert_allclose(np.array([j.p for j in family.comparisons])[by_size], stepped)
    assert [j.decided for j in family.comparisons] == [j.p < 0.05 for j in family.comparisons]
    bonferroni = scipy.stats.t.ppf(1 - 0.05 / 8, 11) * np.sqrt(1 + 12 / 9)
    assert all(j.critical_value == pytest.approx(bonferroni) for j in family.comparisons)


def test_step_down_interval_ends_at_zero():
    noise = np.random.default_rng(1).normal(size=(2, 12))
    noise -= noise.mean(axis=1, keepdims=True)
    scale = noise[1].std(ddof=1) / 12**0.5 * np.sqrt(1 + 12 / 9)
    between = (scipy.stats.t.ppf(0.975, 11) + scipy.stats.t.ppf(0.9875, 11)) / 2
    first, second = judge_resampled(splits([noise[0] + 10, noise[1] - between * scale])).comparisons
    assert first.interval.excludes_zero
    assert second.decided
    assert second.step_down_only
    assert second.interval.ci_high == 0
    assert second.interval_alone.excludes_zero


def test_arms_without_a_verdict_do_not_count():
    rng = np.random.default_rng(0)
    row = rng.normal(size=(1, 10)) + 1.5
    alone = judge_resampled(splits(row)).comparisons[0]
    few = splits([[1.0, 2.0, 3.0]])
    same = splits([[0.0] * 10])
    together = judge_resampled([*few, *splits(row), *same, *splits([[]])])
    assert together.comparisons[1] == alone
    states = [together.comparisons[i].status for i in (0, 2, 3)]
    assert states == ["too_few_seeds", "identical", "too_few_seeds"]
    assert together.comparisons[0].interval_alone is None  # Student's does not hold here


def test_no_examples_raise():
    with pytest.raises(ValueError, match="0 test and 9 training examples"):
        Resampled(Differences({}), 0, 9)
