"""A Flax module taken apart, so that pure functions can train it."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from cwjax.errors import ConfigError, one_line
from cwjax.models.registry import ModelFactory

Arrays: TypeAlias = "nnx.State[Any, Any]"
"""Arrays by their place in a module, as Flax holds them."""


class Outputs(NamedTuple):
    """What a module makes of a batch."""

    features: jax.Array  # float [batch, width]; the logits, where there is no head
    head: tuple[jax.Array, jax.Array] | None  # kernel [width, num_classes], bias [num_classes]
    variables: Arrays  # as they are after the batch


class Network:
    """The static structure of a module, and its pure functions.

    Args:
        make_model: builds the module, see `cwjax.models.registry.Model`.
    """

    def __init__(self, make_model: ModelFactory) -> None:
        self._make_model = make_model
        # The structure is the same for every key, so one abstract evaluation finds it.
        model = nnx.eval_shape(lambda: make_model(_rngs(jax.random.key(0))))
        model.train()
        self._train_graph, _, self._rng_state, self._variables = _split(model)
        model.eval()
        self._eval_graph = nnx.graphdef(model)
        self._streams = sorted(
            {stream.tag for _, stream in nnx.iter_graph(model) if isinstance(stream, nnx.RngStream)}
        )
        self.has_head = hasattr(model, "features")
        if self.has_head and not isinstance(getattr(model, "head", None), nnx.Linear):
            raise ConfigError("it has features() and no head: give it self.head = nnx.Linear(...)")
        forward = model.features if self.has_head else model.__call__
        self._accepts = inspect.signature(forward).parameters.keys()

    @property
    def keeps_variables(self) -> bool:
        """Whether the module holds arrays that are no parameters, e.g. batch statistics."""
        return bool(jax.tree.leaves(self._variables))

    @property
    def skips_partial_batches(self) -> bool:
        """Whether padding would enter its variables, since it takes no mask."""
        return self.keeps_variables and "mask" not in self._accepts

    def initial(self, key: jax.Array) -> tuple[Arrays, Arrays]:
        """The parameters and variables of a fresh module."""
        _, params, _, variables = _split(self._make_model(_rngs(key)))
        return params, variables

    def train(
        self,
        params: Arrays,
        variables: Arrays,
        inputs: jax.Array,
        *,
        mask: jax.Array,
        key: jax.Array,
    ) -> Outputs:
        """A batch in training mode.

        Args:
            params: of the module.
            variables: of the module, before the batch.
            inputs: float32 `[batch, ...]`, preprocessed.
            mask: bool `[batch]`, False where a slot is padding.
            key: of this step; every random stream of the module starts anew from it.
        """
        # Flax writes only to variables that were made at the current level of tracing, as copies
        # are. The streams' old keys are never drawn from.
        copies = jax.tree.map(lambda array: array, variables)
        model = nnx.merge(self._train_graph, params, _zeros(self._rng_state), copies)
        if self._streams:
            keys = jax.random.split(key, len(self._streams))
            nnx.reseed(model, policy="match_shape", **dict(zip(self._streams, keys, strict=True)))
        outputs, head = self._forward(model, inputs, mask=mask, dropout_key=key)
        return Outputs(outputs, head, _split(model)[3])

    def evaluate(self, params: Arrays, variables: Arrays, inputs: jax.Array) -> Outputs:
        """A batch in evaluation mode; arguments as for `train`."""
        model = nnx.merge(self._eval_graph, params, _zeros(self._rng_state), variables)
        everything = jnp.ones(len(inputs), bool)
        outputs, head = self._forward(model, inputs, mask=everything, dropout_key=None)
        return Outputs(outputs, head, variables)

    def _forward(
        self, model: Any, inputs: jax.Array, **offered: jax.Array | None
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array] | None]:
        accepted = {name: value for name, value in offered.items() if name in self._accepts}
        if not self.has_head:
            return model(inputs, **accepted), None
        features = model.features(inputs, **accepted)
        kernel, bias = model.head.kernel[...], model.head.bias
        bias = jnp.zeros(kernel.shape[-1], kernel.dtype) if bias is None else bias[...]
        return features, (kernel, bias)


def check_network(network: Network, inputs: jax.ShapeDtypeStruct, num_classes: int) -> None:
    """Checks what a module makes of a batch, without computing it.

    Args:
        network: of the module.
        inputs: a batch, float32 `[batch, ...]`.
        num_classes: columns of the logits.

    Raises:
        ConfigError: it fails, its outputs have other shapes than a `Model`'s, or it holds what
            cannot be carried from step to step.
    """
    batch = inputs.shape[0]
    key = jax.eval_shape(lambda: jax.random.key(0, impl="threefry2x32"))
    mask = jax.eval_shape(lambda: jnp.ones(batch, bool))
    params, variables = jax.eval_shape(network.initial, key)
    try:
        outputs = jax.eval_shape(
            lambda params, variables, inputs, mask, key: network.train(
                params, variables, inputs, mask=mask, key=key
            ),
            *(params, variables, inputs, mask, key),
        )
        jax.eval_shape(network.evaluate, params, variables, inputs)
    except Exception as error:
        raise ConfigError(f"inputs {list(inputs.shape)} fail in it ({one_line(error)})") from error
    shape = outputs.features.shape
    if outputs.head is None:
        if shape != (batch, num_classes):
            raise ConfigError(
                f"it makes {list(shape)} of {batch} inputs: give logits [{batch}, {num_classes}]"
            )
    elif len(shape) != 2 or (*shape, num_classes) != (batch, *outputs.head[0].shape):
        raise ConfigError(
            f"its features are {list(shape)} of {batch} inputs and its head's kernel is "
            f"{list(outputs.head[0].shape)}: give [{batch}, width] and [width, {num_classes}]"
        )
    before, after = _types(variables), _types(outputs.variables)
    for place, kind in before.items():
        if not kind.startswith(("float", "int", "uint", "bool")):
            raise ConfigError(f"its variable {place} is {kind}, which is not carried along")
    changed = [place for place in before | after if before.get(place) != after.get(place)]
    if changed:
        raise ConfigError(
            f"its variable {changed[0]} is {before.get(changed[0])} before a batch and "
            f"{after.get(changed[0])} after it: keep its type and shape"
        )


def _types(variables: Arrays) -> dict[str, str]:
    """Type and shape of each array by its place, e.g. `norm/mean`: `float32[8]`."""
    leaves, _ = jax.tree.flatten_with_path(nnx.to_pure_dict(variables))
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in leaves
    }


def _rngs(key: jax.Array) -> nnx.Rngs:
    """Streams to build a module with: `params`, and for others something else."""
    others = jax.random.fold_in(key, 2**31)  # far beyond what counting draws of `params` reaches
    return nnx.Rngs(others, params=key, dropout=others)


def _split(model: nnx.Module) -> tuple[nnx.GraphDef[Any], Arrays, Arrays, Arrays]:
    """Structure, parameters, random streams, and what else the module holds."""
    graph, *states = nnx.split(model, nnx.Param, nnx.RngState, ...)
    params, rng_state, variables = states
    return graph, params, rng_state, variables


def _zeros(rng_state: Arrays) -> Arrays:
    """Random streams of these shapes."""

    def zeros(leaf: Any) -> jax.Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.split(jax.random.key(0, impl="threefry2x32"), leaf.shape)
        return jnp.zeros(leaf.shape, leaf.dtype)

    streams: Arrays = jax.tree.map(zeros, rng_state)
    return streams
