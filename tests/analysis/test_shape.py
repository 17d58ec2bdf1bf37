"""Collapsed runs are named, long tails are told, and normal differences are left alone."""

import numpy as np
import pytest

from cwjax.analysis.shape import Shape, shape


def test_a_collapsed_run_is_named():
    d = np.random.default_rng(0).normal(0.01, 0.002, 10)
    d[7] = -0.4
    found = shape(range(100, 110), d)
    assert found.far_seeds == (107,)
    assert found.skewness < -2


def test_a_long_tail_is_told():
    rng = np.random.default_rng(1)
    told = [shape(range(20), rng.exponential(size=20)).skewness for _ in range(300)]
    assert np.mean([value is not None and value > 0 for value in told]) > 0.3


@pytest.mark.slow
def test_normal_differences_are_rarely_called_odd():
    rng = np.random.default_rng(2)
    for n in (8, 10, 20):
        found = [shape(range(n), rng.standard_normal(n)) for _ in range(2_000)]
        assert np.mean([bool(each.far_seeds) for each in found]) < 0.05
        assert np.mean([each.skewness is not None for each in found]) < 0.02


def test_what_cannot_be_told_is_not():
    assert shape((), ()) == shape((1, 2), (0.1, 5.0)) == Shape()
    assert shape(range(8), [0.1] * 7 + [0.9]) == Shape()  # no spread to measure by
