"""Sign flips and signed ranks against enumeration and scipy."""

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from cwjax.analysis.permutation import (
    NUM_SAMPLED_FLIPS,
    all_sign_flips,
    sign_flip_p_values,
    sign_flip_test,
    wilcoxon_p_value,
)


def enumerated(differences):
    """All 2^n flips, one by one, on integers: no rounding anywhere."""
    observed = abs(sum(differences))
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    return sum(s >= observed for s in sums) / len(sums)


@settings(deadline=None)
@given(st.lists(st.integers(-20, 20), min_size=1, max_size=9))
def test_exact_p_on_scores_with_ties_equals_enumeration(integers):
    # Divided by 1000 the same differences are not exact in binary, and many flips tie.
    p_value, num_flips = sign_flip_test(np.array(integers) / 1000)
    assert p_value == enumerated(integers)
    assert num_flips == 2 ** len(integers)


def test_exact_p_agrees_with_scipy():
    rng = np.random.default_rng(3)
    for n in (2, 6, 10):
        d = rng.normal(0.4, 1, n)
        expected = scipy.stats.permutation_test(
            (d,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=False
        )
        assert sign_flip_test(d)[0] == pytest.approx(expected.pvalue, abs=1e-10)


def test_smallest_p_is_that_of_the_floor():
    assert sign_flip_test(np.arange(1, 7))[0] == 2**-5
    assert sign_flip_test([1, 2, 3, 0, 0, 0])[0] == 2**-2  # zeros add no evidence


def test_sampled_p_is_repeatable_and_close_to_the_exact_one():
    d = np.random.default_rng(5).normal(0.4, 1, 17)
    p_value, num_flips = sign_flip_test(d)
    assert num_flips == NUM_SAMPLED_FLIPS
    assert (p_value, num_flips) == sign_flip_test(d)
    exact = sign_flip_p_values(d[None], all_sign_flips(17))[0]
    assert p_value == pytest.approx(exact, abs=4 * np.sqrt(exact / NUM_SAMPLED_FLIPS))
    assert sign_flip_test(np.ones(40))[0] == 1 / (1 + NUM_SAMPLED_FLIPS)  # never 0


def test_sampled_p_counts_ties():
    # With equal sizes the flips that leave |sum| as observed are many: P(|S| >= 8), 20 coin flips.
    p_value, _ = sign_flip_test(np.array([0.1] * 14 + [-0.1] * 6))
    assert p_value == pytest.approx(2 * scipy.stats.binom.cdf(6, 20, 0.5), abs=0.005)


def test_many_samples_at_once_equal_one_by_one():
    d = np.random.default_rng(1).normal(size=(50, 11))
    together = sign_flip_p_values(d, all_sign_flips(11))
    assert together.tolist() == [sign_flip_test(row)[0] for row in d]


@pytest.mark.parametrize("n", [1, 2, 6, 13, 16, 17, 30])
def test_wilcoxon_agrees_with_scipy(n):
    d = np.random.default_rng(n).normal(0.3, 1, n)
    assert wilcoxon_p_value(d) == pytest.approx(scipy.stats.wilcoxon(d).pvalue, abs=1e-10)
    with_zeros = np.append(d, [0.0, 0.0])
    assert wilcoxon_p_value(with_zeros) == wilcoxon_p_value(d)


def test_wilcoxon_ties_are_exact_and_not_broken_by_rounding():
    hundredths = np.array([-3, -3, -2, 2, 1, 3])
    baseline = np.array([96, 95, 94, 92, 92, 90])
    d = (baseline + hundredths) / 100 - baseline / 100
    assert len(np.unique(np.abs(d))) > 3  # 0.03 in several last bits
    expected = scipy.stats.wilcoxon(hundredths, method=scipy.stats.PermutationMethod())
    assert wilcoxon_p_value(d) == pytest.approx(expected.pvalue, abs=1e-10)


@pytest.mark.fault(53)
@pytest.mark.parametrize("bad", [[0.1, np.nan], [np.inf], [], [[0.1]]])
def test_nan_and_shapes_raise(bad):
    for function in (sign_flip_test, wilcoxon_p_value):
        with pytest.raises(ValueError, match="differences has"):
            function(bad)
