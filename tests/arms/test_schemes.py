"""Every scheme's row against numbers computed by hand, and the schemes that must coincide."""

from __future__ import annotations

import numpy as np
import pytest

from cwjax.arms.arm import ArmContext
from cwjax.arms.grammar import arm_row, parse_arm, parse_arms
from cwjax.arms.row import NEVER, ArmRow, replace, row_bytes, uniform_row
from cwjax.errors import ConfigError

COUNTS = np.array([400, 100, 4])  # N = 504, K = 3
LOG_PRIOR = np.log([400 / 504, 100 / 504, 4 / 504])


def context(counts: np.ndarray = COUNTS, **changes) -> ArmContext:
    names = tuple(f"class {index}" for index in range(len(counts)))
    fields = {"class_counts": counts, "weight_counts": counts, "class_names": names}
    return ArmContext(**{**fields, "num_epochs": 10, "batch_size": 1, **changes})


def row_of(spec: str, **changes) -> ArmRow:
    return arm_row(parse_arm(spec), context(**changes))


# inverse_power: (1/20, 1/10, 1/2) · 504 / (20 + 10 + 2); effective_number at 0 < beta << 1: ones.
@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ("uniform", {}),
        ("balanced", {"class_weights": [0.42, 1.68, 42]}),
        ("inverse_power", {"class_weights": [0.7875, 1.575, 7.875]}),
        ("inverse_power:gamma=1", {"class_weights": [0.42, 1.68, 42]}),
        ("inverse_power:gamma=0", {}),
        ("effective_number:beta=0", {}),
        ("balanced:drw=0.8", {"class_weights": [0.42, 1.68, 42], "deferred_from": 8}),
        # round(9.9) = 10, but one epoch has the 500 steps that they act at least.
        ("balanced:drw=0.99", {"class_weights": [0.42, 1.68, 42], "deferred_from": 9}),
        ("focal", {"focal_gamma": 2}),
        (
            "focal:gamma=1:weights=balanced:drw=0.5",
            {"focal_gamma": 1, "class_weights": [0.42, 1.68, 42], "deferred_from": 5},
        ),
        ("logit_adjusted", {"logit_bias": LOG_PRIOR}),
        ("logit_adjusted:tau=0", {}),
        ("logit_adjusted:tau=2", {"logit_bias": 2 * LOG_PRIOR}),
        ("balanced_softmax", {"logit_bias": LOG_PRIOR}),
        (
            "vector_scaling",
            {"logit_scale": np.array([1, 0.25, 0.01]) ** 0.15, "logit_bias": 1.25 * LOG_PRIOR},
        ),
        ("cdt", {"logit_scale": np.array([1, 0.25, 0.01]) ** 0.3}),
        ("cdt:gamma=0", {}),
        ("class_balanced_sampling", {"sampling_exponent": 0}),
        (
            "class_balanced_sampling:weights=balanced",
            {"sampling_exponent": 0, "class_weights": [0.42, 1.68, 42]},
        ),
        (
            "sqrt_sampling:weights=inverse_power(1):drw=0.5",
            {"sampling_exponent": 0.5, "class_weights": [0.42, 1.68, 42], "deferred_from": 5},
        ),
        ("sqrt_sampling", {"sampling_exponent": 0.5}),
        ("progressive_sampling", {"sampling_progress": 1}),
        ("label_smoothing", {"smoothing": 0.1}),
        # sin(π/2 · 96/396) in the middle
        ("label_aware_smoothing", {"smoothing": [0.4, 0.1 + 0.3 * np.sin(np.pi * 4 / 33), 0.1]}),
        ("mixup:alpha=0.2", {"mixup_alpha": 0.2}),
        ("mixup:off=0.1", {"mixup_alpha": 1, "mixing_until": 9}),
        ("mixup:off=0.01", {"mixup_alpha": 1, "mixing_until": 9}),  # one epoch at least
        ("mixup:off=0.34", {"mixup_alpha": 1, "mixing_until": 7}),
        (
            "remix",
            {"mixup_alpha": 1, "remix_kappa": 3, "remix_tau": 0.5, "class_counts": COUNTS},
        ),
        ("crt", {"second_stage_from": 10, "second_stage_head": 1, "second_stage_exponent": 0}),
        (
            "weight_balancing:max_norm=0.5:weights=balanced:second_lr=3",
            {
                "second_stage_from": 10,
                "second_stage_head": 3,
                "second_stage_rate": 3,
                "second_stage_max_norm": 0.5,
                "class_weights": [0.42, 1.68, 42],
                "deferred_from": 10,
                "weight_decay": 5e-3,
            },
        ),
        ("lws", {"second_stage_from": 10, "second_stage_head": 2, "second_stage_exponent": 0}),
    ],
)
def test_rows_by_hand(spec: str, fields: dict) -> None:
    expected = replace(uniform_row(3), **fields)
    for name, actual, wanted in zip(ArmRow._fields, row_of(spec), expected, strict=True):
        assert (actual.dtype, actual.shape) == (wanted.dtype, wanted.shape)
        np.testing.assert_allclose(actual, wanted, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("batch_size", "num_epochs", "deferred_from"),
    [
        (1, 10, 8),  # 504 steps an epoch: one would do
        (3, 10, 7),  # 168: three epochs have 500
        (4, 10, 6),  # 126: four, which is still less than half of the run
        (56, 10, 5),  # 9: half of the run
        (56, 11, 5),
        (56, 1, 0),
        (1000, 10, 5),  # no whole batch
        (1, 1000, 800),
    ],
)
def test_deferred_weights_act_for_500_steps_or_half_of_the_run(
    batch_size: int, num_epochs: int, deferred_from: int
) -> None:
    row = row_of("balanced:drw=0.8", batch_size=batch_size, num_epochs=num_epochs)
    assert row.deferred_from == deferred_from
    early = row_of("balanced:drw=0.1", batch_size=batch_size, num_epochs=num_epochs)
    assert early.deferred_from == min(deferred_from, round(0.1 * num_epochs))


