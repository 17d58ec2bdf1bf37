"""The networks, by the name that `--model` takes, and what is asked of one.

To add one, write a module with `make(input_shape, num_classes, *, rngs)` that returns a `Model`,
and add its line to `MODELS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cwjax.errors import ConfigError, check_name

if TYPE_CHECKING:  # JAX takes seconds to import, and settings are checked without it
    import jax
    from flax import nnx


class Model(Protocol):
    """What training asks of a Flax module: features, and a linear head on top of them."""

    head: nnx.Linear

    def features(self, inputs: jax.Array, *, dropout_key: jax.Array | None = None) -> jax.Array:
        """Inputs float32 `[batch, ...]`, preprocessed, to `[batch, width]`.

        Args:
            inputs: of a batch.
            dropout_key: key of the dropout masks; without it dropout is off.
        """


ModelFactory = Callable[["nnx.Rngs"], Model]


@dataclass(frozen=True)
class ModelEntry:
    """A registered network.

    Attributes:
        module: where its `make` is; imported on first use.
        about: one line for people.
        smallest_input: least height and width of an image.
    """

    module: str
    about: str
    smallest_input: tuple[int, int]


MODELS: dict[str, ModelEntry] = {
    # 18 -> 16 -> 8 -> 6 -> 3 -> 1: the last convolution still has one position.
    "cnn": ModelEntry("cwjax.models.cnn", "3 convolutions, 2 dense layers, dropout", (18, 18)),
}


def find_model(name: str) -> ModelEntry:
    """The network of that name.

    Raises:
        ConfigError: there is none; the message lists them.
    """
    check_name("--model", name, MODELS)
    return MODELS[name]


def check_input(name: str, input_shape: tuple[int, ...], dataset: str) -> None:
    """Checks that a network takes a data set's inputs.

    Args:
        name: in `MODELS`.
        input_shape: `(height, width, channels)` of images, `(num_features,)` of features.
        dataset: its name, for the message.

    Raises:
        ConfigError: no such network, features where it takes images, or images that are too small.
    """
    smallest = find_model(name).smallest_input
    if len(input_shape) != 3:
        raise ConfigError(
            f"{dataset}: {name} takes images, these are features: no network takes features yet, "
            "describe and weights do"
        )
    height, width, channels = input_shape
    if height < smallest[0] or width < smallest[1]:
        fix = (
            f"channels first? give images as [n, {width}, {channels}, {height}]"
            if height in (1, 3, 4) and min(width, channels) > 4
            else "enlarge them"
        )
        raise ConfigError(
            f"{dataset}: images are {height} x {width}, {name} needs at least "
            f"{smallest[0]} x {smallest[1]}: {fix}"
        )


def model_factory(name: str, input_shape: tuple[int, ...], num_classes: int) -> ModelFactory:
    """A function that builds the network from its `nnx.Rngs`.

    Args:
        name: in `MODELS`.
        input_shape: of one example.
        num_classes: columns of the logits.
    """
    make = importlib.import_module(MODELS[name].module).make
    return lambda rngs: make(input_shape, num_classes, rngs=rngs)
