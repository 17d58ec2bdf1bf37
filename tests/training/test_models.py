"""Every model and optimiser in the engine: plain Flax's bits, alone, beside others, resumed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from test_engine import ROWS, counting, make_run
from test_resume import numbers

from cwjax.config import TrainConfig
from cwjax.data.dataset import Dataset
from cwjax.models.registry import ModelFactory, model_factory
from cwjax.models.resnet import ResNet
from cwjax.randomness import Purpose
from cwjax.training import chunk
from cwjax.training.batches import epoch_blocks
from cwjax.training.lanes import Lane
from cwjax.training.local import Engine
from cwjax.training.optim import find_optimizer
from cwjax.training.runs import ChunkState, EpochFinished, Run, RunFinished, StepsFinished
from cwjax.training.step import Examples, Programs, make_programs, preprocess

SHAPE = (18, 18, 1)


class Flaxen(nnx.Module):
    """A user's module in Flax's idioms: dropout streams of its own, batch norm without a mask."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.body = nnx.Linear(18 * 18, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, momentum=0.9, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.top = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        x = nnx.relu(self.norm(self.body(inputs.reshape(len(inputs), -1))))
        return self.top(self.drop(x))


class Normed(nnx.Module):
    """Batch norm with a mask."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.body = nnx.Linear(18 * 18, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, momentum=0.9, rngs=rngs)
        self.head = nnx.Linear(8, 3, rngs=rngs)

    def features(self, inputs: jax.Array, *, mask: jax.Array) -> jax.Array:
        x = self.body(inputs.reshape(len(inputs), -1))
        return nnx.relu(self.norm(x, mask=mask[:, None]))

    def __call__(self, inputs: jax.Array, *, mask: jax.Array) -> jax.Array:
        return self.head(self.features(inputs, mask=mask))


def small_resnet(rngs: nnx.Rngs) -> ResNet:
    return ResNet(SHAPE, 3, blocks_per_stage=1, rngs=rngs)


MODELS: dict[str, ModelFactory] = {
    "cnn": model_factory("cnn", SHAPE, 3),
    "mlp": model_factory("mlp:hidden=32,16", SHAPE, 3),
    "linear": model_factory("linear", SHAPE, 3),
    "resnet": small_resnet,
    "normed": Normed,
    "own": Flaxen,
}
SGD = "sgd:momentum=0.9:nesterov=1"
STOCK = {
    SGD: lambda: optax.trace(0.9, nesterov=True),
    "rmsprop": lambda: optax.scale_by_rms(0.9, 1e-7, eps_in_sqrt=True),
    "adam": optax.scale_by_adam,
    "adamw": optax.scale_by_adam,
}


def programs_of(model: ModelFactory, config: TrainConfig, num_classes: int = 3) -> Programs:
    return make_programs(model, find_optimizer(config.optimizer)(), config, num_classes)


def engine_of(
    dataset: Dataset, model: ModelFactory, config: TrainConfig, lanes: Sequence[Lane]
) -> Engine:
    return Engine(dataset, programs_of(model, config), config, lanes)


def one_lane() -> Lane:
    return Lane(jax.devices()[:1], None)


def plain_flax(
    dataset: Dataset, run: Run, model: ModelFactory, config: TrainConfig, num_steps: int
) -> nnx.State:
    """Parameters after some steps, as any Flax user would train: no arms, no engine."""
    key = jax.random.wrap_key_data(np.array([0, run.key.seed], np.uint32), impl="threefry2x32")
    # Compiled as the engine's: rounding differs in what is compiled and what is not.
    initial = one_lane().compile(programs_of(model, config)).initial_state
    params = initial(np.array([0, run.key.seed], np.uint32), run.row).params
    module = model(nnx.Rngs(1, params=jax.random.fold_in(key, Purpose.INIT), dropout=1))
    module.train()
    graph, fresh, others = nnx.split(module, nnx.Param, ...)
    for ours, theirs in zip(jax.tree.leaves(params), jax.tree.leaves(fresh), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    takes = MASKED.get(type(module), ())
    tx = STOCK[config.optimizer]()

    @jax.jit
    def step(params, others, opt_state, images, labels, mask, rate, decay, key):
        def loss_fn(params):
            module = nnx.merge(graph, params, jax.tree.map(lambda array: array, others))
            if hasattr(module, "drop"):
                nnx.reseed(module, dropout=jax.random.split(key, 1)[0])
            offered = {"mask": mask, "dropout_key": key}
            logits = module(images / 255, **{name: offered[name] for name in takes})
            losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
            loss = jnp.where(mask, losses, 0).sum() / mask.sum(dtype=jnp.float32)
            return loss, nnx.state(module, nnx.Not(nnx.Param))

        def decayed(updates):
            return jax.tree.map(lambda u, p: u + decay * p, updates, params)

        grads, others = jax.grad(loss_fn, has_aux=True)(params)
        is_decoupled = config.optimizer == "adamw"
        updates, opt_state = tx.update(grads if is_decoupled else decayed(grads), opt_state)
        updates = decayed(updates) if is_decoupled else updates
        updates = jax.tree.map(lambda update: -rate * update, updates)
        return optax.apply_updates(params, updates), others, opt_state

    opt_state = tx.init(params)
    block = next(iter(epoch_blocks([run], dataset.labels, 0, config, num_steps)))
    batches = jax.tree.map(lambda array: array[0], block.batches)
    for number in range(num_steps):
        images = dataset.inputs[batches.indices[number]].astype(np.float32)
        labels = dataset.labels[batches.indices[number]]
        params, others, opt_state = step(
            *(params, others, opt_state, images, labels, batches.valid[number]),
            *(batches.learning_rate[number], run.row.weight_decay),
            jax.random.fold_in(jax.random.fold_in(key, Purpose.DROPOUT), np.int32(number)),
        )
    return params


MASKED: dict[type, Sequence[str]] = {
    type(nnx.eval_shape(lambda model=MODELS[name]: model(nnx.Rngs(0)))): takes  # compiles nothing
    for name, takes in (
        ("cnn", ["dropout_key"]),
        ("mlp", ["dropout_key"]),
        ("resnet", ["mask"]),
        ("normed", ["mask"]),
    )
}
SLOW_TO_COMPILE = ("cnn", "resnet")
EVERY = [
    pytest.param(
        name,
        "rmsprop",
        marks=pytest.mark.exhaustive if name in SLOW_TO_COMPILE else pytest.mark.slow,
    )
    for name in MODELS
    if name != "mlp"
] + [
    pytest.param("mlp", optimizer, marks=[pytest.mark.slow] * (optimizer != "rmsprop"))
    for optimizer in STOCK
]


@pytest.mark.parametrize(("name", "optimizer"), EVERY)
def test_uniform_is_plain_flax_and_optax_bit_for_bit(
    tiny_dataset: Dataset, name: str, optimizer: str
) -> None:
    """Over two and a half batches of a schedule with weight decay; the padded one is masked."""
    config = TrainConfig(
        num_epochs=2, batch_size=16, optimizer=optimizer, schedule="cosine", learning_rate=0.01
    )
    run = make_run(0, weight_decay=0.01)
    num_steps = 2 if name == "own" else 3  # it takes no mask
    expected = plain_flax(tiny_dataset, run, MODELS[name], config, num_steps)
    lane = one_lane()
    state = state_after(run, tiny_dataset, MODELS[name], config, num_steps, lane)
    paths = jax.tree.leaves_with_path(state.params)
    for (path, leaf), plain in zip(paths, jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(leaf, plain, jax.tree_util.keystr(path))
    other = state_after(make_run(0), tiny_dataset, MODELS[name], config, num_steps, lane)
    assert not np.array_equal(jax.tree.leaves(other.params)[-1], jax.tree.leaves(expected)[-1])


def state_after(
    run: Run,
    dataset: Dataset,
    model: ModelFactory,
    config: TrainConfig,
    num_steps: int,
    lane: Lane,
) -> Any:
    programs = lane.compile(programs_of(model, config))
    row = lane.put_shared(run.row)
    block = next(iter(epoch_blocks([run], dataset.labels, 0, config, num_steps)))
    block = block._replace(batches=lane.put_runs(block.batches))
    state = programs.initial_state(np.array([0, run.key_seed], np.uint32), row)
    return programs.train_block(state, row, Examples(dataset.inputs, dataset.labels), block)


BUSY = TrainConfig(
    num_epochs=3,
    batch_size=16,
    optimizer="sgd",
    learning_rate=0.05,
    schedule="step:at=0.5",
    warmup=0.5,
    weight_decay=1e-3,
    augment="crop_flip:padding=2",
)
"""All that could lose its place: momentum, schedule, warm-up, augmentation."""


@pytest.mark.parametrize(
    "model",
    [Normed, *(pytest.param(m, marks=pytest.mark.exhaustive) for m in (Flaxen, small_resnet))],
)
def test_neighbours_and_a_stop_change_nothing(
    tiny_dataset: Dataset, model: Callable[..., nnx.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With batch norm: its statistics are the run's own, and go on where they stood."""
    monkeypatch.setattr(chunk, "BLOCK_STEPS", 1)
    monkeypatch.setattr(chunk, "CHECKPOINT_SECONDS", 0)
    runs = [make_run(seed, num_epochs=2) for seed in range(3)]
    trainer = engine_of(tiny_dataset, model, BUSY, [one_lane()])
    events = list(trainer.train(runs[:1]))
    alone = numbers(events)
    states = [event for event in events if isinstance(event, ChunkState)]
    assert any(name.startswith("variables/") for name in states[0].arrays)
    for state in states[::2]:
        rest = numbers(list(trainer.train(runs[:1], [state])))
        assert {k: v.tobytes() for k, v in rest.items()} == {k: alone[k].tobytes() for k in rest}
    together = numbers(list(engine_of(tiny_dataset, model, BUSY, [one_lane()] * 2).train(runs)))
    assert {k: together[k].tobytes() for k in alone} == {k: v.tobytes() for k, v in alone.items()}


