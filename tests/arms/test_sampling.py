"""The order of an epoch and mixing: what is exact, and frequencies within 3 standard errors."""

from __future__ import annotations

import numpy as np
import pytest

from cwjax.arms.row import replace, uniform_row
from cwjax.arms.sampling import class_probabilities, epoch_order, mixing

COUNTS = np.array([5421, 3249, 1948, 1167, 700, 419, 251, 150, 90, 54])
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(10), COUNTS)).astype(np.int32)
NATURAL = COUNTS / COUNTS.sum()
UNIFORM = uniform_row(10)
BALANCED = replace(UNIFORM, sampling_exponent=0)
PROGRESSIVE = replace(UNIFORM, sampling_progress=1)
TWO_STAGE = replace(UNIFORM, second_stage_from=10, second_stage_exponent=0)


def order(row=UNIFORM, *, seed=3, epoch=0) -> np.ndarray:
    return epoch_order(LABELS, row, seed=seed, epoch=epoch, num_epochs=10)


def assert_drawn_with(probabilities: np.ndarray, drawn: np.ndarray) -> None:
    frequencies = np.bincount(LABELS[drawn], minlength=10) / len(drawn)
    standard_errors = np.sqrt(probabilities * (1 - probabilities) / len(drawn))
    assert np.all(np.abs(frequencies - probabilities) < 3 * standard_errors)


@pytest.mark.parametrize(
    ("row", "epoch"), [(UNIFORM, 0), (UNIFORM, 7), (PROGRESSIVE, 0), (TWO_STAGE, 9)]
)
def test_natural_probabilities_are_a_permutation(row, epoch: int) -> None:
    drawn = order(row, epoch=epoch)
    assert drawn.dtype == np.int32
    np.testing.assert_array_equal(np.sort(drawn), np.arange(len(LABELS)))
    np.testing.assert_array_equal(drawn, order(epoch=epoch))  # the same in every such arm


def test_an_order_is_a_function_of_seed_and_epoch() -> None:
    np.testing.assert_array_equal(order(epoch=1), order(epoch=1))
    assert np.any(order(epoch=1) != order(epoch=2))
    assert np.any(order(seed=3) != order(seed=4))


def test_a_permutation_has_no_favourite_place() -> None:
    # Mean place of each of 50 examples over 400 seeds: uniform on 0..49.
    labels = np.zeros(50, np.int32)
    draws = [
        epoch_order(labels, uniform_row(1), seed=seed, epoch=0, num_epochs=1) for seed in range(400)
    ]
    places = np.argsort(draws, axis=1).mean(axis=0)
    standard_error = np.sqrt((50**2 - 1) / 12 / 400)
    assert np.all(np.abs(places - 24.5) < 4 * standard_error)


@pytest.mark.parametrize(
    ("row", "epoch", "probabilities"),
    [
        (BALANCED, 0, np.full(10, 0.1)),
        (replace(UNIFORM, sampling_exponent=0.5), 4, np.sqrt(COUNTS) / np.sqrt(COUNTS).sum()),
        (PROGRESSIVE, 3, 2 / 3 * NATURAL + 1 / 3 / 10),
        (PROGRESSIVE, 9, np.full(10, 0.1)),
        (TWO_STAGE, 10, np.full(10, 0.1)),
    ],
)
def test_classes_are_drawn_with_their_probabilities(row, epoch: int, probabilities) -> None:
    np.testing.assert_allclose(
        class_probabilities(COUNTS, row, epoch=epoch, num_epochs=10), probabilities
    )
    drawn = order(row, epoch=epoch)
    assert drawn.dtype == np.int32
    assert drawn.shape == LABELS.shape
    assert_drawn_with(probabilities, drawn)


def test_examples_of_a_class_are_drawn_alike_and_with_replacement() -> None:
    draws = np.concatenate([order(BALANCED, epoch=epoch) for epoch in range(20)])
    times = np.bincount(draws, minlength=len(LABELS))
    rarest, most_frequent = times[LABELS == 9], times[LABELS == 0]
    assert rarest.min() > 0
    expected = 20 * len(LABELS) * 0.1 / 54
    assert np.all(np.abs(rarest - expected) < 4 * np.sqrt(expected))
    assert (most_frequent == 0).any()


