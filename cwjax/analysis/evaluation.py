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
        repeats: integers `[num_resamples, num_examples]`, how often each example is in each
            resample of the test set; every resample has the test set's number of examples of each
            class. Sums over examples, and what follows from them, then have a leading axis
            `[num_resamples]`; what belongs to an example is computed once for all. None: the test
            set as it is, without that axis.

    Raises:
        ValueError: shapes that do not fit, no examples, labels out of range, or logits that are
            not finite (such a run has diverged and has no score).
    """

    logits: NDArray[Any]
    labels: NDArray[Any]
    train_counts: NDArray[Any]
    repeats: IntArray | None = None

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
        log_softmax: FloatArray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return log_softmax

    @cached_property
    def probabilities(self) -> FloatArray:
        """Softmax, `[num_examples, num_classes]`."""
        return np.exp(self.log_probabilities)

    @cached_property
    def predictions(self) -> IntArray:
        """The class of the largest logit, the first of equals, `[num_examples]`."""
        classes: IntArray = self.logits.argmax(axis=1)
        return classes

    @cached_property
    def confusion(self) -> IntArray:
        """See `confusion_matrix`."""
        num_classes = self.logits.shape[1]
        return confusion_matrix(self.labels, self.predictions, num_classes, self.repeats)

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """Which classes the test set has, `[num_classes]`."""
        return np.bincount(self.labels, minlength=self.logits.shape[1]) > 0

    @cached_property
    def recall(self) -> FloatArray:
        """TP / (TP + FN), NaN for a class absent from the test set, `[..., num_classes]`."""
        return _divide(_diagonal(self.confusion), self.confusion.sum(axis=-1))

    @cached_property
    def precision(self) -> FloatArray:
        """TP / (TP + FP), NaN for a class that is never predicted, `[..., num_classes]`."""
        return _divide(_diagonal(self.confusion), self.confusion.sum(axis=-2))

    @cached_property
    def f1(self) -> FloatArray:
        """2TP / (2TP + FP + FN), NaN for a class neither present nor predicted.

        `[..., num_classes]`.
        """
        predicted, true = self.confusion.sum(axis=-2), self.confusion.sum(axis=-1)
        return _divide(2 * _diagonal(self.confusion), predicted + true)

    def over_present(self, per_class: FloatArray) -> FloatArray:
        """The values `[..., num_present]` of the classes that the test set has."""
        return per_class[..., self.present]

    def group_recall(self, members: NDArray[Any]) -> FloatArray:
        """Mean recall of the classes in a group (mask or indices) that are present, or NaN."""
        group = np.zeros_like(self.present)
        group[members] = True
        recall = self.recall[..., group & self.present]
        return recall.mean(axis=-1) if recall.size else np.full(recall.shape[:-1], np.nan)

    def mean(self, values: NDArray[Any]) -> FloatArray:
        """Mean `[...]` over the test examples of values `[num_examples]`."""
        one_group = np.zeros_like(self.labels)
        return sums_by_group(one_group, 1, values, self.repeats)[..., 0] / len(values)


def sums_by_group(
    groups: NDArray[Any], num_groups: int, values: NDArray[Any], repeats: IntArray | None = None
) -> FloatArray:
    """Sum the examples' values within groups, each example as often as it is repeated.

    Not a matrix product: that adds in an order that depends on the number of CPU cores.

    Args:
        groups: integers `[num_examples]` in [0, num_groups).
        num_groups: of them.
        values: `[num_examples]`.
        repeats: `[num_resamples, num_examples]`, or None for each example once.

    Returns:
        float64 `[num_groups]`, or `[num_resamples, num_groups]`.
    """
    weights = values if repeats is None else repeats * values
    return np.apply_along_axis(lambda row: np.bincount(groups, row, num_groups), -1, weights)


def confusion_matrix(
    labels: ArrayLike,
    predictions: ArrayLike,
    num_classes: int,
    repeats: IntArray | None = None,
) -> IntArray:
    """Count examples by true class (row) and predicted class (column).

    Args:
        labels: integers `[num_examples]` in [0, num_classes).
        predictions: integers `[num_examples]` in [0, num_classes).
        num_classes: K.
        repeats: see `Evaluation`.

    Returns:
        int64 `[..., num_classes, num_classes]`, as scikit-learn's.
    """
    pairs = np.asarray(labels, np.int64) * num_classes + np.asarray(predictions, np.int64)
    counts = sums_by_group(pairs, num_classes**2, np.ones(pairs.size), repeats)
    return counts.reshape(*counts.shape[:-1], num_classes, num_classes).astype(np.int64)


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


def calibration_error(
    confidence: FloatArray, hit: NDArray[np.bool_], repeats: IntArray | None = None
) -> FloatArray:
    """Expected calibration error (Guo et al. 2017): Σ_b (n_b/N)·|mean hit − mean confidence|.

    Args:
        confidence: predicted probabilities `[num_examples]` in [0, 1], binned into `NUM_BINS`
            intervals (low, high].
        hit: whether what was predicted came true `[num_examples]`.
        repeats: see `Evaluation`.

    Returns:
        The error `[...]`, a fraction.
    """
    edges = np.linspace(0, 1, NUM_BINS + 1)
    bins = np.searchsorted(edges[1:-1], confidence, side="left")
    gaps = sums_by_group(bins, NUM_BINS, hit - confidence, repeats)
    error: FloatArray = np.abs(gaps).sum(axis=-1) / confidence.size
    return error


def auroc(
    score: FloatArray, positive: NDArray[np.bool_], repeats: IntArray | None = None
) -> FloatArray:
    """Area under the ROC curve as a rank statistic: P(score⁺ > score⁻) + ½·P(score⁺ = score⁻).

    Args:
        score: `[num_examples]`.
        positive: which examples belong to the class, `[num_examples]`.
        repeats: see `Evaluation`; here the two classes are positive and not.

    Returns:
        The area `[...]`, a fraction; NaN without positives or negatives (Mann & Whitney 1947).
    """
    repeats = np.ones(score.size, np.int64) if repeats is None else repeats
    negatives, positives = np.flatnonzero(~positive), np.flatnonzero(positive)
    if not negatives.size or not positives.size:
        return np.full(repeats.shape[:-1], np.nan)
    negatives = negatives[np.argsort(score[negatives])]
    # How many negatives lie below each place in their order.
    num_below = np.zeros((*repeats.shape[:-1], negatives.size + 1), np.int64)
    np.cumsum(repeats[..., negatives], axis=-1, out=num_below[..., 1:])
    below, not_above = (
        num_below[..., np.searchsorted(score[negatives], score[positives], side=side)]
        for side in ("left", "right")
    )
    wins = (repeats[..., positives] * (below + not_above)).sum(axis=-1)
    area: FloatArray = wins / (2 * negatives.size * positives.size)
    return area


def _diagonal(matrices: IntArray) -> IntArray:
    return matrices.diagonal(axis1=-2, axis2=-1)


def _divide(numerator: NDArray[Any], denominator: NDArray[Any]) -> FloatArray:
    quotient = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient
