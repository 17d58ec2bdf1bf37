"""Where and beside whom a run trains must not change it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from cwjax.arms.row import NEVER, SECOND_STAGE_SAME, replace, uniform_row
from cwjax.config import TrainConfig
from cwjax.data.dataset import Dataset
from cwjax.models.cnn import CNN
from cwjax.models.conv_cpu import dropout
from cwjax.randomness import Purpose
from cwjax.training import chunk
from cwjax.training.batches import epoch_blocks
from cwjax.training.lanes import Lane, default_lanes
from cwjax.training.local import Engine, chunk_runs
from cwjax.training.optim import OPTIMIZERS
from cwjax.training.runs import EpochFinished, Run, RunFinished, RunKey, RunsFailed, StepsFinished
from cwjax.training.step import Block, Examples, Programs, RunState, bound_head, make_programs

CONFIG = TrainConfig(num_epochs=2, batch_size=16)


class TinyModel(nnx.Module):
    """The least that the engine asks of a module; compiles in a second."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.body = nnx.Linear(18 * 18, 8, rngs=rngs)
        self.head = nnx.Linear(8, 3, rngs=rngs)

    def features(self, images: jax.Array, *, dropout_key: jax.Array | None = None) -> jax.Array:
        x = nnx.relu(self.body(images.reshape(len(images), -1)))
        return x if dropout_key is None else dropout(x, dropout_key, 0.5)


def make_model(rngs: nnx.Rngs) -> TinyModel:
    return TinyModel(rngs=rngs)


def make_cnn(rngs: nnx.Rngs) -> CNN:
    return CNN((18, 18, 1), 3, rngs=rngs)


def make_run(seed: int, num_train: int = 40, num_epochs: int = 2, **fields: object) -> Run:
    indices = np.random.default_rng(seed).permutation(180).astype(np.int32)
    return Run(
        key=RunKey("", f"arm{seed}", seed),
        key_seed=seed,
        row=replace(uniform_row(3), **fields),
        train_indices=np.sort(indices[:num_train]),
        validation_indices=np.sort(indices[150:]),
        test_indices=np.arange(180, 240, dtype=np.int32),
        first_stage_epochs=2,
        num_epochs=num_epochs,
    )


def programs_of(
    model: Callable[[nnx.Rngs], nnx.Module] = make_model, config: TrainConfig = CONFIG
) -> Programs:
    return make_programs(model, OPTIMIZERS["rmsprop"](), config, 3)


def make_engine(
    dataset: Dataset, lanes: list[Lane], model: Callable[[nnx.Rngs], nnx.Module] = make_model
) -> Engine:
    return Engine(dataset, programs_of(model), CONFIG, lanes)


def results(
    runs: list[Run],
    dataset: Dataset,
    lanes: list[Lane],
    model: Callable[[nnx.Rngs], nnx.Module] = make_model,
) -> dict[int, np.ndarray]:
    events = make_engine(dataset, lanes, model).train(runs)
    return {e.run.key.seed: e.test_logits for e in events if isinstance(e, RunFinished)}


def cpu_lanes(num_devices: int) -> list[Lane]:
    return [Lane([device], None) for device in jax.devices()[:num_devices]]


def test_a_runs_bits_do_not_depend_on_devices_or_neighbours(tiny_dataset: Dataset) -> None:
    runs = [make_run(0), make_run(1, class_weights=[1, 2, 3]), make_run(2, focal_gamma=2)]
    alone = results(runs[1:2], tiny_dataset, cpu_lanes(1))
    for used in (cpu_lanes(1), cpu_lanes(2), cpu_lanes(4), cpu_lanes(1) * 2, cpu_lanes(1) * 4):
        together = results(runs, tiny_dataset, used)
        assert sorted(together) == [0, 1, 2]
        np.testing.assert_array_equal(together[1], alone[1])
    assert not np.array_equal(together[0], together[1])


def test_the_cnn_trains_alone_or_beside_another_with_the_same_bits(tiny_dataset: Dataset) -> None:
    runs = [make_run(0), make_run(1)]
    one, two = (results(runs, tiny_dataset, cpu_lanes(1) * n, make_cnn) for n in (1, 2))
    np.testing.assert_array_equal(one[1], two[1])


