"""The sources of data, by the name that `--dataset` takes, and `load_dataset`.

To add one, write a module with `read(place, options) -> Dataset` and add its line to `SOURCES`:
`--help`, messages and docs take it from there.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cwjax.config import SourceConfig
from cwjax.errors import ConfigError, DataError

if TYPE_CHECKING:
    from cwjax.data.dataset import Dataset


@dataclass(frozen=True)
class ReadOptions:
    """What readers may need to know besides the place.

    Attributes:
        data_dir: directory of prepared TensorFlow Datasets, looked into before `$TFDS_DATA_DIR`
            and `~/tensorflow_datasets`.
        source: how files of the user's own are read.
        progress: called with how many of how many files are read, where that takes long.
    """

    data_dir: Path | None = None
    source: SourceConfig = field(default_factory=SourceConfig)
    progress: Callable[[int, int], None] | None = None


@dataclass(frozen=True)
class Source:
    """Where examples come from.

    Attributes:
        reader: module with `read(place, options) -> Dataset`; imported on first use.
        about: one line for people.
        place: what follows the colon, e.g. DIR; empty if nothing does.
        settings: fields of `SourceConfig` that it takes.
    """

    reader: str
    about: str
    place: str = ""
    settings: tuple[str, ...] = ()


SOURCES: dict[str, Source] = {
    "mnist5k": Source("cwjax.data.readers.mnist5k", "5,000 MNIST digits, installed with cwjax"),
    "mnist": Source("cwjax.data.readers.tfds", "through TensorFlow Datasets"),
    "fashion_mnist": Source("cwjax.data.readers.tfds", "through TensorFlow Datasets"),
    "idx": Source("cwjax.data.readers.idx", "the four files of MNIST's format", "DIR"),
    "npz": Source("cwjax.data.readers.npz", "NumPy arrays of your own", "FILE", ("group_column",)),
    "folder": Source(
        "cwjax.data.readers.folder",
        "images of any format, a directory per class",
        "DIR",
        ("image_size", "grey", "skip_bad_images", "group_file"),
    ),
    "features": Source(
        "cwjax.data.readers.features",
        "embeddings in an .npz or .parquet file",
        "FILE",
        ("label_column", "test_file", "group_column"),
    ),
    "table": Source(
        "cwjax.data.readers.table",
        "numbers and categories in a .csv, .tsv or .parquet file",
        "FILE",
        (
            "label_column",
            "test_file",
            "drop_columns",
            "numeric_columns",
            "categorical_columns",
            "group_column",
        ),
    ),
    "tfds": Source(
        "cwjax.data.readers.tfds",
        "image-classification sets of TensorFlow Datasets",
        "NAME",
        ("image_size", "grey", "skip_bad_images"),
    ),
    "sklearn": Source(
        "cwjax.data.readers.sklearn", "digits, wine or breast_cancer, installed with cwjax", "NAME"
    ),
}


def source_names() -> str:
    """Every source as one types it, e.g. `mnist5k, mnist, fashion_mnist, idx:DIR or npz:FILE`."""
    *names, last = [name + f":{s.place}" * bool(s.place) for name, s in SOURCES.items()]
    return f"{', '.join(names)} or {last}"


def load_dataset(spec: str, options: ReadOptions | None = None) -> Dataset:
    """Loads a data set, from the cache of decoded arrays where its source has not changed since.

    Args:
        spec: the source's name, and for some a colon and the place, e.g. `npz:mine.npz`.
        options: see `ReadOptions`.

    Raises:
        ConfigError: an unknown source.
        DataError: the source is missing, damaged or unusable, or there is no network.

    Warns:
        UserWarning: what the reader noticed about the data, e.g. test examples that are in the
            training file.
        RuntimeWarning: the cache is damaged or cannot be written; the result is the same.
    """
    name, _, place = spec.partition(":")
    source = SOURCES.get(name)
    if source is None or bool(source.place) != bool(place):
        raise ConfigError(f"--dataset is {spec!r}{_hint(spec)}: choose {source_names()}")
    options = options or ReadOptions()
    _check_settings(name, source, options.source)
    read = importlib.import_module(source.reader).read
    try:
        dataset: Dataset = read(place or name, options)
    except OSError as error:  # e.g. a name that is too long, a directory that may not be read
        raise DataError(f"--dataset {spec:.200}: cannot be read ({error.strerror})") from error
    dataset.warn(stacklevel=2)
    return dataset


def settings_by_source(datasets: Sequence[str], settings: SourceConfig) -> dict[str, SourceConfig]:
    """For several data sets read under the same flags: to each the settings that it takes.

    A setting that none takes stays with all, so that `load_dataset` refuses it.

    Args:
        datasets: each as `--dataset` takes it.
        settings: of all of them.
    """
    sources = {name: SOURCES.get(name.partition(":")[0]) for name in datasets}
    own = {name: set(source.settings if source else ()) for name, source in sources.items()}
    taken, default = set().union(*own.values()), SourceConfig()
    return {
        name: replace(settings, **{each: getattr(default, each) for each in taken - mine})
        for name, mine in own.items()
    }


def _check_settings(name: str, source: Source, settings: SourceConfig) -> None:
    for each in fields(settings):
        given = getattr(settings, each.name) != each.default
        if given and each.name not in source.settings:
            takers = [f"{other}:" for other, s in SOURCES.items() if each.name in s.settings]
            raise ConfigError(
                f"--{each.name.replace('_', '-')} is a setting of {' and '.join(takers)}, not of "
                f"{name}: leave it out"
            )


_SUFFIXES = {".npz": "npz", ".csv": "table", ".tsv": "table", ".parquet": "table"}


def _hint(spec: str) -> str:
    """What somebody who gives a bare path means."""
    place = Path(spec)
    kind = _SUFFIXES.get(place.suffix.lower()) or ("folder" if place.is_dir() else None)
    return f" (did you mean {kind}:{spec}?)" if kind and spec else ""


def user_path(place: str) -> Path:
    """The path of a place that the user typed, with `~` expanded.

    Raises:
        ConfigError: `~name` of a user that does not exist.
    """
    try:
        return Path(place).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{place}: {error}: give the path without ~") from None


def require_memory(file: Path, num_bytes: int) -> None:
    """Refuses data that this machine cannot hold, before they are read; for readers to call.

    Args:
        file: where the data are, for the message.
        num_bytes: size of the data once they are unpacked.

    Raises:
        DataError: that is more than the machine's memory.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if num_bytes > memory:
        raise DataError(
            f"{file}: holds {num_bytes / 2**30:,.1f} GiB once unpacked, this machine has "
            f"{memory / 2**30:,.1f} GiB of memory: give fewer or smaller images"
        )
