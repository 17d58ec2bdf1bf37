"""Class weights that the user writes down: a JSON object from class name or index to weight."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from cwjax.errors import ConfigError


@dataclass(frozen=True)
class CustomWeights:
    """The contents of a file of class weights.

    `str()` is the file's stem and a hash of its contents, never its directory: an arm's name is the
    same on every machine.
    """

    stem: str
    items: tuple[tuple[str, float], ...]  # sorted by class name or index

    def __str__(self) -> str:
        digest = hashlib.sha256(json.dumps(self.items).encode()).hexdigest()
        return f"{self.stem}-{digest[:8]}"

    def for_classes(self, class_names: Sequence[str]) -> np.ndarray:
        """The weights in the order of the classes.

        Keys are class names if they all are; otherwise indices `"0"` to `"K-1"`.

        Args:
            class_names: `[num_classes]`.

        Returns:
            float64 `[num_classes]`.

        Raises:
            ConfigError: a class is missing or unknown.
        """
        given = dict(self.items)
        indices = [str(index) for index in range(len(class_names))]
        keys = list(class_names) if given.keys() <= set(class_names) else indices
        unknown = [key for key in given if key not in keys]
        missing = [key for key in keys if key not in given]
        if unknown:
            raise ConfigError(
                f"the file names unknown class {_listing(unknown)}; give class names "
                f"({_listing(class_names)}) or indices 0 to {len(class_names) - 1}"
            )
        if missing:
            raise ConfigError(f"the file has no weight for class {_listing(missing)}")
        return np.array([given[key] for key in keys])


class WeightFile:
    """Reader of a path to a JSON file of class weights."""

    def read(self, text: str) -> CustomWeights:
        """The file's contents, checked as far as the classes are not needed, or ConfigError."""
        path = Path(text)
        if not re.fullmatch(r"[\w.-]{1,100}", path.stem):
            raise ConfigError("rename the file: letters, digits, '.', '_' and '-', at most 100")
        try:
            contents = json.loads(path.read_text("utf-8"), object_pairs_hook=without_repeats)
        except OSError as error:
            raise ConfigError(f"cannot be read ({error.strerror}); give a JSON file") from None
        except ConfigError:
            raise
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"is not JSON ({error})") from None
        if not isinstance(contents, dict):
            raise ConfigError('must hold a JSON object, e.g. {"cat": 1, "dog": 2.5}')
        items = tuple(sorted((name, _weight(name, value)) for name, value in contents.items()))
        if not any(weight for _, weight in items):
            raise ConfigError("needs at least one class with a weight above 0")
        return CustomWeights(path.stem, items)


CustomFile = Annotated[CustomWeights, WeightFile()]


def _listing(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def _weight(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(
            f"the weight of class {name!r} is of type {type(value).__name__}; give a number"
        )
    if not 0 <= value <= float(np.finfo(np.float32).max):  # false for NaN, too
        raise ConfigError(
            f"the weight of class {name!r} is {value!s:.20}; give a finite number of at least 0"
        )
    return float(np.float32(value))  # as training uses it: 1e-60 is 0


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The `object_pairs_hook` of JSON whose keys are classes; ConfigError where one is twice."""
    contents = dict(pairs)
    if len(contents) < len(pairs):
        names = [name for name, _ in pairs]
        raise ConfigError(f"names class {next(n for n in names if names.count(n) > 1)!r} twice")
    return contents