def test_a_place_in_the_chunk_does_not_change_a_run(tiny_dataset: Dataset) -> None:
    runs = [make_run(seed) for seed in range(4)]
    lanes = [Lane(jax.devices()[:2], 4)]
    forward = results(runs, tiny_dataset, lanes)
    backward = results(runs[::-1], tiny_dataset, lanes)
    padded = results(runs[:1], tiny_dataset, lanes)
    for seed in range(4):
        np.testing.assert_array_equal(forward[seed], backward[seed])
    np.testing.assert_array_equal(forward[0], padded[0])


@pytest.mark.fault(51)
def test_a_run_that_diverges_leaves_the_others_alone(tiny_dataset: Dataset) -> None:
    runs = [make_run(seed) for seed in range(4)]
    diverging = [runs[0], make_run(1, class_weights=[np.inf] * 3), *runs[2:]]
    lanes = [Lane(jax.devices()[:2], 4)]
    without, beside = (results(each, tiny_dataset, lanes) for each in (runs, diverging))
    assert not np.isfinite(beside[1]).all()
    for seed in (0, 2, 3):
        np.testing.assert_array_equal(beside[seed], without[seed])


@pytest.mark.slow
def test_sharded_runs_agree_with_one_device(tiny_dataset: Dataset) -> None:
    """Also catches gradients summed over devices, which parameters that start equal invite."""
    runs = [make_run(seed, class_weights=[1, 1 + seed, 2]) for seed in range(4)]
    alone = ParamsAfter(Lane(jax.devices()[:1], None), tiny_dataset)
    for num_devices in (2, 4):
        sharded = ParamsAfter(Lane(jax.devices()[:num_devices], 4), tiny_dataset)
        for num_steps in (1, 3):
            together = sharded(runs, num_steps)
            for place, run in enumerate(runs):
                for leaf, expected in zip(together, alone([run], num_steps), strict=True):
                    np.testing.assert_allclose(leaf[place], expected[0], rtol=0, atol=1e-5)


class ParamsAfter:
    """Parameters of runs after a few steps on a lane, each with a leading run axis."""

    def __init__(self, lane: Lane, dataset: Dataset, model=make_model) -> None:
        self.lane, self.dataset = lane, dataset
        self.programs = lane.compile(programs_of(model))

    def __call__(self, chunk: list[Run], num_steps: int) -> list[np.ndarray]:
        rows = jax.tree.map(lambda *leaves: np.stack(leaves), *[run.row for run in chunk])
        rows = self.lane.put_runs(rows)
        keys = self.lane.put_runs(np.array([[0, run.key_seed] for run in chunk], np.uint32))
        state = self.programs.initial_state(keys, rows)
        labels = self.dataset.labels
        examples = self.lane.put_shared(Examples(self.dataset.inputs, labels))
        block = next(iter(epoch_blocks(chunk, labels, 0, CONFIG, 64)))
        batches = self.lane.put_runs(block.batches)
        block = Block(batches, np.int32(num_steps), np.int32(0))
        state = self.programs.train_block(state, rows, examples, block)
        return jax.tree.leaves(self.lane.get_runs(state.params))


def test_events_come_in_order_and_count_every_example(tiny_dataset: Dataset) -> None:
    events = list(make_engine(tiny_dataset, cpu_lanes(1)).train([make_run(0)]))
    assert [e.epoch for e in events if isinstance(e, EpochFinished)] == [0, 1]
    assert isinstance(events[-1], RunFinished)
    assert events[-1].test_logits.shape == (60, 3)
    assert sum(e.num_examples for e in events if isinstance(e, StepsFinished)) == 2 * 40
    losses = [e.train_loss for e in events if isinstance(e, EpochFinished)]
    assert losses[1] < losses[0]


