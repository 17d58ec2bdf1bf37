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
    auroc,
    average_precision,
    calibration_error,
    head_middle_tail,
)
from cwjax.errors import ConfigError, check_name


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
    new_test_sets: bool = False
    """Whether it is smooth enough in the test examples for an interval over new test sets. If not,
    or without logits, "better" can only be claimed for this test set."""


Formula = Callable[[Evaluation], float | np.floating[Any]]


def _g_mean(e: Evaluation) -> float:
    with np.errstate(divide="ignore"):  # log(0) is -inf, and its exponential 0 again
        return float(np.exp(np.log(e.over_present(e.recall)).mean()))


def _ece(e: Evaluation) -> float:
    return calibration_error(e.probabilities.max(axis=1), e.predictions == e.labels)


def _mean_over_present(of_class: Callable[[FloatArray, NDArray[np.bool_]], float]) -> Formula:
    """The mean of a score that judges one class's probabilities, for every class present."""
    return lambda e: np.mean(
        [of_class(e.probabilities[:, c], e.labels == c) for c in np.flatnonzero(e.present)]
    )


def _recall_of_third(third: int) -> Formula:
    return lambda e: e.group_recall(head_middle_tail(e.train_counts)[third])


_SMOOTH: dict[str, Any] = {"new_test_sets": True}
_SMOOTH_LOSS = _SMOOTH | {"higher_is_better": False, "is_fraction": False}

_TABLE: tuple[tuple[Metric, Formula], ...] = (
    (Metric("accuracy", "accuracy", **_SMOOTH), lambda e: (e.predictions == e.labels).mean()),
    (
        Metric("balanced_accuracy", "balanced accuracy", **_SMOOTH),
        lambda e: e.over_present(e.recall).mean(),
    ),
    (Metric("macro_f1", "macro-F1", **_SMOOTH), lambda e: e.over_present(e.f1).mean()),
    (Metric("g_mean", "G-mean"), _g_mean),
    (Metric("worst_class_recall", "worst-class recall"), lambda e: e.over_present(e.recall).min()),
    (Metric("loss", "test loss", worst=None, **_SMOOTH_LOSS), lambda e: e.log_losses.mean()),
    (
        Metric("balanced_nll", "balanced log loss", worst=None, **_SMOOTH_LOSS),
        lambda e: e.over_present(e.class_means(e.log_losses)).mean(),
    ),
    (
        Metric("brier", "Brier score", worst=2.0, **_SMOOTH_LOSS),
        lambda e: e.brier_scores.mean(),
    ),
    (Metric("ece", "calibration error (ECE)", higher_is_better=False, worst=1.0), _ece),
    (
        Metric("classwise_ece", "classwise calibration error", higher_is_better=False, worst=1.0),
        _mean_over_present(calibration_error),
    ),
    (Metric("auroc", "macro AUROC", **_SMOOTH), _mean_over_present(auroc)),
    (
        Metric("average_precision", "macro average precision", **_SMOOTH),
        _mean_over_present(average_precision),
    ),
    (Metric("recall_head", "recall of head classes", **_SMOOTH), _recall_of_third(0)),
    (Metric("recall_middle", "recall of middle classes", **_SMOOTH), _recall_of_third(1)),
    (Metric("recall_tail", "recall of tail classes", **_SMOOTH), _recall_of_third(2)),
    (
        Metric("recall_many", "recall of classes with > 100 examples", **_SMOOTH),
        lambda e: e.group_recall(e.train_counts > 100),
    ),
    (
        Metric("recall_medium", "recall of classes with 20 to 100 examples", **_SMOOTH),
        lambda e: e.group_recall((e.train_counts >= 20) & (e.train_counts <= 100)),
    ),
    (
        Metric("recall_few", "recall of classes with < 20 examples", **_SMOOTH),
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
        ConfigError: the name is taken, or an interval over new test sets is promised, which needs
            what each example contributes (`new_test_sets.py`).
    """
    if metric.new_test_sets:
        raise ConfigError(
            f"{metric.name} has new_test_sets=True, but nothing says what each test example "
            "contributes: leave it out"
        )
    _add(metric, formula)


def _add(metric: Metric, formula: Formula) -> None:
    if metric.name in METRICS:
        raise ConfigError(f"there is a metric {metric.name!r} already: give another name")
    METRICS[metric.name], _FORMULAS[metric.name] = metric, formula


for _metric, _formula in _TABLE:
    _add(_metric, _formula)


def find_metric(name: str) -> Metric:
    """The metric of that name.

    Raises:
        ConfigError: there is none; the message lists them.
    """
    check_name("--metric", name, METRICS)
    return METRICS[name]


def scores(logits: ArrayLike, labels: ArrayLike, train_counts: ArrayLike) -> dict[str, float]:
    """Every metric of one run.

    Args:
        logits: float `[num_examples, num_classes]`.
        labels: integers `[num_examples]` in [0, num_classes).
        train_counts: integers `[num_classes]`, the real training examples of each class.

    Returns:
        `METRICS` name -> score; fractions (log losses in nats, Brier scores in [0, 2]), NaN where
        undefined: the recall of a group without classes in the test set, AUROC when the test set
        has one class only.

    Raises:
        ValueError: see `Evaluation`.
    """
    evaluation = Evaluation(np.asarray(logits), np.asarray(labels), np.asarray(train_counts))
    return {name: float(formula(evaluation)) for name, formula in _FORMULAS.items()}


def score(name: str, logits: ArrayLike, labels: ArrayLike, train_counts: ArrayLike) -> float:
    """One metric of one run: `scores(...)[name]`, without computing the others."""
    return score_of(
        name, Evaluation(np.asarray(logits), np.asarray(labels), np.asarray(train_counts))
    )


def score_of(name: str, evaluation: Evaluation) -> float:
    """One metric of a run whose evaluation is there already: see `score`."""
    return float(_FORMULAS[name](evaluation))


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
        "n_test": e.test_counts,
    }
