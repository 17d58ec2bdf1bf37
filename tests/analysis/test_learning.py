"""Whether runs were still learning when they ended."""

from __future__ import annotations

import numpy as np
import pytest

from cwjax.analysis.learning import LateGain, late_gain

SEEDS, EPOCHS = 10, 12


def rising(per_epoch: float, noise: float = 0.0) -> np.ndarray:
    """Curves that rise by so much an epoch."""
    line = np.arange(EPOCHS) * per_epoch
    return line + np.random.default_rng(0).normal(0, noise, (SEEDS, EPOCHS))


def test_the_gain_over_the_last_quarter_of_the_epochs() -> None:
    gain = late_gain(rising(0.01))
    assert gain == LateGain(3, pytest.approx(0.03))


@pytest.mark.parametrize(
    "curves",
    [
        rising(0.0),
        rising(-0.01),
        rising(0.003),  # 0.9 points: few verdicts turn on that
        rising(0.01, noise=0.2),  # no more than luck
        rising(0.01)[:2],  # two seeds
        rising(0.05)[:, :3],  # three epochs
        np.where(np.arange(EPOCHS) == 8, np.nan, rising(0.01)),  # a score is undefined
    ],
)
def test_what_is_no_gain(curves: np.ndarray) -> None:
    assert late_gain(curves) is None


def test_a_second_stage_begins_anew() -> None:
    """It falls where the head is new, and rises after that; whole, the curve would show no gain."""
    line = 0.05 * np.concatenate([np.arange(16), np.arange(4)])
    curves = np.tile(line, (SEEDS, 1))
    assert late_gain(curves) is None
    assert late_gain(curves, stages=(160, 40)) == LateGain(1, pytest.approx(0.05))


def test_runs_without_a_difference_do_not_look_like_learning() -> None:
    """Noise around a constant is called a gain in at most 2.5% of cases."""
    rng = np.random.default_rng(1)
    found = [late_gain(rng.normal(0.8, 0.05, (SEEDS, EPOCHS))) is not None for _ in range(2000)]
    assert np.mean(found) < 0.035
