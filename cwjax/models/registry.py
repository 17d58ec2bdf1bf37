"""The models, by the name that `--model` takes, and what is asked of one.

To add one, write a function here that returns a `Model` (its keyword-only parameters are the
settings, its docstring's first line is the help) and add its line to `MODELS`.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from cwjax.arms.settings import Range, Several, Whole, choose
from cwjax.errors import ConfigError

if TYPE_CHECKING:  # JAX takes seconds to import, and settings are checked without it
    import jax
    from flax import nnx


class Model(Protocol):
    """What training asks of a Flax module: features, and a linear head on top of them.

    Flax's own idioms work: `nnx.Dropout`, whose streams get a new key at every step;
    `nnx.BatchNorm` and other variables that are no parameters, which travel with the run; `train()`
    and `eval()`.
    Two further arguments are given to a module whose `features` names them:

    - `mask`: bool `[batch]`, False where a slot pads an epoch's last, smaller batch; for
      `nnx.BatchNorm(...)(x, mask=...)`. A module that keeps variables and takes no mask skips that
      batch.
    - `dropout_key`: a key for masks of its own, None when evaluated.

    A module that only has `__call__`, from inputs to logits, is taken too, less the arms that need
    the head.
    """

    head: nnx.Linear

    def features(self, inputs: jax.Array) -> jax.Array:
        """Inputs float32 `[batch, ...]`, preprocessed, to `[batch, width]`."""


ModelFactory = Callable[["nnx.Rngs"], Any]

Dropout = Annotated[float, Range(0, 0.99)]
Widths = Annotated[tuple[int, ...], Several(Whole(1, 100_000))]


def auto(input_shape: tuple[int, ...], num_classes: int, rngs: nnx.Rngs) -> Any:
    """The cnn with images, the mlp with features."""
    return MODELS[model_name("auto", input_shape)].make(input_shape, num_classes, rngs)


def cnn(
    input_shape: tuple[int, ...], num_classes: int, rngs: nnx.Rngs, *, dropout: Dropout = 0.5
) -> Any:
    """3 convolutions, 2 dense layers, dropout."""
    from cwjax.models.cnn import CNN

    return CNN(input_shape, num_classes, dropout_rate=dropout, rngs=rngs)


def mlp(
    input_shape: tuple[int, ...],
    num_classes: int,
    rngs: nnx.Rngs,
    *,
    hidden: Widths = (256, 128),
    dropout: Dropout = 0.1,
) -> Any:
    """Dense layers of these widths, ReLU, dropout."""
    from cwjax.models.mlp import MLP

    return MLP(input_shape, num_classes, hidden=hidden, dropout_rate=dropout, rngs=rngs)


def linear(input_shape: tuple[int, ...], num_classes: int, rngs: nnx.Rngs) -> Any:
    """Softmax regression: the head alone."""
    from cwjax.models.mlp import MLP

    return MLP(input_shape, num_classes, hidden=(), dropout_rate=0, rngs=rngs)


def resnet20(input_shape: tuple[int, ...], num_classes: int, rngs: nnx.Rngs) -> Any:
    """ResNet of 20 layers for CIFAR's images, 0.27 million parameters."""
    from cwjax.models.resnet import ResNet

    return ResNet(input_shape, num_classes, blocks_per_stage=3, rngs=rngs)


def resnet32(input_shape: tuple[int, ...], num_classes: int, rngs: nnx.Rngs) -> Any:
    """ResNet of 32 layers for CIFAR's images, 0.46 million parameters."""
    from cwjax.models.resnet import ResNet

    return ResNet(input_shape, num_classes, blocks_per_stage=5, rngs=rngs)


@dataclass(frozen=True)
class ModelEntry:
    """A model.

    Attributes:
        make: from the shape of an input, the number of classes and `nnx.Rngs` to a `Model`.
        smallest_input: least height and width of the images that it takes; None where it takes any
            input, images or features.
        digest: SHA-256 (hex) of the source of a model that is not cwjax's own.
        own: the class or function of such a model.
    """

    make: Callable[..., Any]
    smallest_input: tuple[int, int] | None = None
    digest: str | None = None
    own: Callable[..., Any] | None = None


MODELS: dict[str, ModelEntry] = {
    "auto": ModelEntry(auto),
    # 18 -> 16 -> 8 -> 6 -> 3 -> 1: the last convolution still has one position.
    "cnn": ModelEntry(cnn, smallest_input=(18, 18)),
    "mlp": ModelEntry(mlp),
    "linear": ModelEntry(linear),
    "resnet20": ModelEntry(resnet20, smallest_input=(4, 4)),
    "resnet32": ModelEntry(resnet32, smallest_input=(4, 4)),
}

