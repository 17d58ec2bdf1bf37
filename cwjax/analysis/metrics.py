"""Test logits of one run -> its scores; NumPy only.

One rule for classes that the test set lacks: what would divide by zero is NaN for that class, and
every mean, minimum or product over classes is over the classes *present* in the test set. Over
them each score equals scikit-learn's of the same name. An undefined score (an empty group) is NaN,
never 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cwjax.analysis.evaluation import (
    Evaluation,
    FloatArray,
    IntArray,
    auroc,
    calibration_error,
    head_middle_tail,
)
from cwjax.errors import ConfigError, suggestion


@dataclass(frozen=True)
class Metric:
    """What the comparison of two arms has to know about a score."""

    name: str
    title: str
    """For tables, axes and sentences, e.g. "balanced accuracy"."""
    higher_is_better: bool = True
    worst: float | None = 0.0
    """The worst possible score; None if there is none (a loss has no upper bound)."""
    is_fraction: bool = True
    """In [0, 1], printed in percent; otherwise printed as it is."""

    def format(self, value: float) -> str:
        """A score without its unit, e.g. 97.31 (percent)."""
        return f"{100 * value:.2f}" if self.is_fraction else f"{value:.4f}"

    def format_signed(self, difference: float) -> str:
        """A difference without its unit, e.g. +1.20 (percentage points)."""
        return f"{100 * difference:+.2f}" if self.is_fraction else f"{difference:+.4f}"


# A score `[]` of a test set, or `[num_resamples]` of its resamples: see `Evaluation.repeats`.
Formula = Callable[[Evaluation], FloatArray]


def _g_mean(e: Evaluation) -> FloatArray:
    recall = e.over_present(e.recall)
    with np.errstate(divide="ignore"):  # log(0) is -inf, and its exponential 0 again
        mean: FloatArray = np.exp(np.log(recall).mean(axis=-1))
        return mean


def _loss(e: Evaluation) -> FloatArray:
    return e.mean(-e.log_probabilities[np.arange(e.labels.size), e.labels])


def _ece(e: Evaluation) -> FloatArray:
    return calibration_error(e.probabilities.max(axis=1), e.predictions == e.labels, e.repeats)


def _mean_over_present(
    of_class: Callable[[FloatArray, NDArray[np.bool_], IntArray | None], FloatArray],
) -> Formula:
    """The mean of a score that judges one class's probabilities, for every class present."""
    return lambda e: np.mean(
        [
            of_class(e.probabilities[:, c], e.labels == c, e.repeats)
            for c in np.flatnonzero(e.present)
        ],
        axis=0,
    )


def _recall_of_third(third: int) -> Formula:
    return lambda e: e.group_recall(head_middle_tail(e.train_counts)[third])


_TABLE: tuple[tuple[Metric, Formula], ...] = (
    (Metric("accuracy", "accuracy"), lambda e: e.mean(e.predictions == e.labels)),
    (
        Metric("balanced_accuracy", "balanced accuracy"),
        lambda e: e.over_present(e.recall).mean(axis=-1),
    ),
    (Metric("macro_f1", "macro-F1"), lambda e: e.over_present(e.f1).mean(axis=-1)),
    (Metric("g_mean", "G-mean"), _g_mean),
    (
        Metric("worst_class_recall", "worst-class recall"),
        lambda e: e.over_present(e.recall).min(axis=-1),
    ),
    (Metric("loss", "test loss", higher_is_better=False, worst=None, is_fraction=False), _loss),
    (Metric("ece", "calibration error (ECE)", higher_is_better=False, worst=1.0), _ece),
    (
        Metric("classwise_ece", "classwise calibration error", higher_is_better=False, worst=1.0),
        _mean_over_present(calibration_error),
    ),
    (Metric("auroc", "macro AUROC"), _mean_over_present(auroc)),
    (Metric("recall_head", "recall of head classes"), _recall_of_third(0)),
    (Metric("recall_middle", "recall of middle classes"), _recall_of_third(1)),
    (Metric("recall_tail", "recall of tail classes"), _recall_of_third(2)),
    (
        Metric("recall_many", "recall of classes with > 100 examples"),
        lambda e: e.group_recall(e.train_counts > 100),
    ),
    (
        Metric("recall_medium", "recall of classes with 20 to 100 examples"),
        lambda e: e.group_recall((e.train_counts >= 20) & (e.train_counts <= 100)),
    ),
    (
        Metric("recall_few", "recall of classes with < 20 examples"),
        lambda e: e.group_recall(e.train_counts < 20),
    ),
)

