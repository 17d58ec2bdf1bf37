"""Class weights against scikit-learn, hand-computed numbers and their invariants."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from cwjax.arms import class_weights as formulas
from cwjax.errors import ConfigError

COUNTS = st.lists(st.integers(1, 100_000), min_size=2, max_size=12).map(np.array)


@settings(deadline=None)
@given(st.lists(st.integers(1, 500), min_size=2, max_size=12).map(np.array))
def test_balanced_equals_scikit_learn(counts: np.ndarray) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    expected = compute_class_weight("balanced", classes=np.arange(len(counts)), y=labels)
    np.testing.assert_array_equal(formulas.balanced(counts), expected)


def test_balanced_weights_of_mnist_span_what_is_published() -> None:
    mnist = np.array([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949])
    weights = formulas.balanced(mnist)
    assert weights.min() == pytest.approx(0.89, abs=0.005)
    assert weights.max() == pytest.approx(1.11, abs=0.005)


def test_inverse_power_by_hand() -> None:
    counts = np.array([400, 100, 4])
    np.testing.assert_allclose(formulas.inverse_power(counts, 0.5), [0.1, 0.2, 1], rtol=1e-15)
    np.testing.assert_array_equal(formulas.inverse_power(counts, 0), [1, 1, 1])


@settings(deadline=None)
@given(COUNTS)
def test_inverse_power_of_one_is_balanced(counts: np.ndarray) -> None:
    weights = formulas.normalize(formulas.inverse_power(counts, 1), counts, "examples")
    np.testing.assert_allclose(weights, formulas.balanced(counts), rtol=1e-12)


def test_effective_number_by_hand() -> None:
    # Effective numbers of 1, 2 and 3 examples at beta = 1/2: 1, 3/2, 7/4.
    weights = formulas.effective_number(np.array([1, 2, 3]), 0.5)
    np.testing.assert_allclose(weights, [1, 2 / 3, 4 / 7], rtol=1e-15)
    np.testing.assert_array_equal(formulas.effective_number(np.array([1, 9]), 0.0), [1, 1])


@pytest.mark.parametrize("beta", [0.9, 0.9999, 1 - 1e-16])
def test_effective_number_is_finite_up_to_the_end_of_its_range(beta: float) -> None:
    weights = formulas.effective_number(np.array([1, 10, 100_000]), beta)
    assert np.isfinite(weights).all()
    assert (np.diff(weights) <= 0).all()


@settings(deadline=None)
@given(COUNTS, st.floats(0, 3))
def test_normalisations_keep_their_sums(counts: np.ndarray, gamma: float) -> None:
    weights = formulas.inverse_power(counts, gamma)
    by_examples = formulas.normalize(weights, counts, "examples")
    by_classes = formulas.normalize(weights, counts, "classes")
    assert counts @ by_examples == pytest.approx(counts.sum())
    assert by_classes.sum() == pytest.approx(len(counts))
    np.testing.assert_allclose(by_examples / by_examples[0], by_classes / by_classes[0])


def test_unknown_normalisation_is_refused() -> None:
    with pytest.raises(ConfigError, match="'examples' or 'classes'"):
        formulas.normalize(np.ones(2), np.ones(2), "batch")


@pytest.mark.fault(37)
@pytest.mark.parametrize(
    "weigh",
    [
        formulas.balanced,
        lambda counts: formulas.inverse_power(counts, 0.5),
        lambda counts: formulas.effective_number(counts, 0.999),
    ],
)
def test_a_class_without_examples_is_refused(weigh) -> None:
    with pytest.raises(ConfigError, match=r"no training example of class 1, 3:"):
        weigh(np.array([5, 0, 3, 0]))


@pytest.mark.fault(37)
def test_the_empty_class_is_named() -> None:
    with pytest.raises(ConfigError, match="class 'dog'"):
        formulas.check_class_counts(np.array([5, 0]), ["cat", "dog"])
