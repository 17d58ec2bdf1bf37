"""Test examples are a sample too: intervals for the difference "on new test sets".

The seed interval holds for the test set at hand. Here both the seeds and the test examples vary:
for accuracy and balanced accuracy by the variance components of a two-way layout, for the other
metrics by resampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cwjax.analysis.intervals import FloatArray, finite_array, t_interval
from cwjax.analysis.metrics import resampled_score

NUM_RESAMPLES = 200
"""Of the two-way bootstrap: the standard error it gives is itself uncertain by 5%."""

IntegerArray = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class NewTestSetInterval:
    """A confidence interval for the mean difference over new seeds and new test examples."""

    ci_low: float
    ci_high: float
    confidence: float
    method: str
    """How it was computed, for the reader."""


@dataclass(frozen=True)
class Variance:
    """An estimated variance of a mean, and its degrees of freedom."""

    value: float
    df: float


def new_test_set_interval(
    metric: str,
    baseline_logits: Sequence[NDArray[Any]],
    treatment_logits: Sequence[NDArray[Any]],
    labels: ArrayLike,
    train_counts: ArrayLike,
    confidence: float = 0.95,
) -> NewTestSetInterval | None:
    """The interval of one comparison, by the method that suits its metric.

    Args:
        metric: a name in `METRICS`.
        baseline_logits: per seed `[num_examples, num_classes]`, in the same order of seeds as
        treatment_logits: the same.
        labels: integers `[num_examples]`.
        train_counts: real training examples `[num_seeds, num_classes]`.
        confidence: 1 - α.

    Returns:
        None where no variance can be estimated: a single seed, a class with a single test example,
        arms that never differ, a metric that is undefined (NaN) in a run.

    Raises:
        ValueError: unequal numbers of runs, or what `metrics.scores` raises.
    """
    labels, train_counts = np.asarray(labels), np.asarray(train_counts)
    num_seeds = len(baseline_logits)
    if not num_seeds == len(treatment_logits) == len(train_counts):
        raise ValueError("baseline, treatment and train_counts need one entry a seed")
    if num_seeds < 2 or np.unique(labels, return_counts=True)[1].min() < 2:
        return None
    if metric in ("accuracy", "balanced_accuracy"):
        d = _correct(treatment_logits, labels) - _correct(baseline_logits, labels)
        groups = labels if metric == "balanced_accuracy" else np.zeros_like(labels)
        centre = _group_means(d, groups).mean()
        variance = two_way_variance(d, groups)
        method = "variance components of seeds and test examples, Satterthwaite's t"
    else:
        rows = _score_differences(metric, baseline_logits, treatment_logits, labels, train_counts)
        centre = rows[0].mean()
        variance = Variance(_bootstrap_variance(rows[1:]), num_seeds - 1)
        method = "two-way bootstrap over seeds and test examples, a little too wide"
    if not variance.value > 0:
        return None
    interval = t_interval(centre, np.sqrt(variance.value), variance.df, confidence)
    return NewTestSetInterval(interval.ci_low, interval.ci_high, confidence, method)


def two_way_variance(differences: ArrayLike, groups: ArrayLike) -> Variance:
    """Variance of a mean difference when seeds and, within groups, test examples are sampled.

    s²_d/n + Σ_c max(0, s²_c(D̄_·j) - s²_res,c/n)/(N_c·K²): s²_d is the variance over seeds (of their
    means over the K groups' means), N_c the number of examples of group c, s²_res,c the mean square
    of what neither seed nor example explains. Degrees of freedom after Satterthwaite 1946.

    Args:
        differences: `[num_seeds, num_examples]`, e.g. correctness of treatment - baseline; at least
            2 seeds.
        groups: integers `[num_examples]`, at least 2 examples each: all equal for accuracy, the
            labels for balanced accuracy.
    """
    d, groups = finite_array(differences, "differences", ndim=2), np.asarray(groups)
    n = len(d)
    from_seeds = _group_means(d, groups).mean(axis=1).var(ddof=1) / n
    value, spread = from_seeds, from_seeds**2 / (n - 1)
    classes = np.unique(groups)
    for group in classes:
        part = d[:, groups == group]
        num_examples = part.shape[1]
        share = num_examples * len(classes) ** 2
        example_means = part.mean(axis=0)
        residual = part - part.mean(axis=1, keepdims=True) - example_means + part.mean()
        residual_df = (n - 1) * (num_examples - 1)
        from_examples = example_means.var(ddof=1) / share
        from_residual = (residual**2).sum() / residual_df / (n * share)
        if from_examples > from_residual:
            value += from_examples - from_residual
            spread += from_examples**2 / (num_examples - 1) + from_residual**2 / residual_df
    return Variance(float(value), float(value**2 / spread) if spread > 0 else n - 1)


def _score_differences(
    metric: str,
    baseline_logits: Sequence[NDArray[Any]],
    treatment_logits: Sequence[NDArray[Any]],
    labels: IntegerArray,
    train_counts: IntegerArray,
) -> FloatArray:
    """Score differences of every seed on the test set (first row) and on its resamples.

    A resample draws as many examples of each class as there are, with replacement, the same ones
    for all runs.

    Returns:
        `[1 + NUM_RESAMPLES, num_seeds]`
    """
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    repeats = np.ones((1 + NUM_RESAMPLES, labels.size), np.int64)
    for row in repeats[1:]:
        drawn = np.concatenate([rng.choice(m, m.size) for m in members])
        row[:] = np.bincount(drawn, minlength=labels.size)
    seeds = zip(baseline_logits, treatment_logits, train_counts, strict=True)
    differences = [
        resampled_score(metric, treatment, labels, counts, repeats)
        - resampled_score(metric, baseline, labels, counts, repeats)
        for baseline, treatment, counts in seeds
    ]
    return np.stack(differences, axis=1)


def _bootstrap_variance(differences: FloatArray) -> float:
    """Variance over resamples of the mean over resampled seeds; `[num_resamples, num_seeds]`."""
    num_seeds = differences.shape[1]
    seeds = np.random.default_rng(1).integers(num_seeds, size=differences.shape)
    return float(np.take_along_axis(differences, seeds, axis=1).mean(axis=1).var(ddof=1))


def _correct(logits: Sequence[NDArray[Any]], labels: IntegerArray) -> FloatArray:
    """Whether each run is right on each example, `[num_seeds, num_examples]`, 0 or 1."""
    return np.stack([run.argmax(axis=1) == labels for run in logits]).astype(np.float64)


def _group_means(values: FloatArray, groups: IntegerArray) -> FloatArray:
    """`[num_seeds, num_examples]` -> means over the examples of each group, `[num_seeds, K]`."""
    return np.stack([values[:, groups == g].mean(axis=1) for g in np.unique(groups)], axis=1)