@pytest.mark.slow
def test_a_place_in_a_vmapped_chunk_does_not_change_a_run(tiny_dataset: Dataset) -> None:
    runs = [make_run(seed) for seed in range(4)]
    config = dataclasses.replace(BUSY, num_epochs=2)
    trainer = engine_of(tiny_dataset, Flaxen, config, [Lane(jax.devices()[:2], 4)])
    forward, backward = (numbers(list(trainer.train(order))) for order in (runs, runs[::-1]))
    assert {k: v.tobytes() for k, v in forward.items()} == {
        k: v.tobytes() for k, v in backward.items()
    }


def test_batch_norm_without_a_mask_skips_the_partial_batch_and_says_so(
    tiny_dataset: Dataset,
) -> None:
    config = TrainConfig(num_epochs=2, batch_size=16)
    events = list(engine_of(tiny_dataset, Flaxen, config, [one_lane()]).train([make_run(0)]))
    assert sum(e.num_examples for e in events if isinstance(e, StepsFinished)) == 2 * 32  # of 40
    whole = [make_run(0, num_train=32)]
    plain = engine_of(tiny_dataset, Flaxen, config, [one_lane()]).train(whole)
    losses, plain_losses = (
        [e.train_loss for e in each if isinstance(e, EpochFinished)] for each in (events, plain)
    )
    assert losses[0] == pytest.approx(plain_losses[0], rel=0.5)  # divided by what was seen
    assert "mask" not in Flaxen.__call__.__annotations__


