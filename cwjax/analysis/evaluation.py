"""One run on the test set: its confusion matrix, probabilities and per-class scores; NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

NUM_BINS = 15
"""Equal-width bins of the expected calibration error, as in Guo et al. 2017."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One run on the test set; what several metrics need is computed once, when first asked for.

    Attributes:
        logits: float `[num_examples, num_classes]`; computed with in float64.
        labels: integers `[num_examples]` in [0, num_classes).
        train_counts: integers `[num_classes]`, the real training examples of each class.

    Raises:
        ValueError: shapes that do not fit, no examples, labels out of range, or logits that are
            not finite (such a run has diverged and has no score).
    """

    logits: NDArray[Any]
    labels: NDArray[Any]
    train_counts: NDArray[Any]

    def __post_init__(self) -> None:
        if self.logits.ndim != 2 or 0 in self.logits.shape:
            raise ValueError(
                f"logits have shape {self.logits.shape}, not [num_examples, num_classes]"
            )
        num_examples, num_classes = self.logits.shape
        if self.labels.shape != (num_examples,) or self.train_counts.shape != (num_classes,):
            raise ValueError(
                f"labels {self.labels.shape} and train_counts {self.train_counts.shape} do not fit "
                f"logits {self.logits.shape}"
            )
        if not np.issubdtype(self.labels.dtype, np.integer):
            raise ValueError(f"labels are {self.labels.dtype}, not integers")
        if self.labels.min() < 0 or self.labels.max() >= num_classes:
            raise ValueError(f"labels must lie in [0, {num_classes})")
        num_bad = int(np.sum(~np.isfinite(self.logits)))
        if num_bad:
            raise ValueError(f"{num_bad} of {self.logits.size} logits are not finite")

    @cached_property
    def log_probabilities(self) -> FloatArray:
        """Log-softmax, `[num_examples, num_classes]`."""
        shifted = self.logits.astype(np.float64)
        shifted -= shifted.max(axis=1, keepdims=True)
        normalised: FloatArray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return normalised

    @cached_property
    def probabilities(self) -> FloatArray:
        """Softmax, `[num_examples, num_classes]`."""
        probabilities: FloatArray = np.exp(self.log_probabilities)
        return probabilities

    @cached_property
    def predictions(self) -> IntArray:
        """The class of the largest logit, the first of equals, `[num_examples]`."""
        return np.asarray(self.logits.argmax(axis=1), np.int64)

    @cached_property
    def log_losses(self) -> FloatArray:
        """Negative log-likelihood of each example's class in nats, `[num_examples]`."""
        own = self.log_probabilities[np.arange(self.labels.size), self.labels]
        return np.asarray(-own, np.float64)

    @cached_property
    def brier_scores(self) -> FloatArray:
        """Σ_c (p_c - [class is c])² of each example, in [0, 2], `[num_examples]` (Brier 1950)."""
        own = self.probabilities[np.arange(self.labels.size), self.labels]
        squares = (self.probabilities**2).sum(axis=1)
        return np.asarray(squares + 1 - 2 * own, np.float64)

    @cached_property
    def confusion(self) -> IntArray:
        """See `confusion_matrix`."""
        return confusion_matrix(self.labels, self.predictions, self.logits.shape[1])

    @cached_property
    def test_counts(self) -> IntArray:
        """Number of test examples of each class, `[num_classes]`."""
        return np.bincount(self.labels, minlength=self.logits.shape[1])

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """Which classes the test set has, `[num_classes]`."""
        return self.test_counts > 0

    @cached_property
    def recall(self) -> FloatArray:
        """TP / (TP + FN), NaN for a class absent from the test set, `[num_classes]`."""
        return _divide(self.confusion.diagonal(), self.confusion.sum(axis=1))

    @cached_property
    def precision(self) -> FloatArray:
        """TP / (TP + FP), NaN for a class that is never predicted, `[num_classes]`."""
        return _divide(self.confusion.diagonal(), self.confusion.sum(axis=0))

    @cached_property
    def f1(self) -> FloatArray:
        """2TP / (2TP + FP + FN), NaN for a class neither present nor predicted, `[num_classes]`."""
        return _divide(2 * self.confusion.diagonal(), self.confusion.sum(axis=0) + self.test_counts)

    def class_means(self, values: NDArray[Any]) -> FloatArray:
        """The mean over each class's examples of values `[num_examples]`, NaN for absent ones.

        Not a matrix product: that adds in an order that depends on the number of CPU cores.
        """
        return _divide(np.bincount(self.labels, values, self.logits.shape[1]), self.test_counts)

    def over_present(self, per_class: FloatArray) -> FloatArray:
        """The values `[num_present]` of the classes that the test set has."""
        return per_class[self.present]

    def group(self, members: NDArray[Any]) -> NDArray[np.bool_]:
        """The present classes of a group (mask or indices), as a mask `[num_classes]`."""
        mask = np.zeros_like(self.present)
        mask[members] = True
        return mask & self.present

    def group_recall(self, members: NDArray[Any]) -> float:
        """Mean recall of the classes in a group (mask or indices) that are present, or NaN."""
        recall = self.recall[self.group(members)]
        return float(recall.mean()) if recall.size else float("nan")


