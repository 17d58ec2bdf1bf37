"""Models of the user's own on machines that do not have their files."""

from __future__ import annotations

import sys
from pathlib import Path

import cloudpickle

from cwjax.models.own import own_function
from cwjax.models.registry import MODELS, OWN_MODEL, own_entry

ARRIVED = "own"
"""The name of a model that came from another process."""


def pack_model(text: str) -> bytes | None:
    """A model of the user's own with all that its module defines; None for cwjax's models.

    What the module imports is not packed: it must be installed wherever the model is unpacked.

    Args:
        text: of `--model`.

    Raises:
        ConfigError: its file cannot be imported, or has no such model.
    """
    if own := OWN_MODEL.fullmatch(text):
        make = own_function(Path(own[1]).resolve(), own[2])
    else:
        entry = MODELS.get(text.partition(":")[0])
        if entry is None or entry.own is None:
            return None
        make = entry.own
    module = sys.modules[make.__module__]
    cloudpickle.register_pickle_by_value(module)
    try:
        packed: bytes = cloudpickle.dumps(make)
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    return packed


def unpack_model(packed: bytes) -> str:
    """Makes a packed model known in this process; returns its name for `--model`."""
    MODELS[ARRIVED] = own_entry(cloudpickle.loads(packed))
    return ARRIVED
