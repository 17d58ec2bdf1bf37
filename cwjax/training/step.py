"""Training one run: pure functions from state to state, for the engine to compile and spread.

A run is data, not code: its arm is a row of arrays (`ArmRow`), its seed a key, its examples
indices into one shared array. All arms and seeds therefore share the four programs made here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from cwjax.arms import losses
from cwjax.arms.row import SECOND_STAGE_CRT, SECOND_STAGE_LWS, ArmRow, Leaf
from cwjax.config import TrainConfig
from cwjax.models.registry import ModelFactory
from cwjax.randomness import Purpose


class Examples(NamedTuple):
    """The data set on the device, shared by all runs."""

    inputs: Leaf  # uint8 [num_examples, height, width, channels]
    labels: Leaf  # int32 [num_examples]


class Batches(NamedTuple):
    """The steps of a run, as indices into `Examples`."""

    indices: Leaf  # int32 [max_steps, batch_size]
    valid: Leaf  # bool [max_steps, batch_size]; False pads an epoch's last, smaller batch
    partners: Leaf  # int32 [max_steps, batch_size]: the slot each example is mixed with
    mix: Leaf  # float32 [max_steps]: share of the example itself; 1 mixes nothing
    learning_rate: Leaf  # float32 [max_steps]; data, so that no schedule compiles anew


class Block(NamedTuple):
    """Up to `max_steps` steps of one epoch."""

    batches: Batches
    num_steps: Leaf  # int32 []: how many of the steps are real, the same for every run
    epoch: Leaf  # int32 []


Params: TypeAlias = "nnx.State[Any, Any]"
"""The parameters of a model, as Flax holds them."""


class RunState(NamedTuple):
    """All that changes while a run is trained."""

    params: Params
    class_scale: jax.Array  # float32 [num_classes]; ones, unless a second stage learns them
    opt_state: optax.OptState
    key: jax.Array  # uint32 [2]: the run's threefry key data
    step: jax.Array  # int32 []
    loss_sum: jax.Array  # float32 []: sum of the training loss over this epoch's examples


class Programs(NamedTuple):
    """The pure functions of a run; a lane compiles and, on accelerators, vmaps them."""

    initial_state: Callable[[jax.Array, ArmRow], RunState]
    train_block: Callable[[RunState, ArmRow, Examples, Block], RunState]
    start_second_stage: Callable[[RunState, ArmRow], RunState]
    evaluate: Callable[[RunState, ArmRow, Examples, Leaf], jax.Array]


def purpose_key(key_data: jax.Array, purpose: Purpose) -> jax.Array:
    """The threefry key of one purpose of a run, from the run's key data `[2]` uint32."""
    # rbg keys are faster on accelerators, but under vmap a seed's stream depends on the others.
    return jax.random.fold_in(jax.random.wrap_key_data(key_data, impl="threefry2x32"), purpose)


def split_model(make_model: ModelFactory, key: jax.Array) -> tuple[nnx.GraphDef[Any], Params]:
    """A fresh model as its static structure and its parameters.

    Raises:
        ValueError: the module holds variables other than `nnx.Param`, which would not be trained.
    """
    graph, params, *others = nnx.split(make_model(nnx.Rngs(params=key)), nnx.Param, ...)
    if jax.tree.leaves(others):
        raise ValueError("the model holds variables other than nnx.Param; cwjax trains only those")
    return graph, params