def confusion_matrix(labels: ArrayLike, predictions: ArrayLike, num_classes: int) -> IntArray:
    """Count examples by true class (row) and predicted class (column).

    Args:
        labels: integers `[num_examples]` in [0, num_classes).
        predictions: integers `[num_examples]` in [0, num_classes).
        num_classes: K.

    Returns:
        int64 `[num_classes, num_classes]`, as scikit-learn's.
    """
    pairs = np.asarray(labels, np.int64) * num_classes + np.asarray(predictions, np.int64)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def head_middle_tail(train_counts: ArrayLike) -> tuple[IntArray, IntArray, IntArray]:
    """Split the classes into thirds by training count.

    Head and tail are the max(1, K // 3) classes with the most and the fewest examples, middle is
    the rest: 3, 4 and 3 of 10 classes; 1, 2 and 1 of 4; 1, 0 and 1 of 2 (a single class is the
    head). Of classes with equal counts the one with the lower index counts as larger.

    Args:
        train_counts: integers `[num_classes]`.

    Returns:
        Class indices of head, middle and tail, largest class first.
    """
    order = np.argsort(-np.asarray(train_counts, np.int64), kind="stable")
    third = max(1, len(order) // 3)
    end = max(third, len(order) - third)
    return order[:third], order[third:end], order[end:]


def calibration_error(confidence: FloatArray, hit: NDArray[np.bool_]) -> float:
    """Expected calibration error (Guo et al. 2017): Σ_b (n_b/N)·|mean hit − mean confidence|.

    Args:
        confidence: predicted probabilities `[num_examples]` in [0, 1], binned into `NUM_BINS`
            intervals (low, high].
        hit: whether what was predicted came true `[num_examples]`.

    Returns:
        The error, a fraction.
    """
    edges = np.linspace(0, 1, NUM_BINS + 1)
    bins = np.searchsorted(edges[1:-1], confidence, side="left")
    gaps = np.bincount(bins, hit - confidence, NUM_BINS)
    return float(np.abs(gaps).sum() / confidence.size)


def auroc(score: FloatArray, positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve as a rank statistic: P(score⁺ > score⁻) + ½·P(score⁺ = score⁻).

    Args:
        score: `[num_examples]`.
        positive: which examples belong to the class, `[num_examples]`.

    Returns:
        The area, a fraction; NaN without positives or negatives (Mann & Whitney 1947).
    """
    negatives = np.sort(score[~positive])
    num_positives = score.size - negatives.size
    if not negatives.size or not num_positives:
        return float("nan")
    below, not_above = (
        np.searchsorted(negatives, score[positive], side=side) for side in ("left", "right")
    )
    return float((below + not_above).sum() / (2 * negatives.size * num_positives))


def average_precision(score: FloatArray, positive: NDArray[np.bool_]) -> float:
    """Mean, over the positives, of the precision among the examples scored no lower than each.

    It depends on how common the class is in the test set, which AUROC does not.

    Args:
        score: `[num_examples]`.
        positive: which examples belong to the class, `[num_examples]`.

    Returns:
        A fraction, scikit-learn's `average_precision_score`; NaN without positives.
    """
    positives, negatives = np.sort(score[positive]), np.sort(score[~positive])
    if not positives.size:
        return float("nan")
    true = positives.size - np.searchsorted(positives, positives, side="left")
    false = negatives.size - np.searchsorted(negatives, positives, side="left")
    return float((true / (true + false)).mean())


def _divide(numerator: NDArray[Any], denominator: NDArray[Any]) -> FloatArray:
    quotient = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient
