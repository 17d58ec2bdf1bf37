"""Data that a program holds already: arrays and data frames, without a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cwjax.config import SourceConfig
from cwjax.data.dataset import Dataset, Inputs
from cwjax.data.duplicates import with_overlap_note
from cwjax.data.readers.features import features_to_float32
from cwjax.data.readers.frames import encode_groups, encode_labels
from cwjax.data.readers.npz import images_to_uint8, labels_to_int32
from cwjax.data.readers.table import dataset_of_frames
from cwjax.data.split import dataset_of_splits
from cwjax.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


def dataset_from_arrays(
    inputs: Any,
    labels: Any,
    *,
    test: tuple[Any, Any] | None = None,
    groups: Sequence[Any] | None = None,
    class_names: Sequence[str] | None = None,
    name: str = "data",
) -> Dataset:
    """A data set of arrays, checked as a file of them would be.

    Args:
        inputs: images `[n, height, width]` or `[n, height, width, channels]`, uint8; numbers
            `[n, num_features]`; or a data frame of numbers and categories.
        labels: `[n]`, of any type.
        test: inputs and labels of a test split; without one a stratified fifth is held out.
        groups: `[n]`, of any type: examples of one group never stand on both sides of a split.
        class_names: one name per class, for labels 0, 1, …; without them the labels name classes.
        name: for tables and messages.

    Raises:
        DataError: an argument that cannot be used, with the place of the first mistake.

    Warns:
        UserWarning: test examples that are in the training data too, columns that are left out.
    """
    import pandas as pd

    if groups is not None and test is not None:
        raise DataError("groups has no effect with test: a given test split is not drawn")
    parts = [("X", "y", inputs, labels)]
    if test is not None:
        parts.append(("test X", "test y", *test))
    for inputs_name, labels_name, inputs, labels in parts:
        for field, given in ((inputs_name, inputs), (labels_name, labels)):
            if not hasattr(given, "__len__"):
                raise DataError(f"{field} is {type(given).__name__}: give an array")
        if len(inputs) != len(labels):
            raise DataError(
                f"{inputs_name} has {len(inputs)} examples, {labels_name} has {len(labels)}"
            )
    all_labels, names = [], None if class_names is None else tuple(class_names)
    for _, labels_name, _, labels in parts:
        encoded, names = _encoded(labels_name, np.asarray(labels), names, class_names is not None)
        all_labels.append(encoded)
    assert names is not None
    of_groups = None if groups is None else encode_groups(Path("groups"), list(groups))
    if of_groups is not None and len(of_groups) != len(all_labels[0]):
        raise DataError(f"groups has {len(of_groups)} entries for {len(all_labels[0])} examples")
    if isinstance(parts[0][2], pd.DataFrame):
        frames = [_frame(inputs_name, inputs) for inputs_name, _, inputs, _ in parts]
        files = [Path(inputs_name) for inputs_name, *_ in parts]
        dataset = dataset_of_frames(
            name, files, frames, all_labels, names, of_groups, SourceConfig()
        )
        return _noted(dataset)
    arrays = [_inputs(inputs_name, np.asarray(inputs)) for inputs_name, _, inputs, _ in parts]
    splits = list(zip(arrays, all_labels, strict=True))
    return _noted(dataset_of_splits(name, splits, names, groups=of_groups))


def _noted(dataset: Dataset) -> Dataset:
    """The data set with a note of test examples that are in the training data too; warns of it."""
    noted = with_overlap_note(dataset)
    noted.warn(stacklevel=4)
    return noted


def _encoded(
    field: str, labels: npt.NDArray[Any], names: tuple[str, ...] | None, are_numbers: bool
) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    import pandas as pd

    if are_numbers:
        assert names is not None
        return labels_to_int32(field, labels, len(names)), names
    if labels.ndim != 1:
        raise DataError(f"{field} has shape {labels.shape}: give one label per example")
    return encode_labels(Path(field), pd.Series(labels, name="labels"), names)


def _frame(field: str, inputs: Any) -> pd.DataFrame:
    import pandas as pd

    if not isinstance(inputs, pd.DataFrame):
        raise DataError(f"{field} is {type(inputs).__name__}: give a data frame, as X is one")
    frame = inputs.reset_index(drop=True)
    frame.columns = frame.columns.map(str)
    return frame


def _inputs(field: str, inputs: npt.NDArray[Any]) -> Inputs:
    if inputs.ndim == 2:
        return features_to_float32(field, inputs)
    if inputs.ndim not in (3, 4):
        raise DataError(
            f"{field} is {inputs.dtype} {inputs.shape}: give images (examples, height, width[, "
            "channels]) or features (examples, features)"
        )
    return images_to_uint8(field, inputs)
