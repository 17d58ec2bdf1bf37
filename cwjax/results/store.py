"""The experiment directory: one immutable file a finished run, everything else derived from them.

A run's file is written once, atomically, and never changed. Whatever happens, the directory holds
whole runs and nothing else; the same command continues where it stopped. A sweep's directory is
held and written in the same way; its runs are in the directories of its cells.
"""

from __future__ import annotations

import io
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from cwjax.errors import ConfigError
from cwjax.results.files import file_name, write_atomically
from cwjax.results.record import RunRecord

SCHEMA_VERSION = 1
"""Raised when a file's meaning changes; a directory of another version is refused."""

CONFIG = "config.json"
"""Tells what an experiment directory is; a sweep's has another."""

CELLS = "cells"
"""Directory of a sweep that holds the cells' experiment directories."""


class Store:
    """One experiment directory, held by one process at a time.

    Args:
        directory: of the experiment.
        is_held: by this process; `open_store` sees to it.
    """

    def __init__(self, directory: Path, *, is_held: bool = False) -> None:
        self.directory = directory
        self.is_held = is_held
        self._runs = directory / "runs"

    def run_path(self, arm: str, seed: int) -> Path:
        """Where the run's file is or will be."""
        return self._runs / f"{file_name(arm)}-{seed}.npz"

    def has_run(self, arm: str, seed: int) -> bool:
        """Whether the run is finished."""
        return self.run_path(arm, seed).exists()

    def write_run(self, record: RunRecord) -> None:
        """Writes a finished run, whole or not at all.

        Raises:
            FileExistsError: the run is there already; a run is never changed.
        """
        path = self.run_path(record.arm, record.seed)
        if path.exists():
            raise FileExistsError(f"{path} is a finished run; it is never written again")
        self._runs.mkdir(exist_ok=True)
        arrays = {
            "about": np.array(
                json.dumps(
                    {
                        "schema_version": SCHEMA_VERSION,
                        "arm": record.arm,
                        "seed": record.seed,
                        "status": record.status,
                        "scores": record.scores,
                    }
                )
            ),
            **{f"class_scores/{name}": value for name, value in record.class_scores.items()},
            **{f"history/{name}": value for name, value in record.history.items()},
            **{name: getattr(record, name) for name in _PLAIN_ARRAYS},
        }
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        write_atomically(path, buffer.getvalue())

    def read_run(self, arm: str, seed: int) -> RunRecord:
        """Reads a finished run back.

        Raises:
            ConfigError: the file is damaged, foreign or of another schema version.
        """
        path = self.run_path(arm, seed)
        try:
            # Opened here, since np.load leaves a damaged file open.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            about = json.loads(str(arrays["about"]))
            if about["schema_version"] != SCHEMA_VERSION:
                raise ConfigError(
                    f"{path.name} has schema version {about['schema_version']}, this cwjax writes "
                    f"{SCHEMA_VERSION}: give another --out"
                )
            if (about["arm"], about["seed"]) != (arm, seed):
                raise ConfigError(
                    f"{path.name} holds arm {about['arm']} seed {about['seed']}, not {arm} seed "
                    f"{seed}: it was renamed or copied; remove it to train the run again"
                )
            return RunRecord(
                arm=arm,
                seed=seed,
                status=about["status"],
                scores=about["scores"],
                class_scores=_group(arrays, "class_scores/"),
                history=_group(arrays, "history/"),
                **{name: arrays[name] for name in _PLAIN_ARRAYS},
            )
        except ConfigError:
            raise
        except Exception as error:  # np.load, zipfile and json each have errors of their own
            raise ConfigError(
                f"{path.name} is not a whole run file ({type(error).__name__}: {error}): remove it "
                "to train the run again"
            ) from error

    def read_config(self) -> dict[str, Any] | None:
        """`config.json`, or None in a new directory."""
        return self.read_json(CONFIG)

    def read_json(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the directory, or None where it is missing.

        Raises:
            ConfigError: it is damaged.
        """
        path = self.directory / name
        if not path.exists():
            return None
        try:
            return json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise ConfigError(f"{path.name} is not JSON ({error}): give another --out") from error

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes a derived JSON file; NaN is refused, since JSON has none."""
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        self.write_text(name, text + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Writes a derived text file."""
        write_atomically(self.directory / name, text.encode())

    def write_bytes(self, name: str, content: bytes) -> None:
        """Writes a derived binary file."""
        write_atomically(self.directory / name, content)

    def log(self, event: str, **fields: Any) -> None:
        """Appends an event to `log.jsonl`, the only file with clock times in it."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **fields})
        with (self.directory / "log.jsonl").open("a") as file:
            file.write(line + "\n")


_PLAIN_ARRAYS = (
    "confusion_matrix",
    "test_logits",
    "validation_logits",
    "class_counts",
    "class_weights",
    "head_kernel",
    "head_bias",
)


def _group(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(prefix): value
        for name, value in arrays.items()
        if name.startswith(prefix)
    }


def check_directory(directory: Path, marker: str = CONFIG) -> None:
    """Refuses a path that cannot be an experiment directory, without creating anything.

    Args:
        directory: may exist or not.
        marker: the file that tells what the directory is.

    Raises:
        ConfigError: it is a file, not writable, or holds something else.
    """
    if directory.exists() and not directory.is_dir():
        raise ConfigError(f"--out {directory} is a file: give a directory")
    nearest = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise ConfigError(f"--out {directory}: {nearest} is a file: give a directory")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ConfigError(f"--out {directory}: {nearest} is not writable: give another directory")
    if directory.is_dir() and not (directory / marker).exists():
        foreign = sorted(p.name for p in directory.iterdir() if not _is_ours_unfinished(p.name))
        if foreign:
            raise ConfigError(
                f"--out {directory} holds {foreign[0]} but no {marker}: give a new directory"
            )


def _is_ours_unfinished(name: str) -> bool:
    return name in {"runs", "log.jsonl", ".lock", ".holder"} or name.startswith(".tmp-")


@contextmanager
def open_store(directory: Path, marker: str = CONFIG) -> Iterator[Store]:
    """Creates or continues an experiment directory and holds its lock.

    The lock belongs to the process, not to the file: it ends with the process however that dies, so
    a lock file left behind means nothing.

    Raises:
        ConfigError: the path cannot be used, or another process holds it.
    """
    check_directory(directory, marker)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {directory} cannot be created: {error.strerror}") from error
    holder = directory / ".holder"
    lock = FileLock(directory / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        name = holder.read_text() if holder.exists() else "another process"
        raise ConfigError(
            f"--out {directory} is in use by {name}: wait for it, or give another directory"
        ) from error
    try:
        for leftover in directory.rglob(".tmp-*"):
            if CELLS not in leftover.relative_to(directory).parts:  # others may hold those
                leftover.unlink()
        holder.write_text(f"process {os.getpid()} on {platform.node()}")
        yield Store(directory, is_held=True)
    finally:
        holder.unlink(missing_ok=True)
        lock.release()  # the file stays: unlinking it would race with the next holder
