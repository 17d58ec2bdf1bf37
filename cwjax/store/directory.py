"""The directory of a study: immutable run files, everything else derived from them.

A run's file is written once, atomically, and never changed. Whatever happens, the directory holds
whole runs and nothing else; the same command continues where it stopped.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from filelock import FileLock, Timeout

from cwjax.errors import ConfigError
from cwjax.store import schema
from cwjax.store.files import file_name, write_atomically
from cwjax.store.schema import ModelHeader, RunHeader, RunRecord, StudyFile
from cwjax.training.runs import RunKey

Found = TypeVar("Found", RunHeader, RunRecord)

STUDY = "study.json"
"""Tells what the directory of a study is."""

MODELS = "models"
"""Folder of kept models."""


class StudyDirectory:
    """The directory of one study, written by one process at a time.

    Args:
        path: of the directory; `open_study` sees to it that nobody else writes there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def run_path(self, key: RunKey) -> Path:
        """Where the run's file is or will be."""
        return self.path / "runs" / key.cell / f"{file_name(key.arm)}-{key.seed}.npz"

    def has_run(self, key: RunKey) -> bool:
        """Whether the run is finished."""
        return self.run_path(key).exists()

    def write_run(self, record: RunRecord) -> None:
        """Writes a finished run, whole or not at all.

        Raises:
            FileExistsError: the run is there already; a run is never changed.
        """
        path = self.run_path(record.key)
        if path.exists():
            raise FileExistsError(f"{path} is a finished run; it is never written again")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, schema.run_to_bytes(record))

    def read_run(self, key: RunKey) -> RunRecord:
        """Reads a finished run back.

        Raises:
            ConfigError: the file is damaged, foreign or of another schema version.
        """
        return self._read(key, schema.run_from_npz)

    def read_run_header(self, key: RunKey) -> RunHeader:
        """Reads what a finished run's file says of it, without its arrays; errors as `read_run`."""
        return self._read(key, schema.run_header)

    def _read(self, key: RunKey, parse: Callable[[BinaryIO, str], Found]) -> Found:
        path = self.run_path(key)
        name = str(path.relative_to(self.path))
        try:
            with path.open("rb") as file:
                found = parse(file, name)
        except ConfigError as error:
            raise ConfigError(f"{error}: remove it to train the run again") from error
        if found.key != key:
            raise ConfigError(
                f"{name} holds {found.key} of {found.key.cell}, not {key} of {key.cell}: it was "
                "renamed or copied; remove it to train the run again"
            )
        return found

    def model_path(self, key: RunKey) -> Path:
        """Where the run's trained model is, if it was kept."""
        return self.path / MODELS / key.cell / self.run_path(key).name

    def has_model(self, key: RunKey) -> bool:
        """Whether the run's model was kept."""
        return self.model_path(key).exists()

    def write_model(self, header: ModelHeader, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes a trained model, whole or not at all; its run's file comes after it."""
        name = str(self.model_path(header.key).relative_to(self.path))
        self.write_bytes(name, schema.to_npz(header, arrays))

    def read_model(self, key: RunKey) -> tuple[ModelHeader, dict[str, np.ndarray]]:
        """Reads a kept model: of a run that was not trained the one that answers it.

        Returns:
            The header of the run that was trained and all arrays: those of `step.kept_arrays`, the
            fields `EVALUATED` of its row as `row/scale`, and of a post-hoc arm `adjustment/shift`
            and `adjustment/divisor`.

        Raises:
            ConfigError: it was not kept, or a file is missing, damaged or foreign.
        """
        path = self.model_path(key)
        name = str(path.relative_to(self.path))
        if not path.exists():
            raise ConfigError(
                f"{self.path} holds no model of {key}: train it with --keep-models, in a new "
                "directory"
            )
        with path.open("rb") as file:
            header, arrays = schema.model_from_npz(file, name)
        if header.key != key:
            raise ConfigError(f"{name} holds the model of {header.key}: it was renamed or copied")
        if header.made_from is None:
            return header, arrays
        if header.is_adjusted and not arrays:
            raise ConfigError(
                f"{key.arm} does not say what it makes of new logits: take {header.made_from}, or "
                "return Adjusted(..., adjustment=...) from its scheme"
            )
        trained, of_trained = self.read_model(header.made_from)
        return trained, {**of_trained, **arrays}

    def read_study(self) -> StudyFile | None:
        """`study.json`, or None in a new directory.

        Raises:
            ConfigError: it is damaged or of another schema version, or the directory is the first
                edition's.
        """
        path = self.path / STUDY
        if path.is_file():
            return schema.read_study(path.read_bytes(), STUDY)
        for first_edition in ("config.json", "sweep.json"):
            if (self.path / first_edition).is_file():
                raise ConfigError(
                    f"{self.path} was written by cwjax 0.1 ({first_edition}): use that version for "
                    "it, or give another directory"
                )
        return None

    def known_study(self) -> StudyFile:
        """`study.json` of a directory that must have one; errors as `read_study`.

        Raises:
            ConfigError: there is none.
        """
        if not self.path.is_dir():
            raise ConfigError(f"{self.path}: no such directory: give a directory of results")
        study = self.read_study()
        if study is None:
            raise ConfigError(f"{self.path} holds no {STUDY}: give a directory of results")
        return study

    def write_study(self, study: StudyFile) -> None:
        """Writes `study.json`."""
        self.write_bytes(STUDY, schema.to_json(study))

    def write_text(self, name: str, text: str) -> None:
        """Writes a derived text file."""
        self.write_bytes(name, text.encode())

    def write_bytes(self, name: str, content: bytes) -> None:
        """Writes a derived file; its folder is made if need be."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)

    def log(self, event: str, **fields: Any) -> None:
        """Appends an event to `log.jsonl`, the only file with clock times in it."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **fields})
        with (self.path / "log.jsonl").open("a") as file:
            file.write(line + "\n")


def check_directory(directory: Path) -> None:
    """Refuses a path that cannot be a study's directory, without creating anything.

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
    if directory.is_dir() and StudyDirectory(directory).read_study() is None:
        foreign = sorted(p.name for p in directory.iterdir() if not _is_ours_unfinished(p.name))
        if foreign:
            raise ConfigError(
                f"--out {directory} holds {foreign[0]} but no {STUDY}: give a new directory"
            )


def _is_ours_unfinished(name: str) -> bool:
    return name in {"log.jsonl", ".lock", ".holder"} or name.startswith(".tmp-")


@contextmanager
def open_study(directory: Path) -> Iterator[StudyDirectory]:
    """Creates or continues a study's directory and holds its lock.

    The lock belongs to the process, not to the file: it ends with the process however that dies, so
    a lock file left behind means nothing.

    Raises:
        ConfigError: the path cannot be used, or another process holds it.
    """
    check_directory(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {directory} cannot be created: {error.strerror}") from error
    holder = directory / ".holder"
    lock = FileLock(directory / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        name = holder.read_text(errors="replace") if holder.exists() else "another process"
        raise ConfigError(
            f"--out {directory} is in use by {name}: wait for it, or give another directory"
        ) from error
    try:
        for leftover in directory.rglob(".tmp-*"):
            leftover.unlink()
        holder.write_text(f"process {os.getpid()} on {platform.node()}")
        yield StudyDirectory(directory)
    finally:
        holder.unlink(missing_ok=True)
        lock.release()  # the file stays: unlinking it would race with the next holder
