"""Scores against scikit-learn and plain loops, absent classes included."""

import itertools
import warnings

import numpy as np
import pytest
import scipy.special
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cwjax.analysis.evaluation import (
    NUM_BINS,
    Evaluation,
    auroc,
    calibration_error,
    confusion_matrix,
    head_middle_tail,
)
from cwjax.analysis.metrics import METRICS, class_scores, score, scores


@st.composite
def runs(draw):
    """Few examples and coarse logits, so that absent classes and ties are common."""
    num_examples, num_classes = draw(st.integers(1, 40)), draw(st.integers(2, 6))
    coarse = st.integers(-6, 6).map(lambda i: i / 2)
    logits = draw(hnp.arrays(np.float32, (num_examples, num_classes), elements=coarse))
    labels = draw(hnp.arrays(np.int32, num_examples, elements=st.integers(0, num_classes - 1)))
    counts = draw(hnp.arrays(np.int64, num_classes, elements=st.integers(0, 200)))
    return logits, labels, counts


def reference_calibration_error(confidence, hit):
    edges, total = np.linspace(0, 1, 16), 0.0
    for i, (low, high) in enumerate(itertools.pairwise(edges)):
        inside = (confidence > low) & (confidence <= high) | ((i == 0) & (confidence == 0))
        if inside.any():
            total += inside.mean() * abs(hit[inside].mean() - confidence[inside].mean())
    return total


def reference_scores(logits, labels, counts):
    """Every metric from scikit-learn, or from a loop where it has none."""
    probabilities = scipy.special.softmax(logits.astype(np.float64), axis=1)
    predictions = logits.argmax(axis=1)
    present = np.unique(labels)
    recall = sk.recall_score(labels, predictions, labels=present, average=None)
    f1 = sk.f1_score(labels, predictions, labels=present, average="macro", zero_division=np.nan)
    one_class = len(present) == 1
    # Coarse logits give equal probabilities that differ in the last bit from one softmax to
    # another, and ranks see that.
    ranked = Evaluation(logits, labels, counts).probabilities
    np.testing.assert_allclose(ranked, probabilities, rtol=1e-12)

    def group(members):
        inside = [r for c, r in zip(present, recall, strict=True) if c in members]
        return np.mean(inside) if inside else np.nan

    num_classes, third = len(counts), max(1, len(counts) // 3)
    by_size = sorted(range(num_classes), key=lambda c: (-counts[c], c))
    return {
        "accuracy": sk.accuracy_score(labels, predictions),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, predictions),
        "macro_f1": f1,
        "g_mean": np.prod(recall) ** (1 / len(present)),
        "worst_class_recall": recall.min(),
        "loss": sk.log_loss(labels, probabilities, labels=range(num_classes)),
        "ece": reference_calibration_error(ranked.max(axis=1), predictions == labels),
        "classwise_ece": np.mean(
            [reference_calibration_error(ranked[:, c], labels == c) for c in present]
        ),
        "auroc": np.nan
        if one_class
        else np.mean([sk.roc_auc_score(labels == c, ranked[:, c]) for c in present]),
        "average_precision": np.mean(
            [sk.average_precision_score(labels == c, ranked[:, c]) for c in present]
        ),
        "balanced_nll": sk.log_loss(
            labels,
            probabilities,
            labels=range(num_classes),
            sample_weight=1 / np.bincount(labels)[labels],
        ),
        "brier": np.mean(
            ((probabilities - np.eye(num_classes)[labels]) ** 2).sum(axis=1)  # Brier 1950
        ),
        "recall_head": group(by_size[:third]),
        "recall_middle": group(by_size[third : num_classes - third]),
        "recall_tail": group(by_size[num_classes - third :]),
        "recall_many": group(np.flatnonzero(counts > 100)),
        "recall_medium": group(np.flatnonzero((counts >= 20) & (counts <= 100))),
        "recall_few": group(np.flatnonzero(counts < 20)),
    }


@settings(deadline=None, max_examples=80)
@given(runs())
def test_scores_equal_scikit_learn(run):
    actual = scores(*run)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of absent classes
        expected = reference_scores(*run)
    assert actual.keys() == expected.keys() == METRICS.keys()
    for name, value in expected.items():
        assert actual[name] == pytest.approx(value, abs=1e-6, nan_ok=True), name
        assert score(name, *run) == pytest.approx(actual[name], abs=0, nan_ok=True)


@settings(deadline=None, max_examples=60)
@given(runs())
def test_class_scores_equal_scikit_learn(run):
    logits, labels, counts = run
    predictions, classes = logits.argmax(axis=1), np.arange(len(counts))
    actual = class_scores(*run)
    precision, recall, f1, n_test = sk.precision_recall_fscore_support(
        labels, predictions, labels=classes, zero_division=np.nan
    )
    np.testing.assert_allclose(actual["recall"], recall, atol=1e-12)
    np.testing.assert_allclose(actual["precision"], precision, atol=1e-12)
    np.testing.assert_allclose(actual["f1"], f1, atol=1e-12)
    np.testing.assert_array_equal(actual["n_test"], n_test)
    np.testing.assert_array_equal(actual["n_train"], counts)
    np.testing.assert_array_equal(
        confusion_matrix(labels, predictions, len(counts)),
        sk.confusion_matrix(labels, predictions, labels=classes),
    )


