"""Test examples are a sample too: intervals for the difference "on new test sets".

The seed interval holds for the test set at hand. Here both the seeds and the test examples vary:
the variance components of a two-way layout (Owen 2007, Searle et al. 1992) of what each example
contributes to the score under each seed. A contribution is the jackknife value

    (N_c - 1)·(score - score without the example),    N_c examples in the example's stratum c,

which for a mean is the example's own value less the mean, and for macro-F1, AUROC and average
precision the same to first order (Efron & Stein 1981). Strata are the classes, so that a new test
set has as many examples of each class; for means over all examples there is one. What the interval
does not cover: other training pools.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cwjax.analysis.evaluation import Evaluation, head_middle_tail
from cwjax.analysis.intervals import FloatArray, Interval, error_rate, finite_array
from cwjax.analysis.metrics import score_of
from cwjax.analysis.paired import t_quantile


@dataclass(frozen=True, eq=False)
class Contributions:
    """One run's score, and what each test example contributes to it."""

    score: float
    """NaN where the metric is undefined."""
    values: FloatArray
    """`[num_examples]`, in the unit of the score; NaN where an example's stratum has no other."""
    strata: NDArray[np.integer[Any]]
    """`[num_examples]`: examples of one stratum are exchangeable."""


@dataclass(frozen=True)
class Variance:
    """An estimated variance of a mean, and its degrees of freedom."""

    value: float
    df: float


def contributions(
    metric: str,
    logits: ArrayLike,
    labels: ArrayLike,
    train_counts: ArrayLike,
    score: float | None = None,
) -> Contributions:
    """What each test example contributes to one run's score.

    Args:
        metric: a name in `METRICS` whose `new_test_sets` is true.
        logits: `[num_examples, num_classes]`, of the test split.
        labels: integers `[num_examples]`.
        train_counts: real training examples `[num_classes]`.
        score: of these logits, where it is known.

    Raises:
        ValueError: a metric without such values, or what `metrics.scores` raises.
    """
    if metric not in _CONTRIBUTIONS:
        raise ValueError(f"{metric} has no contributions: only {', '.join(_CONTRIBUTIONS)} have")
    e = Evaluation(np.asarray(logits), np.asarray(labels), np.asarray(train_counts))
    strata = np.zeros_like(e.labels) if metric in _ONE_STRATUM else e.labels
    values = _CONTRIBUTIONS[metric](e)
    return Contributions(score_of(metric, e) if score is None else score, values, strata)


def interval_from(
    baseline: Sequence[Contributions],
    treatment: Sequence[Contributions],
    confidence: float = 0.95,
    critical_value: float | None = None,
) -> Interval | None:
    """The interval for the mean difference over new seeds and new test examples.

    Args:
        baseline: of each seed.
        treatment: of each seed, in the same order.
        confidence: 1 - α.
        critical_value: half-width of the seed interval in standard errors (`Judged.critical_value`,
            which holds for a whole family). Student's quantile without it. This interval is widened
            by as much as the seed interval is, and never narrower than it.

    Returns:
        None where no variance can be estimated: a single seed, a class that counts with a single
        test example, arms that never differ, a metric that is undefined (NaN) in a run.
    """
    n, alpha = len(baseline), error_rate(confidence)
    if n < 2:
        return None
    d = np.array([t.score - b.score for b, t in zip(baseline, treatment, strict=True)])
    values = np.stack([t.values - b.values for b, t in zip(baseline, treatment, strict=True)])
    if not (np.isfinite(d).all() and np.isfinite(values).all()):
        return None
    variance = two_way_variance(d, values, baseline[0].strata)
    if not variance.value > 0:
        return None
    student = t_quantile(alpha, n)
    of_seeds = student if critical_value is None else max(critical_value, student)
    both = t_quantile(alpha, 1 + variance.df) * np.sqrt(variance.value) * of_seeds / student
    half = max(float(both), of_seeds * float(d.std(ddof=1)) / n**0.5)
    centre = float(d.mean())
    return Interval(centre - half, centre + half, confidence)


