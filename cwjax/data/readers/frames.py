"""Tables of a user as pandas reads them: .csv, .tsv and .parquet, with the row of every mistake."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cwjax.errors import DataError, one_line, suggestion

if TYPE_CHECKING:  # half a second, not needed when the cache answers
    import pandas as pd

_SEPARATORS = {".csv": ",", ".tsv": "\t"}


def read_frame(file: Path) -> pd.DataFrame:
    """Reads a table; the suffix says its format.

    Raises:
        DataError: no such file, another format, wrong delimiter or encoding, a ragged line, a
            column that stands twice, or no row.
    """
    import pandas as pd

    if not file.is_file():
        raise DataError(f"{file}: no such file")
    suffix = file.suffix.lower()
    if suffix not in (*_SEPARATORS, ".parquet"):
        raise DataError(f"{file}: give a file that ends in .csv, .tsv or .parquet")
    try:
        if suffix == ".parquet":
            frame = pd.read_parquet(file)
        else:
            _check_lines(file, _SEPARATORS[suffix])
            frame = pd.read_csv(
                file, sep=_SEPARATORS[suffix], encoding="utf-8-sig", low_memory=False
            )
    except DataError:
        raise
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file}: is not UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8"
        ) from error
    except Exception as error:  # each format's parser has errors of its own
        raise DataError(f"{file}: cannot be read ({one_line(error)}): fix that line") from error
    frame.columns = frame.columns.map(str)
    if not len(frame):
        raise DataError(f"{file}: has no row below its header")
    return frame.reset_index(drop=True)


def _check_lines(file: Path, separator: str) -> None:
    """Finds what pandas takes silently: a doubled column, another delimiter, a short line."""
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, delimiter=separator)
        names = next(reader, [])
        repeated = [name for name in names if names.count(name) > 1]
        if repeated:
            raise DataError(f"{file}: column {repeated[0]!r} stands twice: rename one")
        others = [other for other in ";\t|," if len(names) == 1 and other in names[0]]
        if others:
            raise DataError(
                f"{file}: its header has no {separator!r} but {others[0]!r}: separate the columns "
                "by commas in a .csv and by tabs in a .tsv"
            )
        for fields in reader:
            if fields and len(fields) != len(names):
                raise DataError(
                    f"{file}: line {reader.line_num} has {len(fields)} fields, the header has "
                    f"{len(names)}: fix that line"
                )


def require_column(file: Path, frame: pd.DataFrame, name: str, fix: str) -> None:
    """Checks that a table has a column.

    Args:
        file: for the message.
        frame: its content.
        name: of the column.
        fix: what to do, for the message.

    Raises:
        DataError: it has not, or has it twice; with the columns that it has.
    """
    names = list(frame.columns)
    if names.count(name) > 1:
        raise DataError(f"{file}: column {name!r} stands twice: rename one")
    if name not in names:
        shown = ", ".join(names[:20]) + (" …" if len(names) > 20 else "")
        raise DataError(
            f"{file}: has no column {name!r}{suggestion(name, names)}: {fix}; it has {shown}"
        )


def encode_labels(
    file: Path, column: pd.Series[Any], class_names: tuple[str, ...] | None = None
) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """Labels of any type as numbers, and the classes' names in the order of their values.

    Args:
        file: for the message.
        column: the labels.
        class_names: known already, from the training file.

    Raises:
        DataError: a label is missing, or of no known class; with its row, counted from 1.
    """
    missing = np.flatnonzero(column.isna())
    if len(missing):
        raise DataError(
            f"{file}: {column.name}: {len(missing)} of {len(column)} labels are missing, the first "
            f"in row {missing[0] + 1}: fill them in or leave these rows out"
        )
    values = column.map(_whole)
    if class_names is None:
        levels = values.unique().tolist()
        try:
            levels = sorted(levels)
        except TypeError:  # numbers and words in one column
            levels = sorted(levels, key=str)
        class_names = tuple(map(str, levels))
    numbers = {name: label for label, name in enumerate(class_names)}
    labels = values.astype(str).map(numbers)
    unknown = np.flatnonzero(labels.isna())
    if len(unknown):
        label = values.iloc[[unknown[0]]].tolist()[0]  # a number of Python's, as people write it
        raise DataError(
            f"{file}: {column.name} in row {unknown[0] + 1} is {label!r}, which no training row "
            "has: leave these rows out"
        )
    return labels.to_numpy().astype(np.int32), class_names


def to_text(value: Any) -> str:
    """A value as a text: 3 for the 3.0 that pandas makes of an integer beside a missing one."""
    return str(_whole(value))


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def encode_groups(file: Path, values: Sequence[Any]) -> npt.NDArray[np.int32]:
    """Groups of any type as numbers.

    Args:
        file: for the message.
        values: one per example.

    Raises:
        DataError: one is missing; with its row, counted from 1.
    """
    import pandas as pd

    codes, _ = pd.factorize(pd.Series(values))
    missing = np.flatnonzero(codes < 0)
    if len(missing):
        raise DataError(
            f"{file}: {len(missing)} of {len(codes)} groups are missing, the first in row "
            f"{missing[0] + 1}: give every example one"
        )
    return codes.astype(np.int32)
