"""Which prior an arm's logits carry, against the minimiser of its loss on a distribution."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from cwjax.arms import losses
from cwjax.arms.arm import ArmContext
from cwjax.arms.grammar import arm_row, parse_arm
from cwjax.arms.logit_prior import adjusted_prior, logit_prior
from cwjax.arms.posthoc import RunOutputs, apply_post_hoc

COUNTS = np.array([60, 30, 10])
GIVEN_CLASS = np.array([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.1, 0.3, 0.6]])  # p(x | c), x of three
CONTEXT = ArmContext(COUNTS, COUNTS, ("a", "b", "c"), num_epochs=10)


@pytest.mark.parametrize(
    ("arm", "exponent"),
    [
        ("uniform", 1),
        ("balanced", 1),
        ("inverse_power:gamma=0.5", 1),
        ("balanced:drw=0.8", 1),
        ("logit_adjusted", 1),
        ("logit_adjusted:tau=0.5", 1),
        ("balanced_softmax", 1),
        ("class_balanced_sampling", 0),
        ("sqrt_sampling", 0.5),
    ],
)
def test_it_is_that_of_the_loss_s_minimiser(arm: str, exponent: float) -> None:
    """Logits of the smallest expected loss are log prior_c p(x | c), constants apart."""
    row = arm_row(parse_arm(arm), CONTEXT)
    drawn = COUNTS.astype(float) ** exponent
    joint = jnp.asarray((drawn / drawn.sum())[:, None] * GIVEN_CLASS)  # [class, x]
    labels = jnp.repeat(jnp.arange(3), 3)

    @jax.jit
    @jax.value_and_grad
    def expected_loss(logits: jax.Array) -> jax.Array:
        tiled = jnp.tile(logits.reshape(3, 3), (3, 1))  # for each class every x
        per_example = losses.per_example_loss(
            tiled, labels, row, class_weights=row.class_weights, mixed_labels=labels, mix=1.0
        )
        return (per_example * joint.reshape(-1)).sum()

    with jax.enable_x64(True):
        found = minimize(
            lambda z: [np.asarray(part, np.float64) for part in expected_loss(jnp.asarray(z))],
            np.zeros(9),
            jac=True,
            options={"gtol": 1e-9},
        ).x.reshape(3, 3)
    prior = logit_prior(row, COUNTS)
    assert prior is not None
    assert prior.sum() == pytest.approx(1)
    expected = prior[:, None] * GIVEN_CLASS
    probabilities = np.exp(found) / np.exp(found).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, (expected / expected.sum(axis=0)).T, atol=2e-4)


def test_of_some_it_is_known_by_name() -> None:
    training, uniform = COUNTS / COUNTS.sum(), np.full(3, 1 / 3)
    for arm, expected in (
        ("uniform", training),
        ("focal", training),
        ("mixup", training),
        ("label_smoothing", training),
        ("balanced", uniform),
        ("logit_adjusted", uniform),
        ("crt", uniform),
        ("lws", uniform),
    ):
        prior = logit_prior(arm_row(parse_arm(arm), CONTEXT), COUNTS)
        np.testing.assert_allclose(prior, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "arm",
    [
        *("ldam", "vector_scaling", "cdt", "remix", "label_aware_smoothing"),
        *("progressive_sampling", "weight_balancing"),
    ],
)
def test_of_others_there_is_none(arm: str) -> None:
    assert logit_prior(arm_row(parse_arm(arm), CONTEXT), COUNTS) is None


def test_post_hoc_adjustment_moves_it() -> None:
    outputs = RunOutputs(
        test_logits=np.zeros((4, 3), np.float32),
        validation_logits=np.zeros((4, 3), np.float32),
        validation_labels=np.zeros(4, np.int32),
        head_kernel=np.ones((2, 3), np.float32) * [1, 2, 3],
        head_bias=np.zeros(3, np.float32),
        class_counts=COUNTS,
    )
    training = COUNTS / COUNTS.sum()
    half = apply_post_hoc(parse_arm("posthoc_logit_adjusted:tau=0.5"), outputs).adjustment
    expected = training**0.5 / (training**0.5).sum()
    np.testing.assert_allclose(adjusted_prior(training, half), expected)
    assert adjusted_prior(None, half) is None
    normed = apply_post_hoc(parse_arm("tau_norm:tau=1"), outputs).adjustment
    assert adjusted_prior(training, normed) is None
