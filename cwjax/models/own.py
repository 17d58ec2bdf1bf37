"""Models of the user's own: `--model FILE.py:NAME`, or a class or function of a program."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flax import nnx

from cwjax.errors import ConfigError, one_line, suggestion


def make_own(
    file: Path, name: str, input_shape: tuple[int, ...], num_classes: int, rngs: nnx.Rngs
) -> nnx.Module:
    """Builds the module that a Python file calls `name`: a class, or a function that returns one.

    Raises:
        ConfigError: the file cannot be imported, has nothing of that name, or see `build`; with the
            reason in one line.
    """
    return build(own_function(file.resolve(), name), input_shape, num_classes, rngs)


def build(
    make: Callable[..., Any], input_shape: tuple[int, ...], num_classes: int, rngs: nnx.Rngs
) -> nnx.Module:
    """Calls a class or function with those of the other arguments that it has parameters for.

    Raises:
        ConfigError: it asks for others, fails, or returns no `nnx.Module`.
    """
    available = {"input_shape": input_shape, "num_classes": num_classes, "rngs": rngs}
    # Of a class the signature is its constructor's, which Flax's metaclass hides.
    is_class = isinstance(make, type)
    signature = inspect.signature(make.__init__ if is_class else make)
    parameters = list(signature.parameters.values())[is_class:]
    unknown = [
        parameter.name
        for parameter in parameters
        if parameter.name not in available
        and parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if unknown:
        raise ConfigError(
            f"cwjax gives it {', '.join(available)}, and it asks for {', '.join(unknown)}: "
            "give that a default"
        )
    names = [parameter.name for parameter in parameters if parameter.name in available]
    try:
        model = make(**{name: available[name] for name in names})
    except Exception as error:
        raise ConfigError(f"it cannot be built ({one_line(error)})") from error
    if not isinstance(model, nnx.Module):
        raise ConfigError(f"it makes a {type(model).__name__}: give a flax.nnx.Module")
    return model


@functools.cache  # of the whole process: what is built twice must be of one class
def own_function(file: Path, name: str) -> Callable[..., Any]:
    """What a Python file calls `name`; see `make_own`."""
    spec = importlib.util.spec_from_file_location(f"models_of_{file.stem}", file)
    assert spec is not None  # its name ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"the file cannot be imported ({one_line(error)})") from error
    made_here = [
        each
        for each, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == spec.name
    ]
    make = getattr(module, name, None)
    if not callable(make):
        listing = f"it has {', '.join(made_here)}" if made_here else "it defines none"
        raise ConfigError(f"the file has no model {name!r}{suggestion(name, made_here)}; {listing}")
    found: Callable[..., Any] = make
    return found
