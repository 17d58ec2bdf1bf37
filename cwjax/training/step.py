"""Training one run: pure functions from state to state, for the engine to compile and spread.

A run is data, not code: its arm is a row of arrays (`ArmRow`), its seed a key, its examples
indices into one shared array. All arms and seeds therefore share the four programs made here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from cwjax.arms import losses
from cwjax.arms.row import SECOND_STAGE_CRT, SECOND_STAGE_LWS, ArmRow, Leaf
from cwjax.config import TrainConfig
from cwjax.models.network import Arrays, Network, Outputs
from cwjax.models.registry import ModelFactory
from cwjax.randomness import Purpose
from cwjax.training.augment import find_augmentation


class Examples(NamedTuple):
    """The data set on the device, shared by all runs."""

    inputs: Leaf  # uint8 [num_examples, height, width, channels] or float32 [num_examples, width]
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


class RunState(NamedTuple):
    """All that changes while a run is trained."""

    params: Arrays
    variables: Arrays  # what else the model holds, e.g. batch statistics
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
    skips_partial_batches: bool = False  # an epoch's last batch, where it would be padded
    has_head: bool = True  # the model shows one


def kept_tree(state: RunState) -> dict[str, Any]:
    """The part of a state that a trained model predicts with."""
    return {
        "class_scale": state.class_scale,
        "params": state.params,
        "variables": state.variables,
    }


def kept_arrays(state: RunState) -> dict[str, Any]:
    """The arrays of `kept_tree` by their place: `params/head/kernel`, `class_scale`."""
    return {name.removesuffix("/value"): leaf for name, leaf in by_place(kept_tree(state)).items()}


def by_place(tree: Any) -> dict[str, Any]:
    """The leaves of a state by their place in it, e.g. `params/head/kernel/value`."""
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def purpose_key(key_data: jax.Array, purpose: Purpose) -> jax.Array:
    """The threefry key of one purpose of a run, from the run's key data `[2]` uint32."""
    # rbg keys are faster on accelerators, but under vmap a seed's stream depends on the others.
    return jax.random.fold_in(jax.random.wrap_key_data(key_data, impl="threefry2x32"), purpose)


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
        config: reduction and augmentation are compiled in.
        num_classes: columns of the logits.
    """
    network = Network(make_model)
    augment = find_augmentation(config.augment)
    tx = optax.with_extra_args_support(tx)

    def logits_of(outputs: Outputs, class_scale: jax.Array, row: ArmRow) -> jax.Array:
        logits = outputs.features
        if outputs.head is not None:
            logits = losses.head_logits(logits, *outputs.head, row)
        return class_scale[None, :] * logits

    def initial_state(key_data: jax.Array, row: ArmRow) -> RunState:
        """`key_data` uint32 `[2]`; the row only gives the shape of its run axis."""
        params, variables = network.initial(purpose_key(key_data, Purpose.INIT))
        class_scale = jnp.ones(num_classes, jnp.float32)
        return RunState(
            params=params,
            variables=variables,
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
        augment_key, dropout_key = (
            jax.random.fold_in(purpose_key(state.key, purpose), state.step)
            for purpose in (Purpose.AUGMENT, Purpose.DROPOUT)
        )
        inputs = preprocess(augment(augment_key, examples.inputs[indices]), row)
        inputs = jax.lax.cond(
            mix < 1, lambda: mix * inputs + (1 - mix) * inputs[partners], lambda: inputs
        )

        def batch_loss(trained: tuple[Arrays, jax.Array]) -> tuple[jax.Array, Arrays]:
            params, class_scale = trained
            outputs = network.train(params, state.variables, inputs, mask=valid, key=dropout_key)
            logits = logits_of(outputs, class_scale, row)
            mixing = {
                "class_weights": losses.class_weights_at(row, block.epoch),
                "mixed_labels": labels[partners],
                "mix": mix,
            }
            loss = losses.reduce_loss(
                losses.per_example_loss(logits, labels, row, **mixing),
                losses.example_weights(labels, row, **mixing),
                valid,
                config.reduction,
            )
            return loss, outputs.variables

        trained = (state.params, state.class_scale)
        (loss, variables), grads = jax.value_and_grad(batch_loss, has_aux=True)(trained)
        updates, opt_state = tx.update(
            grads, state.opt_state, trained, weight_decay=row.weight_decay
        )
        updates = jax.tree.map(lambda update: -learning_rate * update, updates)
        params, class_scale = keep_frozen(
            trained, optax.apply_updates(trained, updates), row, block.epoch
        )
        return RunState(
            params=bound_head(params, row, block.epoch),
            variables=variables,
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
        fresh, _ = network.initial(purpose_key(state.key, Purpose.HEAD_INIT))
        new_head = row.second_stage_head == SECOND_STAGE_CRT
        params = jax.tree.map_with_path(
            lambda path, old, new: jnp.where(new_head & is_head(path), new, old),
            state.params,
            fresh,
        )
        return state._replace(params=params, opt_state=tx.init((params, state.class_scale)))

    def evaluate(state: RunState, row: ArmRow, examples: Examples, indices: Leaf) -> jax.Array:
        """Test logits `[len(indices), num_classes]`: no dropout, no training-time adjustment."""
        inputs = preprocess(examples.inputs[indices], row)
        outputs = network.evaluate(state.params, state.variables, inputs)
        return losses.evaluation_logits(logits_of(outputs, state.class_scale, row), row)

    return Programs(
        initial_state,
        train_block,
        start_second_stage,
        evaluate,
        network.skips_partial_batches,
        network.has_head,
    )


def preprocess(inputs: jax.Array, row: ArmRow) -> jax.Array:
    """What the model sees, made on the device: four times less to move and to keep for images.

    Args:
        inputs: uint8 pixels `[batch, height, width, channels]`, which become float32 in [0, 1], or
            float32 features `[batch, num_features]`, NaN where missing, which are standardised.
        row: of the run; how it standardises.
    """
    if inputs.dtype == jnp.uint8:
        return inputs.astype(jnp.float32) / 255
    filled = jnp.where(jnp.isnan(inputs), row.input_fill, inputs)
    standardised: jax.Array = (filled - row.input_mean) / row.input_scale
    return standardised


def is_head(path: tuple[Any, ...]) -> bool:
    """Whether a parameter's path in the model's state belongs to its head."""
    return getattr(path[0], "key", None) == "head"


def keep_frozen(
    old: tuple[Arrays, jax.Array],
    new: tuple[Arrays, jax.Array],
    row: ArmRow,
    epoch: Leaf,
) -> tuple[Arrays, jax.Array]:
    """`new`, but `old` where the arm does not train in this epoch; each is parameters, class scale.

    First stage: all is trained but the class scale. Second stage: LWS trains the class scale alone,
    the others the head alone; batch statistics go on following the batches, as in the authors'
    code.
    """
    second_stage = epoch >= row.second_stage_from
    train_scale = second_stage & (row.second_stage_head == SECOND_STAGE_LWS)
    params = jax.tree.map_with_path(
        lambda path, old, new: jnp.where(train_scale if is_head(path) else second_stage, old, new),
        old[0],
        new[0],
    )
    return params, jnp.where(train_scale, new[1], old[1])


def bound_head(params: Arrays, row: ArmRow, epoch: Leaf) -> Arrays:
    """`params`, in the second stage with class vectors no longer than `row.second_stage_max_norm`.

    A longer one is projected onto the bound: `w_c · min(1, δ/‖w_c‖)`.

    References:
        Alshammari et al. 2022, "Long-Tailed Recognition via Weight Balancing".
    """

    def bounded(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        if not (is_head(path) and getattr(path[1], "key", None) == "kernel"):
            return leaf
        norms = jnp.linalg.norm(leaf, axis=0, keepdims=True)  # a column is a class vector
        is_long = (epoch >= row.second_stage_from) & (norms > row.second_stage_max_norm)
        return jnp.where(is_long, leaf * (row.second_stage_max_norm / norms), leaf)

    bounded_params: Arrays = jax.tree.map_with_path(bounded, params)
    return bounded_params