def two_way_variance(
    score_differences: ArrayLike, contributions: ArrayLike, strata: ArrayLike
) -> Variance:
    """Variance of a mean difference when seeds and, within strata, test examples are sampled.

    s²_d/n + Σ_c max(0, s²_c(D̄_·j) - s²_res,c/n)/N_c: s²_d is the variance of the score over seeds,
    D̄_·j the mean over seeds of an example's contribution, s²_res,c the mean square of what neither
    seed nor example explains. Degrees of freedom after Satterthwaite 1946.

    Args:
        score_differences: `[num_seeds]`, at least 2 seeds.
        contributions: D, treatment - baseline, `[num_seeds, num_examples]`. For balanced accuracy
            over K classes: correctness / K.
        strata: integers `[num_examples]`, at least 2 examples each where contributions are not 0.
    """
    scores = finite_array(score_differences, "score_differences")
    d, strata = finite_array(contributions, "contributions", ndim=2), np.asarray(strata)
    n = len(scores)
    value = scores.var(ddof=1) / n
    spread = value**2 / (n - 1)
    for stratum in np.unique(strata):
        part = d[:, strata == stratum]
        size = part.shape[1]
        if size < 2:
            continue
        example_means = part.mean(axis=0)
        residual = part - part.mean(axis=1, keepdims=True) - example_means + part.mean()
        residual_df = (n - 1) * (size - 1)
        from_examples = example_means.var(ddof=1) / size
        from_residual = (residual**2).sum() / residual_df / (n * size)
        if from_examples > from_residual:
            value += from_examples - from_residual
            spread += from_examples**2 / (size - 1) + from_residual**2 / residual_df
    return Variance(float(value), float(value**2 / spread) if spread > 0 else n - 1)


_ONE_STRATUM = frozenset({"accuracy", "loss", "brier"})
"""Means over all examples. The others are means over classes."""


_Values = Callable[[Evaluation], FloatArray]


def _class_average(
    values: _Values, group: Callable[[Evaluation], NDArray[Any]] | None = None
) -> _Values:
    """Contributions to the mean, over the classes of a group, of the classes' mean values."""

    def contributions(e: Evaluation) -> FloatArray:
        members = e.present if group is None else e.group(group(e))
        shares = np.where(e.test_counts == 1, np.nan, 1 / max(members.sum(), 1))
        averaged: FloatArray = np.where(members[e.labels], values(e) * shares[e.labels], 0.0)
        return averaged

    return contributions


def _others(e: Evaluation) -> FloatArray:
    """How many other examples each example's class has, NaN for none, `[num_examples]`."""
    others: FloatArray = np.where(e.test_counts == 1, np.nan, e.test_counts - 1.0)[e.labels]
    return others


def _correct(e: Evaluation) -> FloatArray:
    return np.asarray(e.predictions == e.labels, np.float64)


def _macro_f1(e: Evaluation) -> FloatArray:
    """From the confusion matrix without the example: only its own and its predicted class change.

    A present class's F1 is 2TP/(2TP + FP + FN); the denominator stays above 0 while the class has
    another example.
    """
    true, predicted = e.labels, e.predictions
    hits, total = e.confusion.diagonal(), e.confusion.sum(axis=0) + e.test_counts
    hit = true == predicted
    own = 2 * (hits[true] - hit) / np.maximum(total[true] - 1 - hit, 1)
    other = 2 * hits[predicted] / np.maximum(total[predicted] - 1, 1)
    change = own - e.f1[true]
    change += np.where(hit | ~e.present[predicted], 0.0, other - e.f1[predicted])
    return np.asarray(-change * _others(e) / e.present.sum(), np.float64)


def _over_classes(
    without_each: Callable[[FloatArray, NDArray[np.bool_]], tuple[float, FloatArray]],
) -> _Values:
    """Contributions to the mean over present classes of a score of one class's probabilities.

    Args:
        without_each: gives the score of a class and, `[num_examples]`, the score without each.
    """

    def contributions(e: Evaluation) -> FloatArray:
        total = np.zeros(e.labels.size)
        for c in np.flatnonzero(e.present):
            whole, without = without_each(e.probabilities[:, c], e.labels == c)
            total += whole - without
        return np.asarray(total * _others(e) / e.present.sum(), np.float64)

    return contributions


def _auroc_without_each(score: FloatArray, positive: NDArray[np.bool_]) -> tuple[float, FloatArray]:
    """By placements (DeLong et al. 1988): how many of the other side each example is ranked right.

    Ties count half.
    """
    e = _placed(score, positive)
    num_positives, num_negatives = len(e.positives), len(e.negatives)
    of_positives = (e.negatives_below + e.negatives_not_above) / 2
    of_negatives = num_positives - (e.positives_below + e.positives_not_above) / 2
    total, pairs = of_positives.sum(), num_positives * num_negatives
    without = np.empty(score.size)
    for places, right, rest in (
        (e.positives, of_positives, pairs - num_negatives),
        (e.negatives, of_negatives, pairs - num_positives),
    ):
        without[places] = (total - right) / (rest if rest > 0 else np.nan)
    return float(total / pairs) if pairs else float("nan"), without