def test_ldam_by_hand() -> None:
    row = row_of("ldam")
    # n^(-1/4) relative to the rarest class: (4/400)^(1/4), (4/100)^(1/4), 1.
    np.testing.assert_allclose(row.margin, [0.5 * 0.01**0.25, 0.5 * 0.04**0.25, 0.5], rtol=1e-6)
    assert (row.scale, row.normalized_head, row.deferred_from) == (30, 1, 8)
    effective = (1 - 0.9999) / (1 - 0.9999**COUNTS)
    expected = effective * 504 / (COUNTS @ effective)
    np.testing.assert_allclose(row.class_weights, expected, rtol=1e-6)
    assert row_of("ldam:c=0.3").margin.max() == np.float32(0.3)


def test_the_neutral_row_is_the_identity_of_every_field() -> None:
    row = uniform_row(3)
    ones = {"class_weights", "logit_scale", "class_counts", "scale"}
    ones |= {"sampling_exponent", "second_stage_exponent", "learning_rate_factor", "input_spread"}
    ones |= {"second_stage_rate"}
    special = {"remix_kappa": np.inf, "second_stage_max_norm": np.inf}
    special |= {"second_stage_from": NEVER, "mixing_until": NEVER}
    for name, leaf in row._asdict().items():
        assert np.all(leaf == special.get(name, float(name in ones))), name


def test_weights_normalised_over_the_classes() -> None:
    weights = row_of("balanced", normalization="classes").class_weights
    assert weights.sum() == pytest.approx(3)
    np.testing.assert_allclose(weights / weights[0], [1, 4, 100], rtol=1e-6)


def test_class_weights_come_from_the_weight_counts_and_the_rest_from_the_training_split() -> None:
    whole_file = np.array([600, 300, 100])
    row = row_of("ldam:weights=balanced", weight_counts=whole_file)
    np.testing.assert_allclose(row.class_weights, 1000 / (3 * whole_file), rtol=1e-6)
    np.testing.assert_array_equal(row.margin, row_of("ldam").margin)
    row = row_of("logit_adjusted", weight_counts=whole_file)
    np.testing.assert_allclose(row.logit_bias, LOG_PRIOR, rtol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "class_balanced_sampling", "sqrt_sampling", "progressive_sampling", "label_smoothing",
        "label_aware_smoothing", "mixup", "remix",
    ],
)  # fmt: skip
def test_an_arm_with_weights_is_the_arm_and_the_weights(name: str) -> None:
    plain, weights = row_of(name), row_of("balanced:drw=0.5")
    both = row_of(f"{name}:weights=balanced:drw=0.5")
    assert row_bytes(both) == row_bytes(
        plain._replace(class_weights=weights.class_weights, deferred_from=weights.deferred_from)
    )
    with pytest.raises(ConfigError, match="drw= defers class weights, and weights=uniform has"):
        parse_arm(f"{name}:drw=0.5")


def test_weight_balancing_decays_more_than_the_study_unless_told_otherwise() -> None:
    study = {"weight_decay": 2e-4}
    assert row_of("crt", **study).weight_decay == np.float32(2e-4)
    assert row_of("weight_balancing", **study).weight_decay == np.float32(5e-3)
    assert row_of("weight_balancing:weight_decay=0.1", **study).weight_decay == np.float32(0.1)
    assert str(parse_arm("weight_balancing:weight_decay=5e-3")) == "weight_balancing"
    unweighted = row_of("weight_balancing:weights=uniform")
    assert (unweighted.class_weights == 1).all()
    assert (unweighted.deferred_from, unweighted.second_stage_from) == (0, 10)


def test_cdt_is_vector_scaling_without_the_prior() -> None:
    assert row_bytes(row_of("cdt:gamma=0.2")) == row_bytes(row_of("vector_scaling:gamma=0.2:tau=0"))


def test_balanced_softmax_is_logit_adjusted_with_tau_1() -> None:
    assert row_bytes(row_of("balanced_softmax")) == row_bytes(row_of("logit_adjusted:tau=1"))


@pytest.mark.parametrize(
    "spec",
    ["balanced", "inverse_power", "inverse_power:gamma=3", "effective_number", "balanced:drw=0.5"],
)
@pytest.mark.parametrize("normalization", ["examples", "classes"])
def test_class_weights_on_balanced_data_are_uniform(spec: str, normalization: str) -> None:
    row = row_of(spec, counts=np.full(10, 4321), normalization=normalization)
    assert row_bytes(row) == row_bytes(uniform_row(10))


def test_label_aware_smoothing_on_balanced_data_is_the_tail() -> None:
    row = row_of("label_aware_smoothing", counts=np.full(4, 7))
    np.testing.assert_array_equal(row.smoothing, np.full(4, np.float32(0.1)))


def test_every_arm_has_a_row_on_mnist_long_tailed() -> None:
    counts = np.array([5421, 3249, 1948, 1167, 700, 419, 251, 150, 90, 54])
    rows = [arm_row(arm, context(counts)) for arm in parse_arms(["all"]) if arm.kind != "post_hoc"]
    assert sum(row_bytes(row) == row_bytes(uniform_row(10)) for row in rows) == 2  # long
    for row in rows:
        assert [leaf.dtype for leaf in row] == [leaf.dtype for leaf in uniform_row(10)]
        assert [leaf.shape for leaf in row] == [leaf.shape for leaf in uniform_row(10)]
