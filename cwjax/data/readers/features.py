"""Features that another program made, e.g. embeddings of a frozen network: .npz or .parquet."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cwjax.config import SourceConfig
from cwjax.data.cache import cached_dataset
from cwjax.data.dataset import Column, Dataset, numbered_classes
from cwjax.data.readers.frames import encode_groups, encode_labels, read_frame, require_column
from cwjax.data.readers.npz import (
    Header,
    check_number_of_names,
    class_names_of,
    group_arrays,
    groups_of,
    labels_to_int32,
    read_arrays,
    refuse_arrays,
)
from cwjax.data.sources import ReadOptions, user_path
from cwjax.data.split import dataset_of_splits
from cwjax.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_LABEL_COLUMNS = ("label", "labels")

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]


def read(place: str, options: ReadOptions) -> Dataset:
    """Reads the file `place`.

    An .npz file holds `features` `[n, num_features]`, `labels` `[n]` (integers from 0, or texts),
    optionally `test_features`, `test_labels`, `class_names`, `feature_names` and, by the name that
    `--group-column` gives, groups. A .parquet file has a column of labels and either one column of
    lists or one column per feature.

    Raises:
        DataError: no such file, or one that cannot be used; with the array and the index.
    """
    file, settings = user_path(place), options.source
    if not file.is_file():
        raise DataError(f"{file}: no such file: give features:FILE an .npz or a .parquet file")
    files = [file, *([user_path(settings.test_file)] if settings.test_file else [])]
    if file.suffix.lower() == ".npz":
        if settings.test_file is not None:
            raise DataError(
                f"--test-file {settings.test_file}: put test_features and test_labels into {file}"
            )
        decode = partial(_read_npz, file, settings.group_column)
    elif file.suffix.lower() == ".parquet":
        decode = partial(_read_parquet, files, settings)
    else:
        raise DataError(f"{file}: give features:FILE an .npz or a .parquet file")
    return cached_dataset("features", file, files, decode, settings)


def features_to_float32(field: str, features: npt.NDArray[Any]) -> Features:
    """Numbers `[num_examples, num_features]` as float32.

    Args:
        field: file and array, for the message.
        features: of any type of number.

    Raises:
        DataError: another shape or type, NaN, or a number that float32 cannot hold; with the index.
    """
    if features.ndim != 2 or features.dtype.kind not in "fiub":
        raise DataError(
            f"{field} is {features.dtype} {features.shape}, expected numbers (examples, features)"
        )
    with np.errstate(over="ignore"):
        converted = features.astype(np.float32)
    wrong = np.argwhere(~np.isfinite(converted))
    if len(wrong):
        row, column = wrong[0]
        value = features[row, column]
        why = "more than float32 can hold" if np.isfinite(value) else "no finite number"
        raise DataError(
            f"{field}[{row}, {column}] is {value}, {why}; {len(wrong)} of {features.size} are so: "
            "fix them or leave these examples out"
        )
    return converted


def _check_headers(group_array: str | None, file: Path, headers: Mapping[str, Header]) -> None:
    names = {"features", "labels", "test_features", "test_labels", "class_names", "feature_names"}
    groups = group_arrays(group_array, has_test="test_features" in headers)
    missing = sorted({"features", "labels"} - headers.keys())
    if ("test_features" in headers) != ("test_labels" in headers):
        missing += sorted({"test_features", "test_labels"} - headers.keys())
    missing += [name for name in groups if name not in headers]
    wanted = "features, labels [, test_features, test_labels, class_names, feature_names]"
    refuse_arrays(file, headers, missing, names | {*groups}, wanted)
    for name in headers.keys() - {"class_names", "feature_names"}:
        features = "test_features" if name.startswith("test_") else "features"
        if headers[name].shape[:1] != headers[features].shape[:1]:
            raise DataError(
                f"{file}: {name} has shape {headers[name].shape} for {features} "
                f"{headers[features].shape}: give one per example"
            )


def _read_npz(file: Path, group_array: str | None) -> Dataset:
    arrays = read_arrays(file, partial(_check_headers, group_array))
    splits = ["", *(["test_"] if "test_features" in arrays else [])]
    features = [
        features_to_float32(f"{file}: {split}features", arrays[f"{split}features"])
        for split in splits
    ]
    labels, class_names = _npz_labels(file, arrays, splits)
    names: tuple[str, ...] = ()
    if "feature_names" in arrays:
        names = class_names_of(f"{file}: feature_names", arrays["feature_names"])
    return dataset_of_splits(
        file.stem,
        list(zip(features, labels, strict=True)),
        class_names,
        columns=tuple(map(Column, names)),
        groups=groups_of(file, arrays, group_arrays(group_array, has_test=len(splits) == 2)),
    )


def _npz_labels(
    file: Path, arrays: Mapping[str, npt.NDArray[Any]], splits: list[str]
) -> tuple[list[Labels], tuple[str, ...]]:
    import pandas as pd

    found = [(f"{split}labels", arrays[f"{split}labels"]) for split in splits]
    if found[0][1].dtype.kind == "U":
        train, class_names = encode_labels(file, pd.Series(found[0][1], name="labels"))
        tests = [
            encode_labels(file, pd.Series(labels, name=name), class_names)[0]
            for name, labels in found[1:]
        ]
        return [train, *tests], class_names
    if "class_names" in arrays:
        class_names = class_names_of(f"{file}: class_names", arrays["class_names"])
        check_number_of_names(file, len(class_names), "labels", found[0][1])
    else:
        class_names = numbered_classes(found[0][1])
    return [
        labels_to_int32(f"{file}: {name}", labels, len(class_names)) for name, labels in found
    ], class_names


def _read_parquet(files: list[Path], settings: SourceConfig) -> Dataset:
    frames = [read_frame(each) for each in files]
    label_column = settings.label_column or next(
        (name for name in _LABEL_COLUMNS if name in frames[0]), _LABEL_COLUMNS[0]
    )
    splits, groups = [], list[Any]()
    names: list[str] = []
    class_names = None
    for file, frame in zip(files, frames, strict=True):
        require_column(file, frame, label_column, "give --label-column")
        of_file, class_names = encode_labels(file, frame[label_column], class_names)
        frame = frame.drop(columns=label_column)
        if settings.group_column is not None:
            require_column(file, frame, settings.group_column, "give another --group-column")
            groups += frame[settings.group_column].tolist()
            frame = frame.drop(columns=settings.group_column)
        values, names = _feature_columns(file, frame)
        splits.append((features_to_float32(f"{file}: features", values), of_file))
    assert class_names is not None
    return dataset_of_splits(
        files[0].stem,
        splits,
        class_names,
        columns=tuple(map(Column, names)),
        groups=encode_groups(files[0], groups) if groups else None,
    )


def _feature_columns(file: Path, frame: pd.DataFrame) -> tuple[npt.NDArray[Any], list[str]]:
    """A column of lists, or all columns as one feature each with their names."""
    nested = [name for name in frame.columns if isinstance(frame[name].iloc[0], (list, np.ndarray))]
    if len(nested) > 1 or not len(frame.columns):
        raise DataError(
            f"{file}: has {len(nested)} columns of lists ({', '.join(nested)}): keep the features"
        )
    if nested:
        lists = frame[nested[0]]
        widths = lists.map(lambda each: -1 if each is None else len(each))
        other = np.flatnonzero(widths != widths.iloc[0])
        if len(other):
            first, width = widths.iloc[0], widths.iloc[other[0]]
            found = "is missing" if width < 0 else f"has {width} numbers"
            raise DataError(
                f"{file}: {nested[0]}[{other[0]}] {found}, the first has {first}: give all the same"
            )
        return np.stack(lists.tolist()), []
    words = [name for name in frame.columns if frame[name].dtype.kind not in "fiub"]
    if words:
        raise DataError(
            f"{file}: column {words[0]!r} holds no numbers: leave it out, or give table:{file} "
            "with --label-column"
        )
    return frame.to_numpy(), list(frame.columns)
