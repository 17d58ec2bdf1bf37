"""Class counts against published ones and the formula; the draw of a seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwjax.data.imbalance import long_tailed_counts, profile_counts, step_counts, subsample
from cwjax.errors import ConfigError

factors = st.floats(1, 1000)


def test_published_long_tailed_counts() -> None:
    mnist = long_tailed_counts(5421, 10, 100)
    assert mnist.tolist() == [5421, 3249, 1948, 1167, 700, 419, 251, 150, 90, 54]
    assert mnist.sum() == 13_449


@pytest.mark.parametrize(
    ("n_max", "num_classes", "factor", "total"),
    [  # CIFAR-10-LT and CIFAR-100-LT
        (5000, 10, 100, 12_406),
        (5000, 10, 50, 13_996),
        (5000, 10, 10, 20_431),
        (500, 100, 100, 10_847),
        (500, 100, 50, 12_608),
        (500, 100, 10, 19_573),
    ],
)
def test_published_totals(n_max: int, num_classes: int, factor: int, total: int) -> None:
    assert long_tailed_counts(n_max, num_classes, factor).sum() == total


def test_step_counts() -> None:
    assert step_counts(5000, 10, 100).tolist() == [5000] * 5 + [50] * 5
    assert step_counts(90, 5, 3).tolist() == [90] * 3 + [30] * 2


@given(n_max=st.integers(1000, 10_000), num_classes=st.integers(2, 100), factor=factors)
def test_long_tailed_counts_follow_the_formula(n_max: int, num_classes: int, factor: float) -> None:
    counts = long_tailed_counts(n_max, num_classes, factor)
    exact = [n_max * factor ** (-c / (num_classes - 1)) for c in range(num_classes)]
    assert counts.dtype == np.int64
    assert counts[0] == n_max
    assert counts[-1] == math.floor(n_max / factor + 1e-9)
    assert (np.diff(counts) <= 0).all()
    assert (np.abs(counts - (np.array(exact) - 0.5)) <= 0.5 + 1e-6).all()  # the floor of exact


@given(n_max=st.integers(1000, 10_000), num_classes=st.integers(2, 100), factor=factors)
def test_step_counts_have_two_levels(n_max: int, num_classes: int, factor: float) -> None:
    counts = step_counts(n_max, num_classes, factor)
    head = math.ceil(num_classes / 2)
    assert (counts[:head] == n_max).all()
    assert (counts[head:] == math.floor(n_max / factor + 1e-9)).all()


@pytest.mark.fault(37)
@given(num_classes=st.integers(2, 30), n_max=st.integers(1, 500))
@pytest.mark.parametrize("profile", ["long_tailed", "step"])
def test_largest_factor_that_leaves_no_class_empty(
    profile: str, num_classes: int, n_max: int
) -> None:
    assert profile_counts(profile, n_max, num_classes, n_max)[-1] == 1
    with pytest.raises(ConfigError, match=f"would keep no training example; give at most {n_max}"):
        profile_counts(profile, n_max, num_classes, n_max * 1.01)


@pytest.mark.fault(47)
@pytest.mark.parametrize("factor", [0.99, 0.0, -1.0, math.nan])
def test_factor_below_one(factor: float) -> None:
    with pytest.raises(ConfigError, match=r"--imbalance-factor is .*: give at least 1"):
        long_tailed_counts(100, 10, factor)


def test_unknown_profile_is_not_taken_for_balanced() -> None:
    with pytest.raises(ConfigError, match="--imbalance is 'longtailed': choose none, long_tailed"):
        profile_counts("longtailed", 100, 10, 10)


@given(
    available=st.lists(st.integers(1, 30), min_size=2, max_size=8),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_subsample_draws_the_wanted_counts_without_replacement(
    available: list[int], seed: int, data: st.DataObject
) -> None:
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(len(available)), available))
    wanted = np.array([data.draw(st.integers(1, count)) for count in available])
    indices = subsample(labels, wanted, np.random.default_rng(seed))
    assert indices.dtype == np.int32
    assert (np.diff(indices) > 0).all()
    assert np.bincount(labels[indices], minlength=len(available)).tolist() == wanted.tolist()
    assert np.array_equal(indices, subsample(labels, wanted, np.random.default_rng(seed)))


def test_subsample_is_uniform_over_the_examples_of_a_class() -> None:
    labels = np.repeat([0, 1], 10)
    drawn = np.zeros(20)
    for seed in range(2000):
        drawn[subsample(labels, np.array([3, 5]), np.random.default_rng(seed))] += 1
    expected = np.repeat([0.3, 0.5], 10)
    standard_error = np.sqrt(expected * (1 - expected) / 2000)
    assert (np.abs(drawn / 2000 - expected) < 5 * standard_error).all()


def test_smaller_subsample_of_a_seed_is_part_of_the_larger() -> None:
    labels = np.arange(100) % 2
    small = subsample(labels, np.array([20, 5]), np.random.default_rng(3))
    large = subsample(labels, np.array([30, 40]), np.random.default_rng(3))
    assert set(small) < set(large)
