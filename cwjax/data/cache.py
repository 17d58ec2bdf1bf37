"""Decoded arrays kept on disk: 60,000 PNGs take over ten seconds, as one array a quarter of one.

An entry is one uncompressed .npz, whose checksums show damage. It holds a stamp of the files that
it was made from, so a changed source is read again. The cache may always be deleted: without it
the results are the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import platformdirs

from cwjax.data.dataset import Column, Dataset
from cwjax.data.duplicates import with_overlap_note

# Raise it when any source decodes to other arrays than before, or an entry holds others.
_FORMAT = 4


def cache_directory() -> Path:
    """`$CWJAX_CACHE`, or cwjax's folder in the user's cache directory."""
    return Path(os.environ.get("CWJAX_CACHE") or platformdirs.user_cache_path("cwjax"))


def cached_dataset(
    kind: str,
    source: Path,
    files: Iterable[Path | str],
    decode: Callable[[], Dataset],
    options: object = None,
) -> Dataset:
    """Take a data set from the cache, or decode it and put it there.

    Args:
        kind: what sort of source it is; starts the entry's name.
        source: the file or directory; with kind it identifies the entry.
        files: all files that decode reads; a change of path, size or time makes the entry stale.
        decode: reads the source.
        options: what else decides the result; its `repr` tells entries apart.

    Returns:
        What decode returns, or returned when the files were last as they are.

    Warns:
        RuntimeWarning: the entry is damaged or cannot be written.
    """
    place = str(source.resolve()) + (f" {options!r}" if options is not None else "")
    digest = hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()
    entry = cache_directory() / "datasets" / f"{kind}-{digest[:16]}.npz"
    stamp = _stamp(files)  # before reading: files that change meanwhile must not look fresh
    try:
        dataset = _read(entry, stamp)
    except Exception as error:  # a damaged zip file can raise nearly anything
        warnings.warn(
            f"{entry}: cannot be read ({error}); the data is decoded again",
            RuntimeWarning,
            stacklevel=2,
        )
        dataset = None
    if dataset is not None:
        return dataset
    dataset = with_overlap_note(decode())
    try:
        _write(entry, stamp, dataset)
    except OSError as error:
        warnings.warn(
            f"{entry}: cannot be written ({error}); the data is decoded again at each start, set "
            "CWJAX_CACHE to a writable directory",
            RuntimeWarning,
            stacklevel=2,
        )
    return dataset


def _stamp(files: Iterable[Path | str]) -> str:
    digest = hashlib.sha256()
    # NumPy draws the fixed splits, and only its version promises the same draw.
    digest.update(f"{_FORMAT} {np.__version__}".encode())
    for path in sorted(_absolute(str(file)) for file in files):
        stat = os.stat(path)
        digest.update(
            f"\n{path} {stat.st_size} {stat.st_mtime_ns}".encode(errors="surrogateescape")
        )
    return digest.hexdigest()


def _absolute(path: str) -> str:
    return path if os.path.isabs(path) else os.path.abspath(path)  # of 100,000 files it takes long


def _read(entry: Path, stamp: str) -> Dataset | None:
    if not entry.exists():
        return None
    with entry.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        if arrays["stamp"].item() != stamp:
            return None
        return Dataset(
            name=arrays["name"].item(),
            inputs=arrays["inputs"],
            labels=arrays["labels"],
            num_train=int(arrays["num_train"]),
            class_names=tuple(arrays["class_names"].tolist()),
            columns=tuple(Column(**column) for column in json.loads(arrays["columns"].item())),
            groups=arrays["groups"] if len(arrays["groups"]) else None,
            notes=tuple(json.loads(arrays["notes"].item())),
            is_test_held_out=bool(arrays["is_test_held_out"]),
        )


def _write(entry: Path, stamp: str, dataset: Dataset) -> None:
    """Write under another name and rename, so that no reader and no crash meets half an entry."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    no_groups = np.zeros(0, np.int32)
    temporary = entry.with_name(f"{entry.stem}-{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            np.savez(
                file,
                stamp=np.array(stamp),
                name=np.array(dataset.name),
                inputs=dataset.inputs,
                labels=dataset.labels,
                num_train=np.array(dataset.num_train),
                class_names=np.array(dataset.class_names),
                columns=np.array(json.dumps([asdict(column) for column in dataset.columns])),
                notes=np.array(json.dumps(dataset.notes)),
                is_test_held_out=np.array(dataset.is_test_held_out),
                groups=no_groups if dataset.groups is None else dataset.groups,
            )
        os.replace(temporary, entry)
    finally:
        temporary.unlink(missing_ok=True)
