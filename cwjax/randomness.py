"""Every random draw has a seed, a purpose and, where it repeats, a counter; nothing else.

Draws that choose *data* (the validation cut, subsamples, the order of an epoch, mixing) are made on
the host with NumPy, because their shapes follow the data and would make every data set compile
anew. Draws inside the compiled step (initial parameters, dropout, augmentation) use JAX's threefry
keys. Both are split by purpose, so that adding a draw somewhere never changes another: the order of
epoch 7 is a function of (seed, 7) alone.
"""

from __future__ import annotations

import enum

import numpy as np


class Purpose(enum.IntEnum):
    """What a random stream is for; the numbers are part of the results' reproducibility."""

    VALIDATION = 0
    CLASS_ORDER = 1
    SUBSAMPLE = 2
    ORDER = 3
    MIXING = 4
    INIT = 5
    DROPOUT = 6
    HEAD_INIT = 7
    AUGMENT = 8
    TEST_SPLIT = 9
    ESTIMATOR = 10
    VALIDATION_SUBSAMPLE = 11


def rng(seed: int, purpose: Purpose, *counters: int) -> np.random.Generator:
    """NumPy's generator for one purpose of one seed (and epoch, where there is one).

    Args:
        seed: the run's seed, an integer in [0, 2**32).
        purpose: what is drawn.
        *counters: the epoch, or any further non-negative integers that tell repeated draws apart.
    """
    return np.random.default_rng([seed, purpose, *counters])
