"""From class counts to class weights: one pure function a formula, and the two normalisations.

Notation: K classes, n_c training examples of class c, N = Σ n_c.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cwjax.errors import ConfigError


def balanced(class_counts: np.ndarray) -> np.ndarray:
    """`w_c = N / (K·n_c)`, scikit-learn's `balanced`; already normalised over the examples.

    Args:
        class_counts: int `[num_classes]`, each at least 1.

    Returns:
        float64 `[num_classes]`.

    Raises:
        ConfigError: a class without an example.

    References:
        King & Zeng 2001, "Logistic Regression in Rare Events Data".
    """
    check_class_counts(class_counts)
    weights: np.ndarray = class_counts.sum() / (len(class_counts) * class_counts)
    return weights


def inverse_power(class_counts: np.ndarray, gamma: float) -> np.ndarray:
    """`w_c = (n_min / n_c)^γ ∝ (1/n_c)^γ`; γ = ½ is the inverse square root.

    Args:
        class_counts: int `[num_classes]`, each at least 1.
        gamma: γ, at least 0.

    Returns:
        float64 `[num_classes]` in [0, 1], not normalised.

    Raises:
        ConfigError: a class without an example.

    References:
        Mahajan et al. 2018, "Exploring the Limits of Weakly Supervised Pretraining".
    """
    check_class_counts(class_counts)
    weights: np.ndarray = (class_counts.min() / class_counts) ** gamma
    return weights


def effective_number(class_counts: np.ndarray, beta: float) -> np.ndarray:
    """`w_c = (1−β) / (1−β^{n_c})`, one over the effective number of examples.

    Args:
        class_counts: int `[num_classes]`, each at least 1.
        beta: β in [0, 1); 0 gives equal weights, β → 1 the inverse counts.

    Returns:
        float64 `[num_classes]` in (0, 1], not normalised.

    Raises:
        ConfigError: a class without an example.

    References:
        Cui et al. 2019, "Class-Balanced Loss Based on Effective Number of Samples".
    """
    check_class_counts(class_counts)
    return (1 - beta) / (1 - beta ** class_counts.astype(np.float64))


def normalize(
    class_weights: np.ndarray, class_counts: np.ndarray, normalization: str
) -> np.ndarray:
    """Class weights times a factor that makes them 1 on average.

    `examples`: over the training examples, `Σ n_c·w_c = N` (scikit-learn's, keeps the total loss).
    `classes`: over the classes, `Σ w_c = K` (what the long-tail papers use).

    Args:
        class_weights: float `[num_classes]`, at least 0 and not all 0.
        class_counts: int `[num_classes]`.
        normalization: `examples` or `classes`.

    Returns:
        float64 `[num_classes]`.

    Raises:
        ConfigError: another normalisation.
    """
    normalized: np.ndarray
    if normalization == "examples":
        normalized = class_weights * (class_counts.sum() / (class_counts @ class_weights))
        return normalized
    if normalization == "classes":
        normalized = class_weights * (len(class_weights) / class_weights.sum())
        return normalized
    raise ConfigError(f"weight normalization {normalization!r}: give 'examples' or 'classes'")


def check_class_counts(class_counts: np.ndarray, class_names: Sequence[str] | None = None) -> None:
    """Refuse a class without a training example: its weight would be infinite.

    Args:
        class_counts: int `[num_classes]`.
        class_names: for the message; the indices if None.

    Raises:
        ConfigError: naming the classes without an example.
    """
    empty = [
        repr(class_names[index]) if class_names is not None else str(index)
        for index, count in enumerate(class_counts)
        if count < 1
    ]
    if empty:
        raise ConfigError(
            f"no training example of class {', '.join(empty)}: every class needs one to be weighted"
        )
