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
from pathlib import Path

import numpy as np
import platformdirs

from cwjax.data.dataset import Dataset

# Raise it when any source decodes to other arrays than before.
_FORMAT = 2


def cache_directory() -> Path:
    """`$CWJAX_CACHE`, or cwjax's folder in the user's cache directory."""
    return Path(os.environ.get("CWJAX_CACHE") or platformdirs.user_cache_path("cwjax"))


def cached_dataset(
    kind: str, source: Path, files: Iterable[Path], decode: Callable[[], Dataset]
) -> Dataset:
    """Take a data set from the cache, or decode it and put it there.

    Args:
        kind: what sort of source it is; starts the entry's name.
        source: the file or directory; with kind it identifies the entry.
        files: all files that decode reads; a change of path, size or time makes the entry stale.
        decode: reads the source.

    Returns:
        What decode returns, or returned when the files were last as they are.

    Warns:
        RuntimeWarning: the entry is damaged or cannot be written.
    """
    digest = hashlib.sha256(str(source.resolve()).encode()).hexdigest()
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
    dataset = decode()
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


def _stamp(files: Iterable[Path]) -> str:
    stats = [(str(file.resolve()), file.stat()) for file in sorted(files)]
    # NumPy draws the fixed splits, and only its version promises the same draw.
    return json.dumps(
        [_FORMAT, np.__version__, [[path, s.st_size, s.st_mtime_ns] for path, s in stats]]
    )


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
        )


def _write(entry: Path, stamp: str, dataset: Dataset) -> None:
    """Write under another name and rename, so that no reader and no crash meets half an entry."""
    entry.parent.mkdir(parents=True, exist_ok=True)
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
            )
        os.replace(temporary, entry)
    finally:
        temporary.unlink(missing_ok=True)