@pytest.mark.slow
def test_padding_never_enters_batch_statistics(tiny_dataset: Dataset) -> None:
    """8 examples in a batch of 16 leave the statistics of 8 examples in a batch of 8."""
    states = [
        state_after(
            make_run(0, num_train=8),
            tiny_dataset,
            Normed,
            TrainConfig(num_epochs=2, batch_size=batch_size),
            1,
            one_lane(),
        )
        for batch_size in (8, 16)
    ]
    pairs = zip(*(jax.tree.leaves(state.variables) for state in states), strict=True)
    for exact, padded in pairs:
        np.testing.assert_allclose(padded, exact, rtol=1e-5, atol=1e-6)


def test_every_kind_of_arm_and_three_learning_rates_compile_once(tiny_dataset: Dataset) -> None:
    traces: list[int] = []
    config = TrainConfig(num_epochs=2, batch_size=16, schedule="cosine", warmup=0.5)
    programs = counting(programs_of(MODELS["mlp"], config), traces)
    rows = [*ROWS, {"logit_scale": [1, 0.5, 0.2]}]
    runs = [
        make_run(
            100 * number + 10 * seed + index,
            num_epochs=3 if "second_stage_from" in row else 2,
            learning_rate_factor=factor,
            weight_decay=0.01 * index,
            **row,
        )
        for number, row in enumerate(rows)
        for seed in range(2)
        for index, factor in enumerate((0.3, 1, 3))
    ]
    events = list(Engine(tiny_dataset, programs, config, [one_lane()]).train(runs))
    assert sum(isinstance(event, RunFinished) for event in events) == 2 * 3 * len(rows)
    assert len(traces) == 1


