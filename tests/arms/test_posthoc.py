"""Post-hoc arms against a network whose features are known, and the choice of tau."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from cwjax.arms.grammar import parse_arm
from cwjax.arms.posthoc import (
    LOGIT_ADJUSTMENT_GRID,
    TAU_NORM_GRID,
    RunOutputs,
    apply_post_hoc,
)
from cwjax.errors import ConfigError

COUNTS = np.array([900, 90, 10])
RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(6, 3)).astype(np.float32) * np.float32([3, 1, 0.3])
BIAS = np.float32([2, 0, -2])
FEATURES = np.abs(RNG.normal(size=(400, 6))).astype(np.float32)
LABELS = RNG.integers(0, 3, 400)
# A class's own direction and its prior are in the logits, as after training on imbalanced data.
LOGITS = (FEATURES @ KERNEL + BIAS + 2 * np.eye(3)[LABELS]).astype(np.float32)


def outputs(**changes) -> RunOutputs:
    fields = {
        "test_logits": LOGITS[:200],
        "validation_logits": LOGITS[200:],
        "validation_labels": LABELS[200:],
        "head_kernel": KERNEL,
        "head_bias": BIAS,
        "class_counts": COUNTS,
    }
    return RunOutputs(**{**fields, **changes})


def test_logit_adjustment_by_hand() -> None:
    adjusted = apply_post_hoc(parse_arm("posthoc_logit_adjusted:tau=2"), outputs())
    expected = LOGITS - 2 * np.log([0.9, 0.09, 0.01])
    np.testing.assert_allclose(adjusted.test_logits, expected[:200], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(adjusted.validation_logits, expected[200:], rtol=1e-6, atol=1e-6)
    assert adjusted.test_logits.dtype == np.float32
    assert adjusted.chosen == {}  # it was given


@pytest.mark.parametrize("tau", [0, 0.5, 1, 2])
def test_tau_norm_needs_no_features(tau: float) -> None:
    logits = FEATURES @ KERNEL + BIAS
    adjusted = apply_post_hoc(parse_arm(f"tau_norm:tau={tau}"), outputs(test_logits=logits))
    kernel = KERNEL.astype(np.float64)
    expected = FEATURES @ (kernel / np.linalg.norm(kernel, axis=0) ** tau)
    np.testing.assert_allclose(adjusted.test_logits, expected, rtol=1e-4, atol=1e-5)


def test_tau_norm_of_0_are_the_logits_without_bias() -> None:
    adjusted = apply_post_hoc(parse_arm("tau_norm:tau=0"), outputs())
    np.testing.assert_allclose(adjusted.test_logits, LOGITS[:200] - BIAS, rtol=1e-6, atol=1e-6)


def test_logit_adjustment_of_0_changes_nothing() -> None:
    adjusted = apply_post_hoc(parse_arm("posthoc_logit_adjusted:tau=0"), outputs())
    np.testing.assert_array_equal(adjusted.test_logits, LOGITS[:200])


def test_a_class_vector_of_length_0_stays_finite() -> None:
    kernel = KERNEL * np.float32([1, 1, 0])
    adjusted = apply_post_hoc(parse_arm("tau_norm"), outputs(head_kernel=kernel))
    assert np.isfinite(adjusted.test_logits).all()


@pytest.mark.parametrize(
    ("name", "grid"),
    [("posthoc_logit_adjusted", LOGIT_ADJUSTMENT_GRID), ("tau_norm", TAU_NORM_GRID)],
)
def test_tau_is_the_best_of_the_grid_on_validation(name: str, grid: np.ndarray) -> None:
    chosen = apply_post_hoc(parse_arm(name), outputs())
    scores = []
    for tau in grid:
        fixed = apply_post_hoc(parse_arm(f"{name}:tau={tau}"), outputs())
        predictions = fixed.validation_logits.argmax(axis=1)
        scores.append(balanced_accuracy_score(LABELS[200:], predictions))
    assert chosen.chosen == {"tau": grid[np.argmax(scores)]}
    assert chosen.chosen["tau"] > 0
    assert max(scores) > scores[0]
    fixed = apply_post_hoc(parse_arm(f"{name}:tau={chosen.chosen['tau']}"), outputs())
    np.testing.assert_array_equal(chosen.test_logits, fixed.test_logits)


def test_the_choice_never_sees_the_test_split() -> None:
    other = apply_post_hoc(parse_arm("tau_norm"), outputs(test_logits=-LOGITS[:200]))
    assert other.chosen == apply_post_hoc(parse_arm("tau_norm"), outputs()).chosen


def test_classes_absent_from_validation_do_not_count() -> None:
    # Without class 1 the rest decides; a recall of 0 / 0 would make every score NaN.
    kept = LABELS[200:] != 1
    present = outputs(validation_logits=LOGITS[200:][kept], validation_labels=LABELS[200:][kept])
    tau = apply_post_hoc(parse_arm("posthoc_logit_adjusted"), present).chosen["tau"]
    scores = [
        np.mean(
            [
                np.mean((present.validation_logits - t * np.log(COUNTS)).argmax(1)[of_class] == c)
                for c in (0, 2)
                for of_class in [present.validation_labels == c]
            ]
        )
        for t in LOGIT_ADJUSTMENT_GRID
    ]
    assert tau == LOGIT_ADJUSTMENT_GRID[np.argmax(scores)]


def test_of_equally_good_taus_the_smallest_is_taken() -> None:
    perfect = (100 * np.eye(3)[LABELS[200:]]).astype(np.float32)
    changed = outputs(validation_logits=perfect)
    assert apply_post_hoc(parse_arm("posthoc_logit_adjusted"), changed).chosen == {"tau": 0}


def test_trained_arms_and_diverged_runs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"post hoc are only posthoc_logit_adjusted, tau_norm"):
        apply_post_hoc(parse_arm("balanced"), outputs())
    with pytest.raises(ValueError, match="leave diverged runs out"):
        apply_post_hoc(parse_arm("tau_norm"), outputs(test_logits=LOGITS[:200] * np.nan))


def test_tau_has_a_range() -> None:
    with pytest.raises(ConfigError, match=r"tau='-1': out of range; give a number in \[0, 10\]"):
        parse_arm("tau_norm:tau=-1")
