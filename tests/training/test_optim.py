"""Optimisers against PyTorch's own losses, and schedules against their formulas.

`tests/golden/torch_mlp.npz` has PyTorch's side.
"""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_engine import make_run

from cwjax.arms.arm import SCHEMES, ArmContext
from cwjax.arms.grammar import arm_row, parse_arm, parse_arms
from cwjax.arms.row import replace, row_bytes, uniform_row
from cwjax.config import TrainConfig
from cwjax.errors import ConfigError
from cwjax.models.registry import model_factory
from cwjax.training.batches import epoch_blocks, learning_rates
from cwjax.training.lanes import Lane
from cwjax.training.optim import OPTIMIZERS, find_optimizer, find_schedule
from cwjax.training.step import Batches, Block, Examples, make_programs

GOLDEN_FILE = Path(__file__).parents[1] / "golden" / "torch_mlp.npz"
NUM_CLASSES = 5
COUNTS = np.array([40, 10])
CONTEXT = ArmContext(COUNTS, COUNTS, ("a", "b"), num_epochs=10, weight_decay=2e-4)

AS_IN_TORCH = {
    "sgd": TrainConfig(
        optimizer="sgd:momentum=0.9:nesterov=1",
        learning_rate=0.05,
        weight_decay=5e-3,
        schedule="cosine",
    ),
    "adamw": TrainConfig(optimizer="adamw", learning_rate=1e-3, weight_decay=0.05),
}


@pytest.mark.parametrize("name", AS_IN_TORCH)
def test_thirty_steps_have_pytorchs_losses(name: str) -> None:
    with np.load(GOLDEN_FILE) as file:
        golden = dict(file)
    config = AS_IN_TORCH[name]
    num_steps, batch_size = golden["labels"].shape
    model = model_factory("mlp:hidden=24,16:dropout=0", (12,), NUM_CLASSES)
    tx = find_optimizer(config.optimizer)()
    programs = Lane(jax.devices()[:1], None).compile(make_programs(model, tx, config, NUM_CLASSES))
    row = replace(uniform_row(NUM_CLASSES), weight_decay=config.weight_decay)
    zeros, ones = np.zeros(12, np.float32), np.ones(12, np.float32)
    row = row._replace(input_fill=zeros, input_mean=zeros, input_scale=ones)
    state = programs.initial_state(jnp.zeros(2, jnp.uint32), row)
    layers = [*(state.params["layers"][number] for number in (0, 1)), state.params["head"]]
    for number, layer in enumerate(layers):
        for kind in ("kernel", "bias"):
            assert layer[kind].shape == golden[f"{number}/{kind}"].shape
            layer[kind].set_value(jnp.asarray(golden[f"{number}/{kind}"]))
    rates = learning_rates(
        config, 1.0, epoch=0, num_epochs=1, steps_per_epoch=num_steps, warms_up=True
    )
    examples = Examples(golden["inputs"].reshape(-1, 12), golden["labels"].reshape(-1))
    slots = np.arange(batch_size, dtype=np.int32)[None]
    losses = []
    for step in range(num_steps):
        batches = Batches(
            indices=step * batch_size + slots,
            valid=np.ones((1, batch_size), bool),
            partners=slots,
            mix=np.ones(1, np.float32),
            learning_rate=rates[step : step + 1],
        )
        state = state._replace(loss_sum=jnp.float32(0))
        state = programs.train_block(state, row, examples, Block(batches, np.int32(1), np.int32(0)))
        losses.append(float(state.loss_sum) / batch_size)
    np.testing.assert_allclose(losses, golden[f"{name}/losses"], rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "stock"),
    [
        ("sgd", optax.sgd(1, momentum=0.9)),
        ("sgd:momentum=0", optax.sgd(1)),
        ("sgd:momentum=0.5:nesterov=1", optax.sgd(1, momentum=0.5, nesterov=True)),
        ("rmsprop", optax.rmsprop(1, decay=0.9, eps=1e-7, eps_in_sqrt=True)),
        ("adam", optax.adam(1)),
    ],
)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_weight_decay_is_in_the_gradient(
    text: str, stock: optax.GradientTransformation, weight_decay: float
) -> None:
    stock = optax.chain(optax.add_decayed_weights(weight_decay), stock)
    _equal_after_three_steps(text, stock, weight_decay)


def test_weight_decay_of_adamw_is_beside_the_gradient() -> None:
    _equal_after_three_steps("adamw", optax.adamw(1, weight_decay=0.1), 0.1)


def _equal_after_three_steps(
    text: str, stock: optax.GradientTransformation, weight_decay: float
) -> None:
    """Our updates lack the factor `-learning_rate`, here -1."""
    params = {"kernel": jnp.array([1.0, -2.0, 3.0]), "bias": jnp.array([0.5])}
    ours = optax.with_extra_args_support(find_optimizer(text)())
    state, stock_state = ours.init(params), stock.init(params)
    for step in range(3):
        grads = jax.tree.map(lambda p, step=step: jnp.sin(p + step), params)
        updates, state = ours.update(grads, state, params, weight_decay=weight_decay)
        expected, stock_state = stock.update(grads, stock_state, params)
        for mine, theirs in zip(updates.values(), expected.values(), strict=True):
            np.testing.assert_allclose(-mine, theirs, rtol=1e-6)


def rates(factor: float = 1.0, num_epochs: int = 10, **settings: object) -> np.ndarray:
    """Of every step of a stage, ten an epoch."""
    config = TrainConfig(learning_rate=0.1, num_epochs=10, **settings)
    epochs = [
        learning_rates(
            config,
            factor,
            epoch=epoch,
            num_epochs=num_epochs,
            steps_per_epoch=10,
            warms_up=num_epochs == 10,
        )
        for epoch in range(num_epochs)
    ]
    return np.concatenate(epochs)