METRICS: dict[str, Metric] = {}
"""Every score of a run, by the name of its column; a new metric is one more row of the table."""

_FORMULAS: dict[str, Formula] = {}


def register(metric: Metric, formula: Formula) -> None:
    """Adds a metric: every run that is stored from now on has its score.

    Args:
        metric: what it is called and how it is compared.
        formula: its score of a test set.

    Raises:
        ConfigError: the name is taken.
    """
    if metric.name in METRICS:
        raise ConfigError(f"there is a metric {metric.name!r} already: give another name")
    METRICS[metric.name], _FORMULAS[metric.name] = metric, formula


for _metric, _formula in _TABLE:
    register(_metric, _formula)


def find_metric(name: str) -> Metric:
    """The metric of that name.

    Raises:
        ConfigError: there is none; the message lists them.
    """
    if name not in METRICS:
        raise ConfigError(
            f"--metric is {name!r}{suggestion(name, METRICS)}: choose one of {', '.join(METRICS)}"
        )
    return METRICS[name]


def scores(logits: ArrayLike, labels: ArrayLike, train_counts: ArrayLike) -> dict[str, float]:
    """Every metric of one run.

    Args:
        logits: float `[num_examples, num_classes]`.
        labels: integers `[num_examples]` in [0, num_classes).
        train_counts: integers `[num_classes]`, the real training examples of each class.

    Returns:
        `METRICS` name -> score; fractions (the loss in nats), NaN where undefined: the recall of a
        group without classes in the test set, AUROC when the test set has one class only.

    Raises:
        ValueError: see `Evaluation`.
    """
    evaluation = Evaluation(np.asarray(logits), np.asarray(labels), np.asarray(train_counts))
    return {name: float(formula(evaluation)) for name, formula in _FORMULAS.items()}


def score(name: str, logits: ArrayLike, labels: ArrayLike, train_counts: ArrayLike) -> float:
    """One metric of one run: `scores(...)[name]`, without computing the others."""
    evaluation = Evaluation(np.asarray(logits), np.asarray(labels), np.asarray(train_counts))
    return float(_FORMULAS[name](evaluation))


def resampled_score(
    name: str, logits: ArrayLike, labels: ArrayLike, train_counts: ArrayLike, repeats: IntArray
) -> FloatArray:
    """One metric of one run on resamples of the test set, all of them in one pass.

    Args:
        name: of the metric.
        logits: and the next two as in `scores`.
        labels: see there.
        train_counts: see there.
        repeats: integers `[num_resamples, num_examples]`, see `Evaluation`.

    Returns:
        `[num_resamples]`.
    """
    evaluation = Evaluation(
        np.asarray(logits), np.asarray(labels), np.asarray(train_counts), repeats
    )
    return _FORMULAS[name](evaluation)


def class_scores(
    logits: ArrayLike, labels: ArrayLike, train_counts: ArrayLike
) -> dict[str, NDArray[Any]]:
    """The scores of each class of one run; arguments and errors as in `scores`.

    Returns:
        `recall`, `precision`, `f1` (float64, NaN where undefined), `n_train`, `n_test` (int64),
        each `[num_classes]`.
    """
    e = Evaluation(np.asarray(logits), np.asarray(labels), np.asarray(train_counts))
    return {
        "recall": e.recall,
        "precision": e.precision,
        "f1": e.f1,
        "n_train": e.train_counts.astype(np.int64),
        "n_test": e.confusion.sum(axis=1),
    }
