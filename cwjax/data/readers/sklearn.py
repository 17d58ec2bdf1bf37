"""Small data sets that scikit-learn ships, as features; they need no network."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import numpy as np

from cwjax.data.cache import cached_dataset
from cwjax.data.dataset import Column, Dataset
from cwjax.data.sources import ReadOptions
from cwjax.data.split import with_held_out_test
from cwjax.errors import DataError, suggestion

_FILES = {"digits": "digits.csv.gz", "wine": "wine_data.csv", "breast_cancer": "breast_cancer.csv"}


def read(place: str, options: ReadOptions) -> Dataset:
    """Reads the data set `place`; of the options none matters.

    Raises:
        DataError: another name than digits, wine or breast_cancer.
    """
    if place not in _FILES:
        raise DataError(
            f"--dataset sklearn:{place}{suggestion(place, _FILES)}: choose sklearn:"
            + ", sklearn:".join(_FILES)
        )
    specification = importlib.util.find_spec("sklearn")  # importing it takes a second
    package = Path(specification.origin or "") if specification else Path()
    file = package.parent / "datasets" / "data" / _FILES[place]
    return cached_dataset("sklearn", file, [file], lambda: _decode(place))


def _decode(name: str) -> Dataset:
    loaded = getattr(importlib.import_module("sklearn.datasets"), f"load_{name}")()
    return with_held_out_test(
        name,
        loaded.data.astype(np.float32),
        loaded.target.astype(np.int32),
        tuple(map(str, loaded.target_names)),
        columns=tuple(Column(str(each)) for each in loaded.feature_names),
    )