def test_arms_of_a_seed_share_their_uniforms() -> None:
    # Two nearly equal class distributions draw nearly the same examples.
    nearly = replace(UNIFORM, sampling_exponent=0.01)
    assert np.mean(order(BALANCED) == order(nearly)) > 0.9


def test_a_single_epoch_of_a_progressive_arm_is_natural() -> None:
    probabilities = class_probabilities(COUNTS, PROGRESSIVE, epoch=0, num_epochs=1)
    np.testing.assert_allclose(probabilities, NATURAL)


def test_without_mixing_everyone_is_their_own_partner() -> None:
    mix, partners = mixing(UNIFORM, seed=0, epoch=0, num_examples=10, batch_size=4)
    np.testing.assert_array_equal(mix, np.ones(3, np.float32))
    np.testing.assert_array_equal(partners, np.tile(np.arange(4), (3, 1)))


def test_mixing_ends_before_the_rest_of_the_epochs() -> None:
    def draw(epoch: int, **fields):
        row = replace(UNIFORM, mixup_alpha=1, **fields)
        return mixing(row, seed=0, epoch=epoch, num_examples=10, batch_size=4)

    for actual, expected in zip(draw(2, mixing_until=3), draw(2), strict=True):
        np.testing.assert_array_equal(actual, expected)
    mix, partners = draw(3, mixing_until=3)
    np.testing.assert_array_equal(mix, np.ones(3, np.float32))
    np.testing.assert_array_equal(partners, np.tile(np.arange(4), (3, 1)))


@pytest.mark.parametrize(("num_examples", "num_filled"), [(120, 12), (109, 1), (115, 7)])
def test_partners_are_a_permutation_of_the_filled_slots(num_examples: int, num_filled: int) -> None:
    row = replace(UNIFORM, mixup_alpha=1)
    mix, partners = mixing(row, seed=5, epoch=2, num_examples=num_examples, batch_size=12)
    assert (mix.shape, partners.shape) == ((10,), (10, 12))
    assert (mix.dtype, partners.dtype) == (np.float32, np.int32)
    np.testing.assert_array_equal(np.sort(partners[:-1]), np.tile(np.arange(12), (9, 1)))
    np.testing.assert_array_equal(np.sort(partners[-1, :num_filled]), np.arange(num_filled))
    np.testing.assert_array_equal(partners[-1, num_filled:], np.arange(num_filled, 12))
    assert len({tuple(step) for step in partners[:-1]}) == 9


def test_mixing_is_a_function_of_seed_and_epoch_and_partners_of_nothing_else() -> None:
    def draw(alpha: float, seed: int = 0, epoch: int = 0):
        row = replace(UNIFORM, mixup_alpha=alpha)
        return mixing(row, seed=seed, epoch=epoch, num_examples=500, batch_size=50)

    np.testing.assert_array_equal(draw(1)[0], draw(1)[0])
    np.testing.assert_array_equal(draw(1)[1], draw(0.2)[1])
    assert np.any(draw(1)[1] != draw(1, seed=1)[1])
    assert np.any(draw(1)[0] != draw(1, epoch=1)[0])


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixing_factors_are_beta(alpha: float) -> None:
    row = replace(UNIFORM, mixup_alpha=alpha)
    mix, _ = mixing(row, seed=1, epoch=0, num_examples=8000, batch_size=2)
    assert mix.min() >= 0
    assert mix.max() <= 1
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(mix.mean() - 0.5) < 3 * np.sqrt(variance / len(mix))
    # A Beta's fourth central moment bounds the error of the variance.
    fourth = np.mean((mix - 0.5) ** 4)
    assert abs(mix.var() - variance) < 3 * np.sqrt((fourth - variance**2) / len(mix))
