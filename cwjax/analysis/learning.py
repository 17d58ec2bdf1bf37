"""Whether runs were still learning when they ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cwjax.analysis.intervals import FloatArray, mean_interval

FINAL_FRACTION = 0.25
"""Part of the last stage's epochs over which a gain is measured."""

MIN_GAIN = 0.01
"""Balanced validation accuracy; a smaller gain changes few verdicts."""

_MIN_EPOCHS, _MIN_SEEDS = 4, 3


@dataclass(frozen=True)
class LateGain:
    """How much an arm's runs still gained at their end."""

    num_epochs: int
    """Number of last epochs over which the gain was measured."""
    gain: float
    """Mean over seeds of the gain in balanced validation accuracy, as a fraction."""


def late_gain(curves: FloatArray, stages: Sequence[int] = ()) -> LateGain | None:
    """The gain over the last quarter of the last stage's epochs, if there is one.

    Args:
        curves: balanced validation accuracy `[num_seeds, num_epochs]`.
        stages: steps of each stage, which is as long in epochs as its share of all steps; one stage
            if there are fewer than two.

    Returns:
        None if the mean gain is below `MIN_GAIN`, its 95% interval over seeds includes 0, a score
        is undefined, or there are fewer than three seeds or four epochs of the last stage.
    """
    if len(stages) > 1:
        num_last = round(curves.shape[1] * stages[-1] / sum(stages))
        curves = curves[:, curves.shape[1] - num_last :]
    num_seeds, num_epochs = curves.shape
    if num_seeds < _MIN_SEEDS or num_epochs < _MIN_EPOCHS or not np.isfinite(curves).all():
        return None
    late = max(1, round(FINAL_FRACTION * num_epochs))
    gains = curves[:, -1] - curves[:, -1 - late]
    if gains.mean() < MIN_GAIN or mean_interval(gains, 0.95).ci_low <= 0:
        return None
    return LateGain(late, float(gains.mean()))
