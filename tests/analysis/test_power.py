"""The power of the paired t test against statsmodels."""

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from cwjax.analysis.power import detectable_effect, t_test_power


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