def _average_precision_without_each(
    score: FloatArray, positive: NDArray[np.bool_]
) -> tuple[float, FloatArray]:
    """Without an example, the precision at each positive that is scored no higher changes."""
    e, without = _placed(score, positive), np.empty(score.size)
    num_positives = len(e.positives)
    sorted_scores = score[e.positives]
    # Of the examples scored no lower than each positive: positives, all, all but one.
    true = num_positives - np.searchsorted(sorted_scores, sorted_scores)
    every = true + len(e.negatives) - e.negatives_below
    others = np.maximum(every - 1, 1)
    precision = true / every
    total = precision.sum()

    def changed(precision_left: FloatArray, not_above: NDArray[np.intp]) -> FloatArray:
        """The sum over the positives, so many of the lowest with their new precision."""
        return np.asarray(total + _cumulative(precision_left - precision)[not_above], np.float64)

    # A positive is itself among those scored no higher: its own term goes.
    left = (true - 1) / others
    not_above = np.searchsorted(sorted_scores, sorted_scores, "right")
    without[e.positives] = (changed(left, not_above) - left) / max(num_positives - 1, 1)
    without[e.negatives] = changed(true / others, e.positives_not_above) / num_positives
    return float(total / num_positives), without


class _Placed(NamedTuple):
    """How the positives of a class, in ascending order, and its negatives lie to each other."""

    positives: NDArray[np.intp]  # [num_positives], indices into the examples, ascending by score
    negatives: NDArray[np.intp]  # [num_negatives], the same, unordered
    positives_below: NDArray[np.intp]  # [num_negatives]: positives scored lower
    positives_not_above: NDArray[np.intp]  # [num_negatives]: positives scored no higher
    negatives_below: NDArray[np.intp]  # [num_positives]
    negatives_not_above: NDArray[np.intp]  # [num_positives]


def _placed(score: FloatArray, positive: NDArray[np.bool_]) -> _Placed:
    """Sorts the positives alone: of many classes they are the fewer."""
    positives, negatives = np.flatnonzero(positive), np.flatnonzero(~positive)
    positives = positives[np.argsort(score[positives])]
    ascending, others = score[positives], score[negatives]
    below = np.searchsorted(ascending, others)
    tied = np.append(ascending, np.inf)[below] == others
    not_above = below.copy()
    not_above[tied] = np.searchsorted(ascending, others[tied], "right")
    below_positives, not_above_positives = (
        # A negative is below the positives from its place on.
        np.cumsum(np.bincount(place, minlength=len(positives) + 1))[:-1]
        for place in (not_above, below)
    )
    return _Placed(positives, negatives, below, not_above, below_positives, not_above_positives)


def _cumulative(values: NDArray[Any]) -> NDArray[Any]:
    """Sums of the first 0, 1, … values."""
    return np.concatenate([[0], np.cumsum(values)])


def _third(index: int) -> Callable[[Evaluation], NDArray[Any]]:
    return lambda e: head_middle_tail(e.train_counts)[index]


_CONTRIBUTIONS: Mapping[str, _Values] = MappingProxyType(
    {
        "accuracy": _correct,
        "balanced_accuracy": _class_average(_correct),
        "macro_f1": _macro_f1,
        "loss": lambda e: e.log_losses,
        "balanced_nll": _class_average(lambda e: e.log_losses),
        "brier": lambda e: e.brier_scores,
        "auroc": _over_classes(_auroc_without_each),
        "average_precision": _over_classes(_average_precision_without_each),
        "recall_head": _class_average(_correct, _third(0)),
        "recall_middle": _class_average(_correct, _third(1)),
        "recall_tail": _class_average(_correct, _third(2)),
        "recall_many": _class_average(_correct, lambda e: e.train_counts > 100),
        "recall_medium": _class_average(
            _correct, lambda e: (e.train_counts >= 20) & (e.train_counts <= 100)
        ),
        "recall_few": _class_average(_correct, lambda e: e.train_counts < 20),
    }
)