def test_a_run_that_fails_leaves_the_others_alone(
    tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(runs: list[Run], *args: object) -> Iterator[Block]:
        if runs[0].key.seed == 1:
            raise RuntimeError("no batches today")
        return epoch_blocks(runs, *args)

    monkeypatch.setattr(chunk, "epoch_blocks", broken)
    trainer = make_engine(tiny_dataset, cpu_lanes(1))
    events = list(trainer.train([make_run(seed) for seed in range(3)]))
    (failed,) = (event for event in events if isinstance(event, RunsFailed))
    assert [run.key.seed for run in failed.runs] == [1]
    assert str(failed.error) == "no batches today"
    assert [event.run.key.seed for event in events if isinstance(event, RunFinished)] == [0, 2]


def test_chunks_hold_only_runs_that_train_in_lockstep() -> None:
    runs = [make_run(0), make_run(1, num_epochs=3), make_run(2), make_run(3, num_train=41)]
    chunks = [[run.key.seed for run in chunk] for chunk in chunk_runs(runs, 4)]
    assert chunks == [[0, 2], [1], [3]]
    assert [len(chunk) for chunk in chunk_runs([make_run(s) for s in range(5)], 2)] == [2, 2, 1]


def test_cores_share_a_device_as_far_as_it_serves_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """XLA:CPU executes 32 programs at once on one device."""
    monkeypatch.setattr("cwjax.training.lanes.available_cores", lambda: 70)
    used = default_lanes(None)
    devices = [lane.devices[0] for lane in used]
    assert devices == [jax.devices()[0]] * 32 + [jax.devices()[1]] * 32 + [jax.devices()[2]] * 6
    assert len(set(used)) == 3  # each compiles once


def test_small_inputs_are_evaluated_in_large_batches() -> None:
    shapes = [(28, 28, 1), (32, 32, 3), (768,), (40,), (10,)]
    assert [chunk.evaluation_batch(shape) for shape in shapes] == [64, 64, 65, 1024, 1024]


def test_width_must_fill_the_devices() -> None:
    with pytest.raises(ValueError, match="width 3 is not a multiple of 2 devices"):
        Lane(jax.devices()[:2], 3)


def counting(programs: Programs, traces: list[int]) -> Programs:
    """The programs; each time that the training program is traced is noted."""

    def train_block(*args: object) -> RunState:
        traces.append(1)
        return programs.train_block(*args)

    return programs._replace(train_block=train_block)


ROWS: list[dict[str, object]] = [
    {},
    {"class_weights": [3, 2, 1]},
    {"focal_gamma": 2},
    {"logit_bias": [-1, -2, -3]},
    {"margin": [0.1, 0.2, 0.3], "scale": 30, "normalized_head": 1},
    {"sampling_exponent": 0},
    {"mixup_alpha": 1},
    {"smoothing": 0.1},
    {"second_stage_from": 2, "second_stage_head": 1, "second_stage_exponent": 0},
    {"second_stage_from": 2, "second_stage_head": 3, "second_stage_max_norm": 0.5},
]
"""What arms of every kind change in the neutral row."""


def test_one_trace_serves_every_arm_seed_and_length(tiny_dataset: Dataset) -> None:
    traces: list[int] = []
    programs = counting(programs_of(), traces)
    runs = [
        make_run(seed, 30 + index, num_epochs=3 if "second_stage_from" in row else 2, **row)
        for index, row in enumerate(ROWS)
        for seed in range(3)
    ]
    finished = list(Engine(tiny_dataset, programs, CONFIG, cpu_lanes(1) * 2).train(runs))
    assert sum(isinstance(event, RunFinished) for event in finished) == 30
    assert len(traces) == 1


def test_the_learning_rate_is_data(tiny_dataset: Dataset) -> None:
    """Two learning rates, one of them another in every step, share one trace."""
    traces: list[int] = []
    lane, run = cpu_lanes(1)[0], make_run(0)
    programs = lane.compile(counting(programs_of(), traces))
    examples = lane.put_shared(Examples(tiny_dataset.inputs, tiny_dataset.labels))
    rows = lane.put_runs(jax.tree.map(lambda leaf: leaf[None], run.row))
    keys = lane.put_runs(np.array([[0, 0]], np.uint32))
    schedules = {
        "default": np.full(3, 1e-3, np.float32),
        "other": np.full(3, 1e-2, np.float32),
        "falling": np.array([1e-3, 1e-4, 0], np.float32),
        "none": np.zeros(3, np.float32),
    }
    after = {"before": jax.tree.map(np.array, programs.initial_state(keys, rows).params)}
    for name, learning_rate in schedules.items():
        config = dataclasses.replace(CONFIG, learning_rate=max(learning_rate[0], 1e-9))
        (block,) = epoch_blocks([run], tiny_dataset.labels, 0, config, 3)
        if name in ("default", "other"):
            np.testing.assert_array_equal(block.batches.learning_rate[0], learning_rate)
        batches = block.batches._replace(learning_rate=learning_rate[None])
        block = block._replace(batches=lane.put_runs(batches))
        state = programs.initial_state(keys, rows)
        state = programs.train_block(state, rows, examples, block)
        after[name] = jax.tree.map(np.array, state.params)
    kernels = {name: params["head"]["kernel"][...] for name, params in after.items()}
    np.testing.assert_array_equal(kernels.pop("none"), kernels["before"])
    assert len({kernel.tobytes() for kernel in kernels.values()}) == 4
    assert len(traces) == 1


def plain_flax_losses(dataset: Dataset, run: Run, num_steps: int) -> tuple[list[float], nnx.State]:
    """The same run as any Flax user would write it: optax's cross-entropy, no arms, no engine."""
    key = jax.random.wrap_key_data(np.array([0, run.key.seed], np.uint32), impl="threefry2x32")
    fold = jax.random.fold_in
    model = make_cnn(nnx.Rngs(params=fold(key, Purpose.INIT)))
    graph, params = nnx.split(model)
    tx = optax.rmsprop(1e-3, decay=0.9, eps=1e-7, eps_in_sqrt=True)

    @jax.jit
    def step(params, opt_state, images, labels, number):
        def loss_fn(params):
            logits = nnx.merge(graph, params)(
                images.astype(jnp.float32) / 255,
                dropout_key=fold(fold(key, Purpose.DROPOUT), number),
            )
            return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, opt_state = tx.update(grads, opt_state)
        return loss, optax.apply_updates(params, updates), opt_state

    opt_state, losses = tx.init(params), []
    block = next(iter(epoch_blocks([run], dataset.labels, 0, CONFIG, num_steps)))
    for number in range(num_steps):
        indices = block.batches.indices[0, number]
        images, labels = dataset.train_inputs[indices], dataset.train_labels[indices]
        loss, params, opt_state = step(params, opt_state, images, labels, np.int32(number))
        losses.append(float(loss))
    return losses, params


@pytest.mark.slow
@pytest.mark.fault(45)
def test_uniform_is_plain_flax_and_optax_bit_for_bit(tiny_dataset: Dataset) -> None:
    plain = dataclasses.replace(
        make_run(0), train_indices=np.tile(np.arange(160, dtype=np.int32), 5)
    )
    losses, expected = plain_flax_losses(tiny_dataset, plain, num_steps=50)
    assert losses[-1] < losses[0]
    params_after = ParamsAfter(Lane(jax.devices()[:1], None), tiny_dataset, make_cnn)
    all_ones = {"class_weights": [1, 1, 1], "deferred_from": NEVER}
    deferred = {"class_weights": [3, 2, 1], "deferred_from": 1}  # beyond the epoch that is trained
    for fields in ({}, all_ones, deferred):
        run = dataclasses.replace(plain, row=replace(uniform_row(3), **fields))
        params = params_after([run], 50)
        for leaf, leaf_of_plain in zip(params, jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(leaf[0], leaf_of_plain)
    run = dataclasses.replace(plain, row=replace(uniform_row(3), class_weights=[3, 2, 1]))
    assert not np.array_equal(params_after([run], 50)[0][0], jax.tree.leaves(expected)[0])


def test_steps_of_every_stage_are_counted(tiny_dataset: Dataset) -> None:
    plain = make_run(0)
    crt = make_run(1, num_epochs=5, second_stage_from=2, second_stage_head=1)
    deferred = make_run(2, deferred_from=1, class_weights=[1, 2, 3])
    engine = make_engine(tiny_dataset, default_lanes(width=None))
    found = {
        event.run: (event.run.stages, event.stage_steps)
        for event in engine.train([plain, crt, deferred])
        if isinstance(event, RunFinished)
    }
    # 40 examples in batches of 16 are 3 steps.
    assert found[plain] == ((2,), (6,))
    assert found[crt] == ((2, 3), (6, 9))
    assert found[deferred] == ((1, 1), (3, 3))


def test_second_stage_trains_the_head_alone(tiny_dataset: Dataset) -> None:
    """Both cRT and LWS leave the features of the first stage untouched, bit for bit."""
    stage = {"second_stage_from": 2, "second_stage_exponent": 0}
    plain = make_run(0)
    two_stage = [make_run(0, num_epochs=3, second_stage_head=kind, **stage) for kind in (1, 2)]
    states = [final_params(run, tiny_dataset) for run in (plain, *two_stage)]
    for crt_or_lws in states[1:]:
        for leaf, expected in zip(
            jax.tree.leaves(crt_or_lws.params["body"]),
            jax.tree.leaves(states[0].params["body"]),
            strict=True,
        ):
            np.testing.assert_array_equal(leaf, expected)
    uniform, crt, lws = (np.asarray(s.params["head"]["kernel"][...]) for s in states)
    assert not np.array_equal(crt, uniform)
    np.testing.assert_array_equal(lws, uniform)
    np.testing.assert_array_equal(states[1].class_scale, np.ones(3))
    assert not np.allclose(states[2].class_scale, 1)


class Plain(TinyModel):
    """Without dropout, for a reference in NumPy."""

    def features(self, images: jax.Array) -> jax.Array:
        return nnx.relu(self.body(images.reshape(len(images), -1)))


@pytest.mark.slow
def test_the_second_stage_of_weight_balancing_equals_numpy(tiny_dataset: Dataset) -> None:
    """Three steps of SGD on the weighted loss of the head alone, with decay and the bound."""
    decay, bound, rate, weights = 0.05, 0.5, 0.1, np.array([0.5, 1.0, 2.0])
    run = make_run(
        0,
        num_epochs=3,
        class_weights=weights,
        deferred_from=2,
        second_stage_from=2,
        second_stage_head=SECOND_STAGE_SAME,
        second_stage_max_norm=bound,
        weight_decay=decay,
    )
    config = dataclasses.replace(CONFIG, learning_rate=rate)
    programs = make_programs(
        lambda rngs: Plain(rngs=rngs), OPTIMIZERS["sgd"](momentum=0.0), config, 3
    )
    start = programs.start_second_stage(
        programs.initial_state(np.array([0, 0], np.uint32), run.row), run.row
    )
    block = next(iter(epoch_blocks([run], tiny_dataset.labels, 2, config, 3)))
    block = block._replace(batches=jax.tree.map(lambda array: array[0], block.batches))
    examples = Examples(tiny_dataset.inputs, tiny_dataset.labels)
    end = jax.jit(programs.train_block)(start, run.row, examples, block)

    def numbers(layer: str) -> list[np.ndarray]:
        leaves = start.params[layer]
        return [np.asarray(leaves[name][...], np.float64) for name in ("kernel", "bias")]

    (body, body_bias), (kernel, bias) = numbers("body"), numbers("head")
    longest = []
    for indices, valid in zip(block.batches.indices, block.batches.valid, strict=True):
        shown = indices[valid]
        inputs = tiny_dataset.inputs[shown].reshape(len(shown), -1) / 255
        labels = tiny_dataset.labels[shown]
        features = np.maximum(inputs @ body + body_bias, 0)
        powers = np.exp(features @ kernel + bias)
        errors = powers / powers.sum(axis=1, keepdims=True) - np.eye(3)[labels]
        errors *= weights[labels][:, None] / len(shown)
        kernel = kernel - rate * (features.T @ errors + decay * kernel)
        bias = bias - rate * (errors.sum(axis=0) + decay * bias)
        norms = np.linalg.norm(kernel, axis=0)
        longest.append(norms.max())
        kernel = kernel * np.minimum(1, bound / norms)
    np.testing.assert_allclose(end.params["head"]["kernel"][...], kernel, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(end.params["head"]["bias"][...], bias, rtol=2e-5, atol=1e-6)
    np.testing.assert_array_equal(
        end.params["body"]["kernel"][...], start.params["body"]["kernel"][...]
    )
    assert max(longest) > bound
    np.testing.assert_array_equal(end.class_scale, np.ones(3))


def test_class_vectors_are_bounded_in_the_second_stage_alone() -> None:
    vectors = np.array([[3.0, 0.3, 0.0], [4.0, 0.4, 0.0]], np.float32)
    params = {"body": {"kernel": 9 * vectors}, "head": {"kernel": vectors, "bias": 9 * vectors[0]}}
    row = replace(uniform_row(3), second_stage_from=2, second_stage_max_norm=1)
    bounded = bound_head(params, row, 2)
    expected = np.array([[0.6, 0.3, 0.0], [0.8, 0.4, 0.0]])
    np.testing.assert_allclose(bounded["head"]["kernel"], expected, rtol=1e-6)
    for path in (("body", "kernel"), ("head", "bias")):
        np.testing.assert_array_equal(bounded[path[0]][path[1]], params[path[0]][path[1]])
    for other in (bound_head(params, row, 1), bound_head(params, uniform_row(3), 2)):
        np.testing.assert_array_equal(other["head"]["kernel"], vectors)


def final_params(run: Run, dataset: Dataset) -> RunState:
    captured = []

    class Capturing(Lane):
        def compile(self, programs: Programs) -> Programs:
            compiled = super().compile(programs)

            def evaluate(state, *args):
                captured.append(jax.tree.map(np.asarray, state))
                return compiled.evaluate(state, *args)

            return compiled._replace(evaluate=evaluate)

    lanes = [Capturing(jax.devices()[:1], None)]
    list(make_engine(dataset, lanes).train([run]))
    return captured[-1]
