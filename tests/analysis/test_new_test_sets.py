"""The interval that counts test examples as a sample too."""

import numpy as np
import pytest
import scipy.stats

from cwjax.analysis import new_test_sets
from cwjax.analysis.metrics import METRICS, score
from cwjax.analysis.new_test_sets import new_test_set_interval, two_way_variance
from cwjax.analysis.stats import mean_interval

LABELS = np.repeat(np.arange(3), [40, 30, 20])
COUNTS = np.tile([120, 60, 10], (5, 1))


def logits(shift, seed):
    """Five runs that share the hard examples; shift helps the last class."""
    rng, shared = np.random.default_rng(seed), np.random.default_rng(99)
    hard = shared.normal(0, 1, (90, 3))
    runs = rng.normal(0, 0.5, (5, 90, 3)) + hard + 1.2 * np.eye(3)[LABELS]
    runs[:, :, 2] += shift
    return list(runs.astype(np.float32))


BASELINE, TREATMENT = logits(0.0, 1), logits(0.8, 2)


def differences(metric):
    return [
        score(metric, t, LABELS, c) - score(metric, b, LABELS, c)
        for b, t, c in zip(BASELINE, TREATMENT, COUNTS, strict=True)
    ]


def by_hand(d, labels):
    """The formula of balanced accuracy, with two-way mean squares summed in loops."""
    n, classes = len(d), np.unique(labels)
    per_seed = [np.mean([row[labels == c].mean() for c in classes]) for row in d]
    total = np.var(per_seed, ddof=1) / n
    for c in classes:
        part = d[:, labels == c]
        size = part.shape[1]
        residual = sum(
            (part[i, j] - part[i].mean() - part[:, j].mean() + part.mean()) ** 2
            for i in range(n)
            for j in range(size)
        ) / ((n - 1) * (size - 1))
        extra = np.var(part.mean(axis=0), ddof=1) - residual / n
        total += max(0, extra) / (size * len(classes) ** 2)
    return total


@pytest.mark.parametrize("groups", [LABELS, np.zeros_like(LABELS)])
def test_variance_is_the_formula(groups):
    d = np.random.default_rng(0).integers(-1, 2, (4, 90)) + np.sin(np.arange(90))
    assert two_way_variance(d, groups).value == pytest.approx(by_hand(d, groups), abs=1e-12)


def test_degrees_of_freedom():
    # Examples explain nothing beyond the residual: only the seeds' term is left, with n - 1.
    d = np.array([[1, -1, 1, -1], [-1, 1, -1, 1], [0.5, 0.5, 0.5, 0.5]])
    only_seeds = two_way_variance(d, np.zeros(4, int))
    assert only_seeds.df == pytest.approx(2)
    assert only_seeds.value == pytest.approx(np.var(d.mean(axis=1), ddof=1) / 3)
    # Seeds explain nothing: the examples' term, with N - 1.
    only_examples = two_way_variance(np.tile([0.0, 1, 0, 1, 1], (4, 1)), np.zeros(5, int))
    assert only_examples.df == pytest.approx(4)
    assert only_examples.value == pytest.approx(0.3 / 5)


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy"])
def test_interval_of_accuracies(metric):
    result = new_test_set_interval(metric, BASELINE, TREATMENT, LABELS, COUNTS, 0.9)
    correct = [np.stack([r.argmax(1) == LABELS for r in a]) * 1.0 for a in (BASELINE, TREATMENT)]
    groups = LABELS if metric == "balanced_accuracy" else np.zeros_like(LABELS)
    variance = two_way_variance(correct[1] - correct[0], groups)
    half = scipy.stats.t.ppf(0.95, variance.df) * np.sqrt(variance.value)
    centre = np.mean(differences(metric))
    assert result.ci_low == pytest.approx(centre - half, abs=1e-12)
    assert result.ci_high == pytest.approx(centre + half, abs=1e-12)
    seeds_only = mean_interval(differences(metric), 0.9)
    assert result.ci_high - result.ci_low > seeds_only.ci_high - seeds_only.ci_low
    assert "Satterthwaite" in result.method


@pytest.mark.parametrize("metric", sorted(set(METRICS) - {"accuracy", "balanced_accuracy"}))
def test_interval_of_other_metrics(metric, monkeypatch):
    monkeypatch.setattr(new_test_sets, "NUM_RESAMPLES", 40)
    result = new_test_set_interval(metric, BASELINE, TREATMENT, LABELS, COUNTS)
    assert result == new_test_set_interval(metric, BASELINE, TREATMENT, LABELS, COUNTS)
    assert result.ci_low < np.mean(differences(metric)) < result.ci_high
    assert "a little too wide" in result.method


def test_bootstrap_is_a_little_too_wide():
    result = new_test_set_interval("loss", BASELINE, TREATMENT, LABELS, COUNTS)
    centred = []
    for b, t in zip(BASELINE, TREATMENT, strict=True):
        nll = [scipy.special.logsumexp(z, axis=1) - z[np.arange(90), LABELS] for z in (b, t)]
        centred.append(nll[1] - nll[0])
    # The loss is a mean over examples; stratified, its exact variance weights classes by size.
    d, sizes = np.array(centred), np.bincount(LABELS)
    weighted = d * (3 * sizes / 90)[LABELS]
    variance = two_way_variance(weighted, LABELS)
    sd = (result.ci_high - result.ci_low) / 2 / scipy.stats.t.ppf(0.975, 4)
    assert 1.0 < sd / np.sqrt(variance.value) < 1.5


@pytest.mark.fault(54)
def test_where_no_variance_can_be_estimated():
    one_seed = new_test_set_interval("accuracy", BASELINE[:1], TREATMENT[:1], LABELS, COUNTS[:1])
    assert one_seed is None
    labels = np.where(np.arange(90) == 0, 2, np.minimum(LABELS, 1))  # one example of class 2
    assert new_test_set_interval("accuracy", BASELINE, TREATMENT, labels, COUNTS) is None
    assert new_test_set_interval("macro_f1", BASELINE, BASELINE, LABELS, COUNTS) is None
    assert new_test_set_interval("balanced_accuracy", BASELINE, BASELINE, LABELS, COUNTS) is None
    no_few = np.full_like(COUNTS, 50)
    assert new_test_set_interval("recall_few", BASELINE, TREATMENT, LABELS, no_few) is None


def test_unequal_numbers_of_runs_raise():
    with pytest.raises(ValueError, match="one entry a seed"):
        new_test_set_interval("accuracy", BASELINE, TREATMENT[:4], LABELS, COUNTS)
