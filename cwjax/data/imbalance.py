"""How many examples each class keeps, and which: pure functions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cwjax.errors import ConfigError

_ROUNDING = 1e-9  # so that a product that is whole but for its last bits is not floored below


def long_tailed_counts(
    n_max: int, num_classes: int, imbalance_factor: float
) -> npt.NDArray[np.int64]:
    """Class counts that fall exponentially: n_c = ⌊n_max · μ^(c/(K−1))⌋, μ = 1/imbalance_factor.

    Source: Cui et al. 2019, "Class-balanced loss based on effective number of samples"; in this
    form Cao et al. 2019, "Learning imbalanced datasets with label-distribution-aware margin loss".

    Args:
        n_max: examples of the first class.
        num_classes: K, at least 2.
        imbalance_factor: n_max / n_min, at least 1.

    Returns:
        int64 `[num_classes]`, not increasing.

    Raises:
        ConfigError: a factor below 1, or one under which a class keeps no example.
    """
    exponents = np.linspace(0.0, 1.0, num_classes)
    return _counts(n_max, exponents, imbalance_factor)


def step_counts(n_max: int, num_classes: int, imbalance_factor: float) -> npt.NDArray[np.int64]:
    """Class counts of two levels: n_max for the first ⌈K/2⌉ classes, ⌊n_max · μ⌋ for the others.

    μ = 1/imbalance_factor. Source: Buda et al. 2018, "A systematic study of the class imbalance
    problem in convolutional neural networks", with half of the classes in the minority.

    Args:
        n_max: examples of each of the first ⌈K/2⌉ classes.
        num_classes: K, at least 2.
        imbalance_factor: n_max / n_min, at least 1.

    Returns:
        int64 `[num_classes]`, not increasing.

    Raises:
        ConfigError: a factor below 1, or one under which a class keeps no example.
    """
    exponents = np.where(np.arange(num_classes) < (num_classes + 1) // 2, 0.0, 1.0)
    return _counts(n_max, exponents, imbalance_factor)


def _counts(
    n_max: int, exponents: npt.NDArray[np.float64], imbalance_factor: float
) -> npt.NDArray[np.int64]:
    """⌊n_max · (1/imbalance_factor)^exponents⌋, checked."""
    if not imbalance_factor >= 1:
        raise ConfigError(f"--imbalance-factor is {imbalance_factor:g}: give at least 1")
    shares = (1.0 / imbalance_factor) ** exponents
    counts = np.floor(n_max * shares + _ROUNDING).astype(np.int64)
    if counts.min() == 0:
        raise ConfigError(
            f"--imbalance-factor is {imbalance_factor:g}: {np.sum(counts == 0)} of {len(counts)} "
            f"classes would keep no training example; give at most {n_max}, the examples of the "
            "smallest class after the validation cut, to which every class is cut first, or "
            "--imbalance none for the data as it is"
        )
    return counts


_PROFILES = {"long_tailed": long_tailed_counts, "step": step_counts}


def profile_counts(
    profile: str, n_max: int, num_classes: int, imbalance_factor: float
) -> npt.NDArray[np.int64]:
    """Class counts `[num_classes]` of a profile by its name, "long_tailed" or "step".

    Raises:
        ConfigError: an unknown name, or a class would keep no example.
    """
    if profile not in _PROFILES:
        raise ConfigError(f"--imbalance is {profile!r}: choose none, {', '.join(_PROFILES)}")
    return _PROFILES[profile](n_max, num_classes, imbalance_factor)


def counts_of_same_shares(
    class_counts: npt.NDArray[np.int64], available: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The class counts of a second draw that has the class shares of a first one.

    `m_c = ⌊s · n_c + ½⌋` with the largest s for which no class lacks examples, but at least 1 of
    every class that has any.

    Args:
        class_counts: n, `[num_classes]`, each at least 1: of the first draw.
        available: examples of each class to draw from, `[num_classes]`, one at least above 0.

    Returns:
        int64 `[num_classes]`, none above `available`.
    """
    ratios = available / class_counts
    scaled = np.floor(ratios[available > 0].min() * class_counts + 0.5 + _ROUNDING)
    counts: npt.NDArray[np.int64] = np.maximum(scaled, 1).astype(np.int64) * (available > 0)
    return counts


def subsample(
    labels: npt.NDArray[np.integer],
    class_counts: npt.NDArray[np.int64],
    generator: np.random.Generator,
) -> npt.NDArray[np.int32]:
    """Draw class_counts[c] examples of each class c without replacement.

    Each class is permuted as a whole and its first examples are kept: equal generators make a
    smaller draw a subset of a larger one, so a sweep over factors compares nested training sets.

    Args:
        labels: `[num_examples]`.
        class_counts: `[num_classes]`, none above the number of examples in labels.
        generator: the source of the draw.

    Returns:
        int32 `[sum(class_counts)]`, indices into labels, ascending.
    """
    kept = [
        generator.permutation(np.flatnonzero(labels == label))[:count]
        for label, count in enumerate(class_counts)
    ]
    return np.sort(np.concatenate(kept)).astype(np.int32)
