"""The loss against a float64 NumPy reference, its gradients, and the identities between arms."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from cwjax.arms import losses
from cwjax.arms.arm import ArmContext
from cwjax.arms.grammar import arm_row, parse_arm, parse_arms
from cwjax.arms.row import ArmRow, replace, uniform_row

K = 10
BATCH = 56
COUNTS = np.array([5421, 3249, 1948, 1167, 700, 419, 251, 150, 90, 54])
CONTEXT = ArmContext(COUNTS, COUNTS, tuple(map(str, range(K))), num_epochs=10, batch_size=1)
SPECS = [
    *(str(arm) for arm in parse_arms(["all"]) if arm.kind != "post_hoc"),
    "focal:gamma=0.5:weights=balanced",
    "focal:gamma=1",
    "ldam:drw=0",
    "cdt:gamma=0.1",
    "mixup:weights=balanced",
    "label_aware_smoothing:weights=inverse_power",
    "remix:kappa=1.5:tau=1",
]
ALL_AT_ONCE = replace(
    uniform_row(K),
    class_weights=np.linspace(0.1, 3, K),
    logit_scale=np.linspace(0.4, 1.3, K),
    logit_bias=np.linspace(1, -4, K),
    margin=np.linspace(0, 0.5, K),
    smoothing=np.linspace(0.3, 0.0, K),
    class_counts=COUNTS,
    scale=1.7,
    focal_gamma=1.5,
    mixup_alpha=1,
    remix_kappa=3,
    remix_tau=0.5,
)
ROWS = {spec: arm_row(parse_arm(spec), CONTEXT) for spec in SPECS} | {"every field": ALL_AT_ONCE}

RNG = np.random.default_rng(0)
LOGITS = (3 * RNG.normal(size=(BATCH, K))).astype(np.float32)
LABELS = RNG.integers(0, K, BATCH).astype(np.int32)
PARTNERS = RNG.integers(0, K, BATCH).astype(np.int32)
MIX = RNG.uniform(size=BATCH).astype(np.float32)
ALL_VALID = np.ones(BATCH, bool)
FEATURES = np.maximum(RNG.normal(size=(BATCH, 16)), 0).astype(np.float32)
KERNEL = RNG.normal(size=(16, K)).astype(np.float32)
BIAS = RNG.normal(size=K).astype(np.float32)


def either(function):
    """The function under jit and without."""
    return pytest.mark.parametrize("run", [function, jax.jit(function)], ids=["eager", "jit"])


def loss_of(logits, row: ArmRow, mix=MIX) -> jax.Array:
    return losses.per_example_loss(
        logits, LABELS, row, class_weights=row.class_weights, mixed_labels=PARTNERS, mix=mix
    )


def plain_loss_of(logits, row: ArmRow) -> jax.Array:
    return losses.per_example_loss(logits, LABELS, row, class_weights=row.class_weights)


def bits(tree) -> list[bytes]:
    """The leaves bit for bit, but for the sign of zeros."""
    return [(np.asarray(leaf) + np.float32(0)).tobytes() for leaf in jax.tree.leaves(tree)]


# The reference: one example and one class at a time, in float64, nothing shared -------------------


def reference_target(z: np.ndarray, t: int, row: ArmRow) -> float:
    u = np.array(
        [
            float(row.logit_scale[c])
            * float(row.scale)
            * (z[c] - (float(row.margin[c]) if c == t else 0.0))
            + float(row.logit_bias[c])
            for c in range(K)
        ]
    )
    p = np.exp(u - u.max()) / np.exp(u - u.max()).sum()
    nll = np.log(np.exp(u - u.max()).sum()) + u.max() - u
    gamma, epsilon = float(row.focal_gamma), float(row.smoothing[t])
    factor = 1.0 if gamma == 0 else max(1 - p[t], 1e-7) ** gamma
    return float(row.class_weights[t]) * factor * ((1 - epsilon) * nll[t] + epsilon * nll.mean())


def reference_fraction(y: int, partner: int, mix: float, row: ArmRow) -> float:
    ratio = float(row.class_counts[y]) / float(row.class_counts[partner])
    if ratio >= row.remix_kappa and mix < row.remix_tau:
        return 0.0
    if ratio <= 1 / row.remix_kappa and 1 - mix < row.remix_tau:
        return 1.0
    return mix


def reference_loss(logits: np.ndarray, row: ArmRow) -> np.ndarray:
    values = []
    for z, y, partner, mix in zip(logits.astype(np.float64), LABELS, PARTNERS, MIX, strict=True):
        fraction = reference_fraction(y, partner, float(mix), row)
        values.append(
            fraction * reference_target(z, y, row)
            + (1 - fraction) * reference_target(z, partner, row)
        )
    return np.array(values)


@pytest.mark.parametrize("spec", ROWS)
@either(loss_of)
def test_the_loss_equals_its_reference(run, spec: str) -> None:
    row = ROWS[spec]
    expected = reference_loss(LOGITS, row)
    np.testing.assert_allclose(run(LOGITS, row), expected, rtol=1e-5, atol=1e-5)


@either(plain_loss_of)
def test_without_mixing_the_loss_is_that_of_the_label(run) -> None:
    expected = [
        reference_target(z, y, ALL_AT_ONCE)
        for z, y in zip(LOGITS.astype(np.float64), LABELS, strict=True)
    ]
    np.testing.assert_allclose(run(LOGITS, ALL_AT_ONCE), expected, rtol=1e-5)


def test_by_hand() -> None:
    # p = (2/3, 1/3): the numbers of a first course.
    logits, labels = jnp.log(jnp.array([[2.0, 1.0]])), jnp.array([1])
    row = replace(uniform_row(2), class_weights=[1, 5])

    def of(**fields):
        changed = replace(row, **fields)
        return losses.per_example_loss(
            logits, labels, changed, class_weights=changed.class_weights
        )[0]

    log = np.log
    assert of() == pytest.approx(5 * log(3))
    assert of(focal_gamma=2) == pytest.approx(5 * (4 / 9) * log(3))
    assert of(logit_bias=log([2 / 3, 1 / 3])) == pytest.approx(5 * log(5))
    assert of(margin=log(2)) == pytest.approx(5 * log(5))
    assert of(logit_scale=[2, 1]) == pytest.approx(5 * log(5))
    assert of(scale=2) == pytest.approx(5 * log(5))
    assert of(smoothing=0.5) == pytest.approx(5 * (0.75 * log(3) + 0.25 * log(1.5)))


# Gradients ---------------------------------------------------------------------------------------


@jax.jit
def total_loss(logits, row: ArmRow) -> jax.Array:
    return loss_of(logits, row).sum()


@jax.jit
def value_and_grad_of_head(features, kernel, bias, row: ArmRow):
    def loss(features, kernel, bias):
        return total_loss(losses.head_logits(features, kernel, bias, row), row)

    return jax.value_and_grad(loss, argnums=(0, 1, 2))(features, kernel, bias)


total_loss_and_grad = jax.jit(jax.value_and_grad(total_loss))


@pytest.mark.parametrize("spec", ROWS)
def test_gradients_are_those_of_the_values(spec: str) -> None:
    with jax.enable_x64(True):
        row = jax.tree.map(lambda leaf: leaf.astype(np.float64), ROWS[spec])
        loss = partial(total_loss, row=row)
        check_grads(loss, (LOGITS.astype(np.float64),), order=1, modes=("rev",), rtol=1e-5)


@pytest.mark.parametrize("spec", ROWS)
@pytest.mark.parametrize("extreme", [200.0, -200.0, 0.0])
def test_extreme_logits_have_finite_losses_and_gradients(spec: str, extreme: float) -> None:
    logits = np.where(np.arange(K) == LABELS[:, None], np.float32(extreme), np.float32(0))
    value, grads = total_loss_and_grad(logits, ROWS[spec])
    assert np.isfinite(value)
    assert np.isfinite(grads).all()


def test_gradient_of_cdt_in_closed_form() -> None:
    """∂/∂z_c of CE(a·z) is a_c (softmax(a·z)_c − [c = y])."""
    row = arm_row(parse_arm("cdt:gamma=0.3"), CONTEXT)
    scale = (COUNTS / COUNTS.max()) ** 0.3
    powers = np.exp(scale * LOGITS.astype(np.float64))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    expected = scale * (probabilities - np.eye(K)[LABELS])
    grads = jax.grad(lambda logits: plain_loss_of(logits, row).sum())(LOGITS)
    np.testing.assert_allclose(grads, expected, rtol=1e-4, atol=1e-6)


def test_focal_gradient_of_a_certain_example_is_zero_not_nan() -> None:
    certain = np.where(np.arange(K) == LABELS[:, None], np.float32(200), np.float32(-200))
    for gamma in (0.0, 0.5, 1.0, 2.0):
        row = replace(uniform_row(K), focal_gamma=gamma)
        grads = jax.grad(lambda logits, row=row: plain_loss_of(logits, row).sum())(certain)
        np.testing.assert_allclose(grads, 0, atol=1e-6)


# The head ----------------------------------------------------------------------------------------


@either(losses.head_logits)
def test_dense_and_cosine_logits(run) -> None:
    row = uniform_row(K)
    features, kernel = FEATURES.astype(np.float64), KERNEL.astype(np.float64)
    dense = features @ kernel + BIAS
    np.testing.assert_allclose(run(FEATURES, KERNEL, BIAS, row), dense, rtol=1e-5, atol=1e-5)
    norms = np.linalg.norm(features, axis=1)[:, None] * np.linalg.norm(kernel, axis=0)
    cosine = run(FEATURES, KERNEL, BIAS, replace(row, normalized_head=1))
    np.testing.assert_allclose(cosine, features @ kernel / norms, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("normalized", [0, 1])
@pytest.mark.parametrize("features", [FEATURES, 0 * FEATURES, 1e-8 * FEATURES])
@pytest.mark.parametrize("kernel", [KERNEL, 0 * KERNEL])
def test_zero_vectors_have_finite_gradients(normalized: int, features, kernel) -> None:
    row = replace(uniform_row(K), normalized_head=normalized, scale=30)
    value, grads = value_and_grad_of_head(features, kernel, BIAS, row)
    assert np.isfinite(value)
    assert all(np.isfinite(grad).all() for grad in grads)


@pytest.mark.parametrize("normalized", [0, 1])
def test_gradients_of_the_head(normalized: int) -> None:
    with jax.enable_x64(True):
        row = replace(uniform_row(K), normalized_head=normalized)
        features = FEATURES[:4].astype(np.float64)
        arguments = (features, KERNEL.astype(np.float64), BIAS.astype(np.float64))
        check_grads(
            jax.jit(partial(losses.head_logits, row=row)),
            arguments,
            order=1,
            modes=("rev",),
            rtol=1e-5,
        )


def test_only_the_scale_acts_at_test() -> None:
    np.testing.assert_array_equal(
        losses.evaluation_logits(LOGITS, ALL_AT_ONCE), np.float32(1.7) * LOGITS
    )


# Identities between arms -------------------------------------------------------------------------


def weighted(params, row: ArmRow, is_valid=ALL_VALID, epoch=0, *, reduction="batch", mixing=True):
    mixed = {"mixed_labels": LABELS, "mix": jnp.float32(1)} if mixing else {}
    options = {"class_weights": losses.class_weights_at(row, epoch), **mixed}
    logits = losses.head_logits(*params, row)
    return losses.reduce_loss(
        losses.per_example_loss(logits, LABELS, row, **options),
        losses.example_weights(LABELS, row, **options),
        is_valid,
        reduction,
    )


def plain(params, is_valid=ALL_VALID) -> jax.Array:
    features, kernel, bias = params
    logits = features @ kernel + bias[None, :]
    example_losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, LABELS)
    # Not mean(): it multiplies by 1/56, which differs from a division in the last bit.
    return example_losses.sum() / is_valid.sum(dtype=np.float32)


PARAMS = (FEATURES, KERNEL, BIAS)
weighted_and_grad = jax.jit(jax.value_and_grad(weighted))


@pytest.mark.fault(45)
@pytest.mark.parametrize(
    ("compile_", "mixing", "reduction"),
    [
        (jax.jit, True, "batch"),
        (jax.jit, True, "weights"),
        (jax.jit, False, "batch"),
        (lambda function: function, True, "batch"),
    ],
)
def test_the_neutral_row_is_plain_cross_entropy_bit_for_bit(compile_, mixing, reduction) -> None:
    neutral = partial(weighted, reduction=reduction, mixing=mixing)
    expected = compile_(jax.value_and_grad(plain))(PARAMS, ALL_VALID)
    actual = compile_(jax.value_and_grad(neutral))(PARAMS, uniform_row(K), ALL_VALID)
    assert bits(actual) == bits(expected)


def test_fifty_steps_of_the_neutral_row_are_plain_training_bit_for_bit() -> None:
    tx = optax.rmsprop(1e-3, decay=0.9, eps=1e-7, eps_in_sqrt=True)

    def trained(loss) -> tuple:
        @jax.jit
        def step(params, opt_state):
            updates, opt_state = tx.update(jax.grad(loss)(params), opt_state)
            return optax.apply_updates(params, updates), opt_state

        params = jax.tree.map(jnp.asarray, PARAMS)
        opt_state = tx.init(params)
        for _ in range(50):
            params, opt_state = step(params, opt_state)
        return params

    ones = replace(uniform_row(K), class_weights=np.ones(K))
    assert bits(trained(partial(weighted, row=ones))) == bits(trained(plain))


def test_focal_of_gamma_0_is_cross_entropy_bit_for_bit() -> None:
    row = arm_row(parse_arm("focal:gamma=0"), CONTEXT)
    assert bits(weighted_and_grad(PARAMS, row)) == bits(weighted_and_grad(PARAMS, uniform_row(K)))


def test_ldam_without_margin_and_scale_is_cross_entropy_of_the_same_logits() -> None:
    row = arm_row(parse_arm("ldam:c=0:s=1:weights=uniform"), CONTEXT)
    expected = optax.losses.softmax_cross_entropy_with_integer_labels(LOGITS, LABELS)
    np.testing.assert_array_equal(plain_loss_of(LOGITS, row), expected)


def test_logit_adjusted_is_cross_entropy_of_shifted_logits() -> None:
    for spec in ("logit_adjusted", "balanced_softmax"):
        row = arm_row(parse_arm(spec), CONTEXT)
        expected = optax.losses.softmax_cross_entropy_with_integer_labels(
            LOGITS + np.log(COUNTS).astype(np.float32), LABELS
        )
        np.testing.assert_allclose(plain_loss_of(LOGITS, row), expected, rtol=1e-5, atol=1e-6)


def test_label_smoothing_is_that_of_optax() -> None:
    row = arm_row(parse_arm("label_smoothing:epsilon=0.2"), CONTEXT)
    targets = optax.smooth_labels(jax.nn.one_hot(LABELS, K), 0.2)
    expected = optax.losses.softmax_cross_entropy(LOGITS, targets)
    np.testing.assert_allclose(plain_loss_of(LOGITS, row), expected, rtol=1e-5)


def test_a_deferred_arm_has_weights_1_before_its_epoch() -> None:
    row = arm_row(parse_arm("balanced:drw=0.8"), CONTEXT)
    uniform = bits(weighted_and_grad(PARAMS, uniform_row(K)))
    assert bits(weighted_and_grad(PARAMS, row, epoch=7)) == uniform
    at_once = arm_row(parse_arm("balanced"), CONTEXT)
    assert bits(weighted_and_grad(PARAMS, row, epoch=8)) == bits(
        weighted_and_grad(PARAMS, at_once, epoch=8)
    )
    assert bits(weighted_and_grad(PARAMS, row, epoch=8)) != uniform


def test_all_arms_go_through_one_compiled_program() -> None:
    num_traces = 0

    @jax.jit
    @partial(jax.vmap, in_axes=(None, 0))
    def run(logits, row):
        nonlocal num_traces
        num_traces += 1
        return loss_of(logits, row)

    rows = list(ROWS.values())
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *rows)
    together = run(LOGITS, stacked)
    for index, row in enumerate(rows):
        np.testing.assert_allclose(together[index], loss_of(LOGITS, row), rtol=1e-5, atol=1e-5)
    run(LOGITS, jax.tree.map(lambda leaf: leaf[::-1], stacked))
    assert num_traces == 1


# Mixing and reductions ---------------------------------------------------------------------------


def test_mixing_factors_of_remix_by_hand() -> None:
    row = replace(
        uniform_row(3), class_counts=[300, 100, 150], remix_kappa=3, remix_tau=0.5, mixup_alpha=1
    )
    labels, partners = np.array([0, 0, 1, 1, 0, 2]), np.array([1, 1, 0, 0, 2, 0])
    mix = np.float32([0.4, 0.6, 0.6, 0.4, 0.1, 0.9])
    fractions = losses.label_mix(labels, partners, mix, row)
    np.testing.assert_allclose(fractions, [0, 0.6, 1, 0.4, 0.1, 0.9])
    mixup = replace(row, remix_kappa=np.inf)
    np.testing.assert_array_equal(losses.label_mix(labels, partners, mix, mixup), mix)


def test_the_weight_of_a_mixed_example_is_mixed() -> None:
    row = replace(uniform_row(2), class_weights=[1, 5])
    weights = losses.example_weights(
        np.array([0, 1]),
        row,
        class_weights=row.class_weights,
        mixed_labels=np.array([1, 1]),
        mix=jnp.float32(0.75),
    )
    np.testing.assert_allclose(weights, [2, 5])


@pytest.mark.parametrize("reduction", ["batch", "weights"])
@either(losses.class_weights_at)
def test_reductions_equal_keras_and_pytorch(run, reduction: str) -> None:
    row = arm_row(parse_arm("balanced"), CONTEXT)
    class_weights = run(row, 0)
    example_losses = losses.per_example_loss(LOGITS, LABELS, row, class_weights=class_weights)
    weights = losses.example_weights(LABELS, row, class_weights=class_weights)
    is_valid = np.arange(BATCH) < 40
    actual = jax.jit(losses.reduce_loss, static_argnums=3)(
        example_losses, weights, is_valid, reduction
    )
    z = LOGITS[:40].astype(np.float64)
    nll = np.log(np.exp(z).sum(axis=1)) - z[np.arange(40), LABELS[:40]]
    w = (COUNTS.sum() / (K * COUNTS))[LABELS[:40]]
    expected = np.sum(w * nll) / (40 if reduction == "batch" else np.sum(w))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.fault(43)
@pytest.mark.parametrize("reduction", ["batch", "weights"])
@pytest.mark.parametrize("is_valid", [ALL_VALID, ~ALL_VALID], ids=["no weight", "no example"])
def test_a_batch_without_weight_has_loss_0_and_finite_gradients(reduction, is_valid) -> None:
    row = replace(uniform_row(K), class_weights=0, focal_gamma=2, smoothing=0.1)

    def loss(logits):
        example_losses = loss_of(logits, row)
        weights = losses.example_weights(LABELS, row, class_weights=row.class_weights)
        return losses.reduce_loss(example_losses, weights, is_valid, reduction)

    for scale in (1, 100):
        value, grads = jax.value_and_grad(loss)(scale * LOGITS)
        assert value == 0
        np.testing.assert_array_equal(grads, 0)


def test_padding_never_reaches_the_loss() -> None:
    is_valid = np.arange(BATCH) < 40
    nothing = np.where(is_valid, np.float32(1), np.float32(np.nan))
    for reduction in ("batch", "weights"):
        assert losses.reduce_loss(nothing, nothing, is_valid, reduction) == 1


def test_unknown_reductions_are_refused() -> None:
    with pytest.raises(ValueError, match="'batch' or 'weights', not 'mean'"):
        losses.reduce_loss(jnp.ones(2), jnp.ones(2), jnp.ones(2, bool), "mean")
