"""Whether runs were still learning when they ended."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cwjax.analysis.intervals import FloatArray, mean_interval

SHARE = 0.25
"""Of the epochs, those at the end that are looked at."""

LEAST_GAIN = 0.01
"""Of balanced validation accuracy; a smaller rise changes few verdicts."""


@dataclass(frozen=True)
class LateGain:
    """What an arm's runs gained at their end."""

    num_epochs: int
    """Looked at."""
    gain: float
    """Of balanced validation accuracy over these epochs, mean over seeds."""


def late_gain(curves: FloatArray) -> LateGain | None:
    """The gain over the last quarter of the epochs, where it is one.

    Args:
        curves: balanced validation accuracy `[num_seeds, num_epochs]`.

    Returns:
        None where the mean gain is below `LEAST_GAIN` or its 95% interval over seeds includes 0, a
        score is undefined, or there are fewer than three seeds or four epochs.
    """
    num_seeds, num_epochs = curves.shape
    if num_seeds < 3 or num_epochs < 4 or not np.isfinite(curves).all():
        return None
    late = max(1, round(SHARE * num_epochs))
    gains = curves[:, -1] - curves[:, -1 - late]
    if gains.mean() < LEAST_GAIN or mean_interval(gains, 0.95).ci_low <= 0:
        return None
    return LateGain(late, float(gains.mean()))