def make_programs(
    make_model: ModelFactory,
    tx: optax.GradientTransformation,
    config: TrainConfig,
    num_classes: int,
) -> Programs:
    """The four programs of a run.

    Args:
        make_model: builds the Flax module from `nnx.Rngs`.
        tx: the optimiser, without its learning rate: updates are `-learning_rate` times its own.
        config: batch size and reduction are compiled in.
        num_classes: columns of the logits.
    """
    # The structure is the same for every key, so one abstract evaluation finds it.
    graph = nnx.graphdef(nnx.eval_shape(lambda: make_model(nnx.Rngs(params=jax.random.key(0)))))

    def logits_of(
        params: Params,
        class_scale: jax.Array,
        row: ArmRow,
        inputs: jax.Array,
        dropout_key: jax.Array | None,
    ) -> jax.Array:
        model = nnx.merge(graph, params)
        features = model.features(inputs, dropout_key=dropout_key)
        return class_scale[None, :] * losses.head_logits(
            features, model.head.kernel[...], model.head.bias[...], row
        )

    def initial_state(key_data: jax.Array, row: ArmRow) -> RunState:
        """`key_data` uint32 `[2]`; the row only gives the shape of its run axis."""
        _, params = split_model(make_model, purpose_key(key_data, Purpose.INIT))
        class_scale = jnp.ones(num_classes, jnp.float32)
        return RunState(
            params=params,
            class_scale=class_scale,
            opt_state=tx.init((params, class_scale)),
            key=key_data,
            step=jnp.int32(0),
            loss_sum=jnp.float32(0),
        )

    def train_step(
        state: RunState, row: ArmRow, examples: Examples, block: Block, position: jax.Array
    ) -> RunState:
        indices, valid, partners, mix, learning_rate = (field[position] for field in block.batches)
        labels = examples.labels[indices]
        inputs = preprocess(examples.inputs[indices])
        inputs = mix * inputs + (1 - mix) * inputs[partners]
        dropout_key = jax.random.fold_in(purpose_key(state.key, Purpose.DROPOUT), state.step)

        def batch_loss(trained: tuple[Params, jax.Array]) -> jax.Array:
            logits = logits_of(*trained, row, inputs, dropout_key)
            mixing = {
                "class_weights": losses.class_weights_at(row, block.epoch),
                "mixed_labels": labels[partners],
                "mix": mix,
            }
            return losses.reduce_loss(
                losses.per_example_loss(logits, labels, row, **mixing),
                losses.example_weights(labels, row, **mixing),
                valid,
                config.reduction,
            )

        trained = (state.params, state.class_scale)
        loss, grads = jax.value_and_grad(batch_loss)(trained)
        updates, opt_state = tx.update(grads, state.opt_state, trained)
        updates = jax.tree.map(lambda update: -learning_rate * update, updates)
        params, class_scale = keep_frozen(
            trained, optax.apply_updates(trained, updates), row, block.epoch
        )
        return RunState(
            params=params,
            class_scale=class_scale,
            opt_state=opt_state,
            key=state.key,
            step=state.step + 1,
            loss_sum=state.loss_sum + loss * valid.sum(),
        )

    def train_block(state: RunState, row: ArmRow, examples: Examples, block: Block) -> RunState:
        """`block.num_steps` steps. A traced bound: every length of epoch is the same program."""
        trained: RunState = jax.lax.fori_loop(
            0,
            block.num_steps,
            lambda position, state: train_step(state, row, examples, block, position),
            state,
        )
        return trained

    def start_second_stage(state: RunState, row: ArmRow) -> RunState:
        """A new head for cRT; for both second stages an optimiser that remembers nothing."""
        _, fresh = split_model(make_model, purpose_key(state.key, Purpose.HEAD_INIT))
        new_head = row.second_stage_head == SECOND_STAGE_CRT
        params = jax.tree.map_with_path(
            lambda path, old, new: jnp.where(new_head & is_head(path), new, old),
            state.params,
            fresh,
        )
        return state._replace(params=params, opt_state=tx.init((params, state.class_scale)))

    def evaluate(state: RunState, row: ArmRow, examples: Examples, indices: Leaf) -> jax.Array:
        """Test logits `[len(indices), num_classes]`: no dropout, no training-time adjustment."""
        inputs = preprocess(examples.inputs[indices])
        return losses.evaluation_logits(
            logits_of(state.params, state.class_scale, row, inputs, None), row
        )

    return Programs(initial_state, train_block, start_second_stage, evaluate)


def preprocess(inputs: jax.Array) -> jax.Array:
    """uint8 pixels to float32 in [0, 1], on the device: four times less to move and to keep."""
    return inputs.astype(jnp.float32) / 255


def is_head(path: tuple[Any, ...]) -> bool:
    """Whether a parameter's path in the model's state belongs to its head."""
    return getattr(path[0], "key", None) == "head"


def keep_frozen(
    old: tuple[Params, jax.Array],
    new: tuple[Params, jax.Array],
    row: ArmRow,
    epoch: Leaf,
) -> tuple[Params, jax.Array]:
    """`new`, but `old` where the arm does not train in this epoch; each is parameters, class scale.

    First stage: all is trained but the class scale. Second stage: cRT trains the head alone, LWS
    the class scale alone.
    """
    second_stage = epoch >= row.second_stage_from
    train_head = ~second_stage | (row.second_stage_head == SECOND_STAGE_CRT)
    train_scale = second_stage & (row.second_stage_head == SECOND_STAGE_LWS)
    params = jax.tree.map_with_path(
        lambda path, old, new: jnp.where(train_head if is_head(path) else ~second_stage, new, old),
        old[0],
        new[0],
    )
    return params, jnp.where(train_scale, new[1], old[1])