OWN_MODEL = re.compile(r"(.+\.py):([A-Za-z_]\w*)")
"""The `--model` of the user's own: a Python file and what it calls the model."""


def find_model(text: str) -> Callable[..., Any]:
    """The `make` of the model that `--model` names, with the settings that it gives.

    Raises:
        ConfigError: an unknown model or setting, or a file that is not there.
    """
    if own := OWN_MODEL.fullmatch(text):
        if not Path(own[1]).is_file():
            raise ConfigError(f"--model {text}: there is no file {own[1]}")
        return partial(_own, Path(own[1]), own[2])
    if text.endswith(".py"):
        raise ConfigError(f"--model {text}: name the model in it, too, e.g. {text}:Net")
    return choose("--model", text, {name: entry.make for name, entry in MODELS.items()})


def own_model_digest(text: str) -> str | None:
    """SHA-256 (hex) of the source of a user's own model; None for cwjax's own models."""
    if own := OWN_MODEL.fullmatch(text):
        return hashlib.sha256(Path(own[1]).read_bytes()).hexdigest()
    entry = MODELS.get(text.partition(":")[0])
    return entry.digest if entry is not None else None


def register_model(make: Callable[..., Any]) -> str:
    """Makes a class or function of a program known as a model; returns its name for `model`.

    Args:
        make: called with those of `input_shape`, `num_classes` and `rngs` that it has parameters
            for; returns an `nnx.Module`.

    Raises:
        ConfigError: it has no name of its own, or that of one of cwjax's models.
    """
    name = getattr(make, "__name__", "")
    if not name.isidentifier() or (name in MODELS and MODELS[name].digest is None):
        raise ConfigError(f"model {make!r} has no name of its own: give a class or a function")
    try:
        source = inspect.getsource(make)
    except (OSError, TypeError):  # typed in where Python keeps no source
        source = name
    digest = hashlib.sha256(source.encode()).hexdigest()
    MODELS[name] = own_entry(make, digest)
    return name


def own_entry(make: Callable[..., Any], digest: str | None = None) -> ModelEntry:
    """The entry of a class or function that is not cwjax's own.

    Args:
        make: as `register_model` takes it.
        digest: of its source, where that is known.
    """

    def built(input_shape: tuple[int, ...], num_classes: int, rngs: nnx.Rngs) -> Any:
        from cwjax.models.own import build

        return build(make, input_shape, num_classes, rngs)

    return ModelEntry(built, digest=digest, own=make)


def _own(
    file: Path, name: str, input_shape: tuple[int, ...], num_classes: int, rngs: nnx.Rngs
) -> Any:
    from cwjax.models.own import make_own

    return make_own(file, name, input_shape, num_classes, rngs)


def model_name(text: str, input_shape: tuple[int, ...]) -> str:
    """The model that `--model` means for inputs of this shape: `auto` resolved, else `text`."""
    if text != "auto":
        return text
    return "cnn" if len(input_shape) == 3 else "mlp"


def check_input(text: str, input_shape: tuple[int, ...], dataset: str) -> None:
    """Checks that a model takes a data set's inputs.

    Args:
        text: of `--model`.
        input_shape: `(height, width, channels)` of images, `(num_features,)` of features.
        dataset: its name, for the message.

    Raises:
        ConfigError: no such model, features where it takes images, or images that are too small.
    """
    find_model(text)
    name = model_name(text, input_shape).partition(":")[0]
    smallest = MODELS[name].smallest_input if name in MODELS else None
    if smallest is None:
        return
    if len(input_shape) != 3:
        raise ConfigError(f"{dataset}: {name} takes images, these are features: give --model mlp")
    height, width, channels = input_shape
    if height < smallest[0] or width < smallest[1]:
        fix = (
            f"channels first? give images as [n, {width}, {channels}, {height}]"
            if height in (1, 3, 4) and min(width, channels) > 4
            else "enlarge them, or give --model mlp"
        )
        raise ConfigError(
            f"{dataset}: images are {height} x {width}, {name} needs at least "
            f"{smallest[0]} x {smallest[1]}: {fix}"
        )


def model_factory(text: str, input_shape: tuple[int, ...], num_classes: int) -> ModelFactory:
    """A function that builds a model from its `nnx.Rngs`.

    Args:
        text: of `--model`.
        input_shape: of one example.
        num_classes: columns of the logits.

    Raises:
        ConfigError: see `find_model`.
    """
    return partial(find_model(text), input_shape, num_classes)
