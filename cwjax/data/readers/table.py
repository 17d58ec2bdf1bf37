"""Tables of numbers and categories: .csv, .tsv or .parquet, one row per example."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cwjax.config import SourceConfig
from cwjax.data.cache import cached_dataset
from cwjax.data.dataset import WARNING, Column, Dataset
from cwjax.data.readers.frames import (
    encode_groups,
    encode_labels,
    read_frame,
    require_column,
    to_text,
)
from cwjax.data.sources import ReadOptions, require_memory, user_path
from cwjax.data.split import dataset_of_splits
from cwjax.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_DATE = r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}([T ].*)?"
_MAX_LEVELS = 1_000
_MOSTLY = 0.5
"""A column of words of which more than this share are numbers is one of numbers with a mistake."""

_SHOWN = 8


@dataclass(frozen=True)
class _Types:
    """What the columns of a table are.

    Attributes:
        numbers: names of the columns that each run standardises.
        categories: names of the columns with one feature per level.
        notes: what was left out, and why.
    """

    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    notes: tuple[str, ...] = ()


def read(place: str, options: ReadOptions) -> Dataset:
    """Reads the file `place`.

    A number that is missing is filled in by each run, with the median of its training rows; a
    category that is missing is a level of its own. Levels are those of the whole training file; a
    level that only the test file has is none of them.

    Raises:
        DataError: a file, column or row that cannot be used, with its name and the fix.
    """
    file, settings = user_path(place), options.source
    files = [file, *([user_path(settings.test_file)] if settings.test_file else [])]
    for each in files:
        if not each.is_file():
            raise DataError(f"{each}: no such file: give a .csv, .tsv or .parquet file")
    return cached_dataset("table", file, files, lambda: _decode(files, settings), settings)


def _decode(files: list[Path], settings: SourceConfig) -> Dataset:
    if settings.label_column is None:
        names = ", ".join(read_frame(files[0]).columns[:20])
        raise DataError(
            f"{files[0]}: which column holds the classes? Give --label-column one of {names}"
        )
    frames, labels, groups = [], [], list[Any]()
    class_names = None
    for file in files:
        frame = read_frame(file)
        require_column(file, frame, settings.label_column, "give another --label-column")
        of_file, class_names = encode_labels(file, frame[settings.label_column], class_names)
        labels.append(of_file)
        if settings.group_column is not None:
            require_column(file, frame, settings.group_column, "give another --group-column")
            groups += frame[settings.group_column].tolist()
        for name in settings.drop_columns if file is files[0] else ():
            require_column(file, frame, name, "give another --drop-columns")
        taken = {settings.label_column, settings.group_column, *settings.drop_columns}
        frames.append(frame.drop(columns=[name for name in frame.columns if name in taken]))
    assert class_names is not None
    return dataset_of_frames(
        files[0].stem,
        files,
        frames,
        labels,
        class_names,
        encode_groups(files[0], groups) if groups else None,
        settings,
    )


def dataset_of_frames(
    name: str,
    files: list[Path],
    frames: list[pd.DataFrame],
    labels: list[npt.NDArray[np.int32]],
    class_names: tuple[str, ...],
    groups: npt.NDArray[np.int32] | None,
    settings: SourceConfig,
) -> Dataset:
    """A data set of one table, or of two of which the second is the test split.

    Args:
        name: for tables and messages.
        files: where they are from, for messages.
        frames: a row per example, a column per number or category; rows numbered from 0.
        labels: of each frame's rows.
        class_names: one name per class.
        groups: of all rows; see `Dataset`.
        settings: which columns are numbers or categories, where that is not to be found out.

    Raises:
        DataError: a column or row that cannot be used.
    """
    types = _find_types(files[0], frames[0], settings)
    features, columns, notes = _encode(files, frames, types)
    return dataset_of_splits(
        name,
        list(zip(features, labels, strict=True)),
        class_names,
        columns=columns,
        groups=groups,
        notes=(*types.notes, *notes),
    )


def _find_types(file: Path, frame: pd.DataFrame, settings: SourceConfig) -> _Types:
    """Numbers, categories, and columns that say nothing about other rows."""
    for name in (*settings.numeric_columns, *settings.categorical_columns):
        require_column(file, frame, name, "name a column that is no label and not dropped")
    numbers, categories, left_out = [], [], []
    for name in frame.columns:
        if name in settings.numeric_columns:
            numbers.append(name)
        elif name in settings.categorical_columns:
            categories.append(name)
        elif (reason := _useless(frame[name])) is not None:
            left_out.append(f"{name} ({reason})")
        elif _is_number(file, frame[name]):
            numbers.append(name)
        else:
            categories.append(name)
    if not numbers and not categories:
        raise DataError(f"{file}: has no column to learn from: left out are {', '.join(left_out)}")
    kinds = [("numbers", numbers), ("categories", categories)]
    notes = [f"{kind} ({len(names)}): {_listed(names)}" for kind, names in kinds if names]
    if left_out:
        fix = "(--numeric-columns or --categorical-columns takes one nevertheless)"
        notes.append(f"{WARNING}columns left out: {', '.join(left_out)} {fix}")
    return _Types(tuple(numbers), tuple(categories), tuple(notes))


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


def _useless(column: pd.Series[Any]) -> str | None:
    """Why a column cannot help with rows that were not trained on; None if it can."""
    import pandas as pd

    known = column.dropna()
    if not len(known):
        return "empty"
    if known.nunique() == 1 and (len(known) == len(column) or pd.api.types.is_numeric_dtype(known)):
        return "one value"
    if pd.api.types.is_datetime64_any_dtype(known):
        return "dates"
    if pd.api.types.is_integer_dtype(known):
        ordered = np.sort(known.to_numpy())
        return "the number of the row" if (np.diff(ordered) == 1).all() else None
    if pd.api.types.is_numeric_dtype(known):
        return None
    words = known.astype(str)
    if words.str.fullmatch(_DATE).all():
        return "dates"
    if len(known) > 2 and words.nunique() == len(words) and _parsed(words).isna().any():
        return "another value in every row"
    return None


def _parsed(words: pd.Series[Any]) -> pd.Series[float]:
    import pandas as pd

    return pd.to_numeric(words, errors="coerce")


def _is_number(file: Path, column: pd.Series[Any]) -> bool:
    import pandas as pd

    if pd.api.types.is_bool_dtype(column):
        return False
    if pd.api.types.is_numeric_dtype(column):
        return True
    words = column.dropna().astype(str)
    wrong = words[_parsed(words).isna()]
    if len(wrong) < (1 - _MOSTLY) * len(words):
        name, row = column.name, wrong.index.tolist()[0] + 1
        raise DataError(
            f"{file}: column {name!r} is of numbers but for {len(wrong)} values, the first is "
            f"{wrong.iloc[0]!r} in row {row}: leave such cells empty, or give --numeric-columns "
            f"{name} (they are missing then) or --categorical-columns {name}"
        )
    return False


def _encode(
    files: list[Path], frames: list[pd.DataFrame], types: _Types
) -> tuple[list[npt.NDArray[np.float32]], tuple[Column, ...], list[str]]:
    """Numbers as they are, missing ones as NaN; a feature of 0 or 1 for every level."""
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import OneHotEncoder

    prepared = [_prepared(file, frame, types) for file, frame in zip(files, frames, strict=True)]
    train = prepared[0]
    shifts, notes = _shifts(train, types)
    for frame in prepared:
        frame[list(shifts)] -= list(shifts.values())
    _check_levels(files[0], train, types, sum(map(len, frames)))
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32)
    numbers, categories = list(types.numbers), list(types.categories)
    transformer = ColumnTransformer(
        [("numbers", "passthrough", numbers), ("levels", encoder, categories)]
    ).fit(train)
    fitted = transformer.named_transformers_["levels"].categories_ if categories else []
    levels = dict(zip(categories, fitted, strict=True))
    columns = [
        *(Column(name) for name in numbers),
        *(
            Column(_level_name(level), category=name)
            for name, of_column in levels.items()
            for level in of_column
        ),
    ]
    features = [np.asarray(transformer.transform(frame), np.float32) for frame in prepared]
    return features, tuple(columns), [*notes, *_value_notes(prepared, types, levels)]


def _check_levels(file: Path, train: pd.DataFrame, types: _Types, num_rows: int) -> None:
    num_levels = {name: train[name].nunique(dropna=False) for name in types.categories}
    for name, number in num_levels.items():
        if number > _MAX_LEVELS:
            raise DataError(
                f"{file}: column {name!r} has {number:,} levels, more than {_MAX_LEVELS:,}: give "
                f"--drop-columns {name}, or join rare levels"
            )
    require_memory(file, 4 * num_rows * (len(types.numbers) + sum(num_levels.values())))


def _value_notes(
    frames: list[pd.DataFrame], types: _Types, levels: dict[str, npt.NDArray[Any]]
) -> Iterator[str]:
    for name in types.numbers:
        missing = sum(int(frame[name].isna().sum()) for frame in frames)
        if missing:
            yield (
                f"{name}: {missing:,} numbers are missing; each run fills in the median of the "
                "rows that it trains on"
            )
    for name, known in levels.items():
        missing = sum(int(frame[name].isna().sum()) for frame in frames)
        if missing:
            yield f"{name}: {missing:,} values are missing, which is a level of its own"
        unknown = sum(int((~frame[name].isin(known)).sum()) for frame in frames)
        if unknown:
            yield f"{name}: {unknown:,} test rows have a level that no training row has"


def _level_name(level: Any) -> str:
    return level if isinstance(level, str) else "(missing)"


def _prepared(file: Path, frame: pd.DataFrame, types: _Types) -> pd.DataFrame:
    """The columns that are used, numbers as float64 and categories as texts."""
    import pandas as pd

    prepared = {}
    for name in types.numbers:
        require_column(file, frame, name, "give the columns of the training file")
        numbers = pd.to_numeric(frame[name], errors="coerce").astype(np.float64)
        infinite = np.flatnonzero(np.abs(numbers) > np.finfo(np.float32).max)
        if len(infinite):
            raise DataError(
                f"{file}: column {name!r} in row {infinite[0] + 1} is {numbers[infinite[0]]}, as "
                f"are {len(infinite) - 1} others: leave the cell empty, or give a number that "
                "float32 can hold"
            )
        prepared[name] = numbers
    for name in types.categories:
        require_column(file, frame, name, "give the columns of the training file")
        prepared[name] = frame[name].map(to_text, na_action="ignore").astype(object)
        prepared[name][frame[name].isna()] = np.nan
    return pd.DataFrame(prepared)


def _shifts(train: pd.DataFrame, types: _Types) -> tuple[dict[str, float], list[str]]:
    """What to subtract from numbers so far from 0 that float32 would round their differences.

    Standardising takes any shift away again; a column of seconds since 1970 needs it.
    """
    shifts = {}
    for name in types.numbers:
        known = train[name].dropna()
        if len(known) and 2**-24 * known.abs().max() > 1e-3 * known.std(ddof=0) > 0:
            shifts[name] = float(known.median())
    notes = [
        f"{name}: {shift:,.10g} is subtracted, float32 would round it"
        for name, shift in shifts.items()
    ]
    return shifts, notes
