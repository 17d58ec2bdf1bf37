"""What each mistake costs: a file of the user's, and the decisions that cost least."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cwjax.analysis.evaluation import FloatArray, IntArray
from cwjax.arms.custom_weights import without_repeats
from cwjax.errors import ConfigError


@dataclass(frozen=True)
class CostMatrix:
    """The contents of a file of costs."""

    file: str
    """Its name, for messages."""
    rows: Mapping[str, Mapping[str, float]]
    """True class -> predicted class -> cost."""

    def for_classes(self, class_names: Sequence[str]) -> FloatArray:
        """The costs `[num_classes, num_classes]`: a row per true class, a column per predicted one.

        Raises:
            ConfigError: a class is missing or unknown.
        """
        labelled = {"rows": self.rows, **{f"row {true!r}": row for true, row in self.rows.items()}}
        for place, names in labelled.items():
            unknown = [name for name in names if name not in class_names]
            missing = [name for name in class_names if name not in names]
            if unknown or missing:
                wrong = f"unknown class {unknown[0]!r}" if unknown else f"no class {missing[0]!r}"
                raise ConfigError(
                    f"--cost-matrix {self.file}: {place}: {wrong}: give each of "
                    f"{', '.join(class_names)} once"
                )
        return np.array([[self.rows[true][name] for name in class_names] for true in class_names])


def read_costs(path: Path) -> CostMatrix:
    """Reads costs: CSV with a column per predicted class, or JSON by true, then predicted class.

    The CSV's first line names the predicted classes and each line begins with its true class; JSON
    is `{"cat": {"cat": 0, "dog": 1}, "dog": {"cat": 5, "dog": 0}}`.

    Raises:
        ConfigError: the file cannot be read, or is no square of finite numbers.
    """
    name = path.name
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--cost-matrix {path}: cannot be read ({error})") from None
    rows = _from_json(text, name) if path.suffix == ".json" else _from_csv(text, name)
    if len(rows) < 2:
        raise ConfigError(f"--cost-matrix {name}: give a row and a column for every class")
    return CostMatrix(name, rows)


def _from_csv(text: str, name: str) -> dict[str, dict[str, float]]:
    lines = [[cell.strip() for cell in line] for line in csv.reader(text.splitlines()) if any(line)]
    predicted = lines[0][1:] if lines else []
    rows: dict[str, dict[str, float]] = {}
    for true, *cells in lines[1:]:
        if len(cells) != len(predicted):
            raise ConfigError(
                f"--cost-matrix {name}: row {true!r} has {len(cells)} costs for {len(predicted)} "
                "predicted classes: give one for each"
            )
        if true in rows or len(set(predicted)) < len(predicted):
            raise ConfigError(f"--cost-matrix {name}: a class is there twice: give each once")
        costs = zip(predicted, cells, strict=True)
        rows[true] = {p: _cost(cell, true, p, name) for p, cell in costs}
    return rows


def _from_json(text: str, name: str) -> dict[str, dict[str, float]]:
    try:
        content = json.loads(text, object_pairs_hook=without_repeats)
    except ConfigError as error:
        raise ConfigError(f"--cost-matrix {name}: it {error}: give each once") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--cost-matrix {name}: is not JSON ({error})") from None
    if not isinstance(content, dict) or not all(isinstance(row, dict) for row in content.values()):
        raise ConfigError(
            f'--cost-matrix {name}: give an object of objects, {{"true class": {{"predicted '
            'class": cost}}'
        )
    return {
        true: {predicted: _cost(cost, true, predicted, name) for predicted, cost in row.items()}
        for true, row in content.items()
    }


def _cost(value: Any, true: str, predicted: str, name: str) -> float:
    try:
        cost = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        cost = math.nan
    if not math.isfinite(cost):
        raise ConfigError(
            f"--cost-matrix {name}: the cost of {true!r} taken for {predicted!r} is {value!r}: "
            "give a finite number"
        )
    return cost


def least_cost(probabilities: FloatArray, costs: FloatArray) -> IntArray:
    """The class `[num_examples]` of the least expected cost, the first of equals.

    Args:
        probabilities: `[num_examples, num_classes]`.
        costs: `[num_classes, num_classes]`, rows are true classes.

    References:
        Elkan 2001, "The Foundations of Cost-Sensitive Learning".
    """
    # Not a matrix product: that adds in an order that depends on the number of CPU cores.
    expected = [(probabilities * of_class).sum(axis=1) for of_class in costs.T]
    return np.asarray(np.argmin(expected, axis=0), np.int64)