def test_schedules() -> None:
    done = np.arange(100) / 100
    np.testing.assert_array_equal(rates(), np.full(100, 0.1, np.float32))
    np.testing.assert_array_equal(rates(3), np.full(100, 0.1 * 3, np.float32))
    cosine = 0.05 * (1 + np.cos(np.pi * done))
    np.testing.assert_allclose(rates(schedule="cosine"), cosine, rtol=1e-6)
    steps = np.where(done < 0.8, 0.1, np.where(done < 0.9, 1e-3, 1e-5))
    np.testing.assert_allclose(rates(schedule="step:factor=0.01"), steps, rtol=1e-6)
    steps = np.where(done < 0.55, 0.1, 0.02)
    np.testing.assert_allclose(rates(schedule="step:at=0.55:factor=0.2"), steps, rtol=1e-6)
    warm = 0.1 * np.minimum(1, np.arange(1, 101) / 25)
    np.testing.assert_allclose(rates(warmup=2.5), warm, rtol=1e-6)
    np.testing.assert_allclose(rates(warmup=2.5, schedule="cosine"), warm * cosine / 0.1, rtol=1e-6)


def test_a_second_stage_has_the_schedule_anew_and_no_warm_up() -> None:
    config = TrainConfig(num_epochs=2, batch_size=16, schedule="cosine", warmup=1, learning_rate=1)
    run = make_run(0, num_epochs=4, second_stage_from=2, second_stage_rate=3)
    labels = np.zeros(180, np.int32)
    blocks = [next(iter(epoch_blocks([run], labels, epoch, config, 3))) for epoch in range(4)]
    found = np.concatenate([block.batches.learning_rate[0] for block in blocks])
    cosine = (1 + np.cos(np.pi * np.arange(6) / 6)) / 2
    warm = np.minimum(1, np.arange(1, 7) / 3)
    np.testing.assert_allclose(found, [*(warm * cosine), *(3 * cosine)], rtol=1e-6)


@pytest.mark.fault(87)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.0}, "--learning-rate is 0.0: give a finite number above 0"),
        ({"warmup": -1.0}, "--warmup is -1: give a finite number of epochs"),
        ({"warmup": float("nan")}, "--warmup is nan"),
        ({"weight_decay": -1e-4}, "--weight-decay is -0.0001: give a finite number of at least 0"),
        ({"weight_decay": float("inf")}, "--weight-decay is inf"),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**settings)


@pytest.mark.fault(87)
@pytest.mark.parametrize(
    ("find", "text", "message"),
    [
        (
            find_optimizer,
            "sgd:momentum=1",
            r"momentum='1': out of range; give a number in \[0, 1\)",
        ),
        (find_optimizer, "sgd:nesterov=yes", "nesterov='yes': give an integer from 0 to 1"),
        (find_optimizer, "adamm", r"'adamm' \(did you mean 'adam.*choose one of rmsprop, sgd, ada"),
        (find_schedule, "cos", r"--schedule is 'cos' \(did you mean 'cosine'\?\): choose one of"),
        (find_schedule, "step:at=0.5,1", r"at='0.5,1': out of range; give a number in \(0, 1\)"),
        (find_schedule, "step:factor=0", r"factor='0': out of range"),
    ],
)
def test_names_and_settings_that_are_wrong(find, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        find(text)
    assert "\n" not in str(caught.value)
    assert all(make.__doc__ for make in OPTIMIZERS.values())


# lr= and weight_decay= of an arm -----------------------------------------------------------------


def test_every_trained_arm_takes_lr_and_weight_decay() -> None:
    for arm in parse_arms(["all"]):
        if arm.kind == "post_hoc":
            with pytest.raises(ConfigError, match="has no setting 'lr'"):
                parse_arm(f"{arm}:lr=3")
            continue
        row = arm_row(parse_arm(f"{arm}:lr=3:weight_decay=0.5"), CONTEXT)
        assert (float(row.learning_rate_factor), float(row.weight_decay)) == (3, 0.5)
        plain = arm_row(arm, CONTEXT)
        assert float(plain.learning_rate_factor) == 1
        own = SCHEMES[arm.scheme].weight_decay
        assert plain.weight_decay == np.float32(2e-4 if own is None else own)  # or the study's
        assert row_bytes(plain) == row_bytes(
            row._replace(
                learning_rate_factor=plain.learning_rate_factor, weight_decay=plain.weight_decay
            )
        )


def test_their_place_in_names() -> None:
    assert str(parse_arm("uniform:lr=1")) == "uniform"
    assert parse_arm("uniform:lr=1.0") == parse_arm("uniform")
    assert str(parse_arm("balanced:weight_decay=0:lr=.5")) == "balanced:lr=0.5:weight_decay=0"
    names = [str(arm) for arm in parse_arms(["uniform:lr=0.3,1,3:weight_decay=0,1e-4"])]
    assert len(names) == 6
    assert names[2] == "uniform:weight_decay=0"
    assert str(parse_arm("focal:weights=balanced:lr=2")) == "focal:weights=balanced:lr=2"
    with pytest.raises(ConfigError, match="lr='0': out of range"):
        parse_arm("uniform:lr=0")
    with pytest.raises(ConfigError, match="weight_decay='-1': out of range"):
        parse_arm("uniform:weight_decay=-1")
    with pytest.raises(ConfigError, match="not finite in float32"):
        arm_row(parse_arm("uniform:weight_decay=1e300"), CONTEXT)