@pytest.mark.fault(38)
def test_worked_example_with_an_absent_and_a_never_predicted_class():
    # Class 2 is absent but predicted once, class 3 present but never predicted, class 4 neither.
    labels, predictions = np.array([0, 0, 1, 1, 3]), np.array([0, 2, 1, 1, 0])
    logits = np.eye(5, dtype=np.float32)[predictions]
    per_class = class_scores(logits, labels, np.full(5, 9))
    np.testing.assert_array_equal(per_class["recall"], [0.5, 1, np.nan, 0, np.nan])
    np.testing.assert_array_equal(per_class["precision"], [0.5, 1, 0, np.nan, np.nan])
    np.testing.assert_array_equal(per_class["f1"], [0.5, 1, 0, 0, np.nan])
    total = scores(logits, labels, np.full(5, 9))
    assert total["balanced_accuracy"] == 0.5  # (1/2 + 1 + 0) / 3: over classes present
    assert total["macro_f1"] == 0.5
    assert total["g_mean"] == 0
    assert np.isnan(total["recall_many"])
    assert np.isnan(total["recall_medium"])
    assert total["recall_few"] == 0.5


@pytest.mark.parametrize(
    ("counts", "groups"),
    [
        ([5, 9, 7], ([1], [2], [0])),
        ([5, 9], ([1], [], [0])),
        ([4], ([0], [], [])),
        ([8, 8, 8, 8], ([0], [1, 2], [3])),
        ([1, 2, 3, 4, 5, 6, 7, 8], ([7, 6], [5, 4, 3, 2], [1, 0])),
        ([7] * 60, (list(range(20)), list(range(20, 40)), list(range(40, 60)))),
        (range(10, 0, -1), ([0, 1, 2], [3, 4, 5, 6], [7, 8, 9])),
    ],
)
def test_head_middle_tail(counts, groups):
    assert tuple(group.tolist() for group in head_middle_tail(list(counts))) == groups


def test_calibration_error_by_hand():
    # Two bins: (0.6, 2/3] with mean confidence 0.65 and 1 of 2 right, (14/15, 1] with 1 of 1.
    confidence, hit = np.array([0.65, 0.65, 1.0]), np.array([True, False, True])
    assert calibration_error(confidence, hit) == pytest.approx(2 / 3 * 0.15)
    # 0.2 is an edge and belongs to the bin below: in one bin 0.8 and -0.2 partly cancel.
    edge = np.array([0.2, 0.2 - 1e-9])
    assert calibration_error(edge, np.array([True, False])) == pytest.approx(0.3, abs=1e-6)
    assert NUM_BINS == 15


def test_auroc_counts_ties_half():
    assert auroc(np.array([1.0, 1.0, 0.0]), np.array([True, False, False])) == 0.75
    assert np.isnan(auroc(np.array([1.0, 0.0]), np.array([True, True])))


def test_saturated_logits_give_finite_scores():
    logits = np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32)
    result = scores(logits, np.array([0, 0]), np.array([3, 3]))
    assert result["loss"] == pytest.approx(1e4)
    assert result["ece"] == 0.5


@pytest.mark.fault(53)
@pytest.mark.parametrize(
    ("logits", "labels", "counts", "message"),
    [
        (np.array([[0.0, np.nan]]), [0], [1, 1], "1 of 2 logits are not finite"),
        (np.array([[0.0, np.inf]]), [0], [1, 1], "not finite"),
        (np.zeros((2, 2)), [0, 2], [1, 1], r"labels must lie in \[0, 2\)"),
        (np.zeros((2, 2)), [-1, 0], [1, 1], "labels must lie"),
        (np.zeros((2, 2)), [0.0, 1.0], [1, 1], "not integers"),
        (np.zeros((2, 2)), [0], [1, 1], "do not fit"),
        (np.zeros((2, 2)), [0, 1], [1], "do not fit"),
        (np.zeros((0, 2)), [], [1, 1], "logits have shape"),
        (np.zeros(2), [0], [1, 1], "logits have shape"),
    ],
)
def test_bad_input_raises(logits, labels, counts, message):
    with pytest.raises(ValueError, match=message):
        scores(logits, labels, counts)


def test_registry_says_which_way_is_better():
    lower = {name for name, metric in METRICS.items() if not metric.higher_is_better}
    assert lower == {"loss", "balanced_nll", "brier", "ece", "classwise_ece"}
    unbounded = {"loss", "balanced_nll"}
    assert {name for name, metric in METRICS.items() if metric.worst is None} == unbounded
    worst = {name: 2.0 if name == "brier" else 1.0 if name in lower else 0.0 for name in METRICS}
    assert all(METRICS[name].worst == worst[name] for name in METRICS.keys() - unbounded)
    assert {name for name, m in METRICS.items() if not m.is_fraction} == {*unbounded, "brier"}


def test_worst_scores_are_reached():
    wrong = scores(np.array([[1e4, -1e4], [-1e4, 1e4]]), np.array([1, 0]), np.array([3, 3]))
    assert wrong["brier"] == METRICS["brier"].worst
    assert wrong["auroc"] == 0
    assert wrong["balanced_nll"] == 2e4
