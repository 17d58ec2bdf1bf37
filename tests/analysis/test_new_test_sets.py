"""The interval that counts test examples as a sample too."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from cwjax.analysis.intervals import mean_interval
from cwjax.analysis.metrics import METRICS, score
from cwjax.analysis.new_test_sets import contributions, interval_from, two_way_variance

LABELS = np.repeat(np.arange(3), [40, 30, 20])
COUNTS = np.tile([120, 60, 10], (5, 1))
SMOOTH = sorted(name for name, metric in METRICS.items() if metric.new_test_sets)
ONE_STRATUM = {"accuracy", "loss", "brier"}


def logits(shift, seed):
    """Five runs that share the hard examples; shift helps the last class."""
    rng, shared = np.random.default_rng(seed), np.random.default_rng(99)
    hard = shared.normal(0, 1, (90, 3))
    runs = rng.normal(0, 0.5, (5, 90, 3)) + hard + 1.2 * np.eye(3)[LABELS]
    runs[:, :, 2] += shift
    return list(runs.astype(np.float32))


BASELINE, TREATMENT = logits(0.0, 1), logits(0.8, 2)


def interval(metric, baseline, treatment, labels, counts, confidence=0.95, critical_value=None):
    """From the logits of a comparison's runs."""
    runs = (
        [contributions(metric, run, labels, c) for run, c in zip(arm, counts, strict=True)]
        for arm in (baseline, treatment)
    )
    return interval_from(*runs, confidence, critical_value)


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
    classes = np.unique(groups)
    scores = [np.mean([row[groups == c].mean() for c in classes]) for row in d]
    actual = two_way_variance(scores, d / len(classes), groups)
    assert actual.value == pytest.approx(by_hand(d, groups), abs=1e-12)


def test_degrees_of_freedom():
    # Examples explain nothing beyond the residual: only the seeds' term is left, with n - 1.
    d = np.array([[1, -1, 1, -1], [-1, 1, -1, 1], [0.5, 0.5, 0.5, 0.5]])
    only_seeds = two_way_variance(d.mean(axis=1), d, np.zeros(4, int))
    assert only_seeds.df == pytest.approx(2)
    assert only_seeds.value == pytest.approx(np.var(d.mean(axis=1), ddof=1) / 3)
    # Seeds explain nothing: the examples' term, with N - 1.
    d = np.tile([0.0, 1, 0, 1, 1], (4, 1))
    only_examples = two_way_variance(d.mean(axis=1), d, np.zeros(5, int))
    assert only_examples.df == pytest.approx(4)
    assert only_examples.value == pytest.approx(0.3 / 5)


@st.composite
def runs(draw):
    """At least two examples of each class that is present; many ties; classes may be absent."""
    num_classes = draw(st.integers(2, 4))
    sizes = draw(st.lists(st.integers(2, 6), min_size=2, max_size=num_classes))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = rng.integers(-3, 4, (labels.size, num_classes)) / 2
    return values.astype(np.float32), labels, draw(st.permutations([5, 50, 500, 5][:num_classes]))


@settings(deadline=None, max_examples=60)
@given(runs())
def test_contributions_are_the_scores_without_each_example(run):
    values, labels, counts = run
    for metric in SMOOTH:
        actual = contributions(metric, values, labels, counts)
        assert actual.score == pytest.approx(score(metric, values, labels, counts), nan_ok=True)
        if np.isnan(actual.score):
            continue
        strata = np.zeros_like(labels) if metric in ONE_STRATUM else labels
        np.testing.assert_array_equal(actual.strata, strata)
        expected = np.array(
            [
                (np.sum(strata == strata[j]) - 1)
                * (
                    actual.score
                    - score(metric, np.delete(values, j, 0), np.delete(labels, j), counts)
                )
                for j in range(labels.size)
            ]
        )
        # Contributions are only compared within strata: a constant there does not matter.
        for stratum in np.unique(strata):
            part = strata == stratum
            shift = expected[part].mean() - actual.values[part].mean()
            np.testing.assert_allclose(
                actual.values[part] + shift, expected[part], rtol=0, atol=1e-9, err_msg=metric
            )