def test_factor_and_weight_decay_of_a_run_act(tiny_dataset: Dataset) -> None:
    config = TrainConfig(num_epochs=2, batch_size=16)
    faster = dataclasses.replace(config, learning_rate=3e-3)
    args = (tiny_dataset, MODELS["linear"])
    by_arm = state_after(make_run(0, learning_rate_factor=3), *args, config, 3, one_lane())
    by_study = state_after(make_run(0), *args, faster, 3, one_lane())
    plain = state_after(make_run(0), *args, config, 3, one_lane())
    decayed = state_after(make_run(0, weight_decay=0.5), *args, config, 3, one_lane())
    kernels = [np.asarray(s.params["head"]["kernel"][...]) for s in (by_arm, by_study, plain)]
    np.testing.assert_allclose(kernels[0], kernels[1], rtol=1e-6)
    assert not np.allclose(kernels[0], kernels[2])
    assert not np.allclose(decayed.params["head"]["kernel"][...], kernels[2])


def test_features_train_the_model_that_is_meant_for_them(tiny_dataset: Dataset) -> None:
    """Float32 features far from 0, one missing here and there, standardised by the run's row."""
    generator = np.random.default_rng(0)
    inputs = generator.normal(100, 10, (len(tiny_dataset.labels), 5))
    inputs = (inputs + 40 * tiny_dataset.labels[:, None]).astype(np.float32)
    fill, mean, scale = np.median(inputs, 0), inputs.mean(0), inputs.std(0)
    inputs[::7, 4] = np.nan
    run = make_run(0)
    row = run.row._replace(input_fill=fill, input_mean=mean, input_scale=scale)
    seen = np.asarray(preprocess(jnp.asarray(inputs), row))
    np.testing.assert_allclose(seen[1], (inputs[1] - mean) / scale, rtol=1e-5)
    np.testing.assert_allclose(seen[0, 4], (fill[4] - mean[4]) / scale[4], rtol=1e-5)

    data = SimpleNamespace(inputs=inputs, labels=tiny_dataset.labels, num_classes=3)
    config = TrainConfig(num_epochs=2, batch_size=8, learning_rate=0.01)
    trainer = Engine(
        data, programs_of(model_factory("auto", (5,), 3), config), config, [one_lane()]
    )
    (finished,) = (
        event
        for event in trainer.train([dataclasses.replace(run, row=row)])
        if isinstance(event, RunFinished)
    )
    assert finished.head_kernel.shape == (128, 3)
    assert (finished.test_logits.argmax(1) == data.labels[run.test_indices]).mean() > 0.6


def test_a_model_that_only_makes_logits_stores_an_empty_head(tiny_dataset: Dataset) -> None:
    """LWS needs no head: its scales act on the logits, and all parameters stay."""
    config = TrainConfig(num_epochs=2, batch_size=16)
    lws = {"second_stage_from": 2, "second_stage_head": 2, "second_stage_exponent": 0}
    trainer = engine_of(tiny_dataset, Flaxen, config, [one_lane()])
    plain, scaled = (
        next(e for e in trainer.train([run]) if isinstance(e, RunFinished))
        for run in (make_run(0), make_run(0, num_epochs=3, **lws))
    )
    assert (plain.head_kernel.shape, plain.head_bias.shape) == ((0, 3), (3,))
    assert not np.array_equal(plain.test_logits, scaled.test_logits)