def test_every_smooth_metric_has_contributions_and_no_other():
    assert set(METRICS) - set(SMOOTH) == {"worst_class_recall", "g_mean", "ece", "classwise_ece"}
    for metric in SMOOTH:
        assert interval(metric, BASELINE, TREATMENT, LABELS, COUNTS) is not None
    with pytest.raises(ValueError, match="g_mean has no contributions: only accuracy, "):
        contributions("g_mean", BASELINE[0], LABELS, COUNTS[0])


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy"])
def test_interval_of_accuracies(metric):
    result = interval(metric, BASELINE, TREATMENT, LABELS, COUNTS, 0.9)
    correct = [np.stack([r.argmax(1) == LABELS for r in a]) * 1.0 for a in (BASELINE, TREATMENT)]
    d = correct[1] - correct[0]
    if metric == "accuracy":
        variance = two_way_variance(d.mean(axis=1), d, np.zeros_like(LABELS))
        assert variance.value == pytest.approx(by_hand(d, np.zeros_like(LABELS)))
    else:
        variance = two_way_variance(differences(metric), d / 3, LABELS)
        assert variance.value == pytest.approx(by_hand(d, LABELS))
    half = scipy.stats.t.ppf(0.95, variance.df) * np.sqrt(variance.value)
    centre = np.mean(differences(metric))
    assert result.ci_low == pytest.approx(centre - half, abs=1e-12)
    assert result.ci_high == pytest.approx(centre + half, abs=1e-12)


@pytest.mark.parametrize("metric", SMOOTH)
def test_never_narrower_than_the_seed_interval(metric):
    d = differences(metric)
    result = interval(metric, BASELINE, TREATMENT, LABELS, COUNTS)
    seeds = mean_interval(d, 0.95)
    assert result.ci_low <= seeds.ci_low + 1e-12
    assert result.ci_high >= seeds.ci_high - 1e-12
    assert (result.ci_low + result.ci_high) / 2 == pytest.approx(np.mean(d))
    assert result == interval(metric, BASELINE, TREATMENT, LABELS, COUNTS)


def test_satterthwaite_would_be_narrower_where_examples_explain_nothing():
    """Many degrees of freedom from tiny example terms must not undercut Student's quantile."""
    rng = np.random.default_rng(0)
    parts = [contributions("loss", run, LABELS, COUNTS[0]) for run in BASELINE[:3]]
    other = [
        type(p)(p.score + d, p.values + 1e-3 * rng.normal(size=90), p.strata)
        for p, d in zip(parts, (0.1, 0.2, 0.4), strict=True)
    ]
    seeds = mean_interval([0.1, 0.2, 0.4], 0.95)
    result = interval_from(parts, other)
    assert result.ci_high - result.ci_low >= (seeds.ci_high - seeds.ci_low) * (1 - 1e-12)


def test_critical_value_of_a_family_widens_it_as_much_as_the_seed_interval():
    usual = interval("macro_f1", BASELINE, TREATMENT, LABELS, COUNTS)
    student = scipy.stats.t.ppf(0.975, 4)
    family = interval("macro_f1", BASELINE, TREATMENT, LABELS, COUNTS, critical_value=2 * student)
    assert family.ci_high - family.ci_low == pytest.approx(2 * (usual.ci_high - usual.ci_low))
    never_less = interval("macro_f1", BASELINE, TREATMENT, LABELS, COUNTS, critical_value=0.5)
    assert never_less == usual


@pytest.mark.fault(54)
def test_where_no_variance_can_be_estimated():
    one_seed = interval("accuracy", BASELINE[:1], TREATMENT[:1], LABELS, COUNTS[:1])
    assert one_seed is None
    labels = np.where(np.arange(90) == 0, 2, np.minimum(LABELS, 1))  # one example of class 2
    for metric in SMOOTH:
        result = interval(metric, BASELINE, TREATMENT, labels, COUNTS)
        # Class 2 has 10 training examples; where it does not count, its size does not matter.
        free = ONE_STRATUM | {"recall_head", "recall_middle", "recall_many", "recall_medium"}
        assert (result is not None) == (metric in free), metric
    for metric in SMOOTH:
        assert interval(metric, BASELINE, BASELINE, LABELS, COUNTS) is None
    no_few = np.full_like(COUNTS, 50)
    assert interval("recall_few", BASELINE, TREATMENT, LABELS, no_few) is None
    one_class = np.zeros_like(LABELS)
    assert interval("auroc", BASELINE, TREATMENT, one_class, COUNTS) is None
