"""Checkpoints of unfinished runs: `checkpoints/<chunk>/<number>.checkpoint` while they train.

A file is the SHA-256 of the rest, then an .npz of the runs' arrays and a JSON that says whose they
are. It is written as run files are, whole or not at all. Orbax is not used, because a process of a
distributed program could not save its own runs: Orbax writes NumPy arrays in process 0 alone,
without a word in the others, and refuses the arrays of one process's devices.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cwjax.errors import ConfigError
from cwjax.events import ChunkState
from cwjax.plan import Run
from cwjax.results.files import file_name, write_atomically
from cwjax.results.manifest import differences
from cwjax.results.record import History
from cwjax.results.store import Store

SCHEMA_VERSION = 1
"""Raised when a checkpoint's meaning changes; one of another version is refused."""

NUM_KEPT = 2
"""Checkpoints of a chunk: the newest, and the one before it in case the newest is damaged."""

_SUFFIX = ".checkpoint"
_DIGEST_SIZE = hashlib.sha256().digest_size


@dataclass(frozen=True, eq=False)
class Saved:
    """A checkpoint as it was read, and the history of each of its runs."""

    directory: Path
    state: ChunkState
    histories: dict[Run, History]


class Checkpoints:
    """The checkpoints of one experiment directory.

    Several processes may share the directory, as long as each names its own runs alone.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._directory = store.directory / "checkpoints"
        self._unfinished: dict[Path, set[Run]] = {}  # runs of each chunk that has a checkpoint

    def save(self, state: ChunkState, histories: Mapping[Run, History]) -> None:
        """Writes a checkpoint; of the earlier ones the last is kept.

        Args:
            state: where the runs of a chunk stand.
            histories: of each of these runs, a row for every finished epoch.

        Raises:
            OSError: it cannot be written; the earlier ones are as they were.
        """
        directory = self._directory / _chunk_name(state.runs)
        directory.mkdir(parents=True, exist_ok=True)
        earlier = _files(directory)
        about = {
            "schema_version": SCHEMA_VERSION,
            "experiment": self._experiment(),
            "width": state.width,
            "runs": [[run.arm, run.seed] for run in state.runs],
            "epoch": state.epoch,
            "step": state.step,
            "histories": [list(histories.get(run, [])) for run in state.runs],
        }
        number = _number(earlier[-1]) + 1 if earlier else 1
        write_atomically(directory / f"{number}{_SUFFIX}", _to_bytes(about, state.arrays))
        for path in earlier[: -(NUM_KEPT - 1)]:
            path.unlink()
        self._unfinished[directory] = set(state.runs)

    def load(self, runs: Sequence[Run]) -> list[Saved]:
        """The newest sound checkpoint of every chunk of unfinished runs.

        What cannot be continued is removed: checkpoints of finished runs, of chunks that have
        finished in part, and of another width. A damaged checkpoint is passed over with a warning.

        Args:
            runs: those this process trains, finished or not.

        Raises:
            ConfigError: every checkpoint of a chunk is damaged, or one belongs to another
            experiment, or to another version of cwjax.
        """
        by_key = {(run.arm, run.seed): run for run in runs}
        firsts = {_chunk_name([run]) for run in runs}
        found = []
        for directory in sorted(self._directory.glob("*")):
            if directory.name.partition("+")[0] not in firsts:
                continue  # another process's
            content = _read_newest(directory)
            chunk = [by_key.get((arm, seed)) for arm, seed in content[0]["runs"]] if content else []
            unfinished = [
                run for run in chunk if run and not self._store.has_run(run.arm, run.seed)
            ]
            if content and len(unfinished) == len(chunk) and content[0]["width"] == self._width():
                found.append(self._saved(directory, unfinished, *content))
                self._unfinished[directory] = set(unfinished)
            else:
                self._store.log("checkpoint_removed", chunk=directory.name)
                shutil.rmtree(directory)
        self._remove_if_empty()
        return found

    def remove_finished(self, run: Run) -> None:
        """To be called when `run` is stored: once all of its chunk are, its checkpoints go."""
        for directory, unfinished in list(self._unfinished.items()):
            unfinished.discard(run)
            if not unfinished:
                shutil.rmtree(directory)
                del self._unfinished[directory]
                self._remove_if_empty()

    def _remove_if_empty(self) -> None:
        with contextlib.suppress(OSError):  # not there, or other chunks are in it
            self._directory.rmdir()

    def _width(self) -> int | None:
        return (self._store.read_config() or {})["width"]

    def _experiment(self) -> dict[str, Any]:
        """What must be equal for a checkpoint to be continued."""
        config = self._store.read_config() or {}
        return {"settings": config["settings"], "dataset": config["dataset"]["fingerprint"]}

    def _saved(
        self,
        directory: Path,
        runs: Sequence[Run],
        about: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray],
    ) -> Saved:
        differing = differences(about["experiment"], self._experiment())
        if differing:
            raise _other(directory, "another experiment", differing)
        histories = dict(zip(runs, about["histories"], strict=True))
        state = ChunkState(tuple(runs), about["epoch"], about["step"], dict(arrays), about["width"])
        return Saved(directory, state, histories)


def check_shapes(saved: Saved, expected: Mapping[str, str]) -> None:
    """Checks that a checkpoint fits the model.

    Args:
        saved: as `Checkpoints.load` gave it.
        expected: name -> type and shape of every array, as `shapes_of` words them.

    Raises:
        ConfigError: an array is missing, unknown or of another type or shape; each is named.
    """
    differing = differences(shapes_of(saved.state.arrays), dict(expected))
    if differing:
        raise _other(saved.directory, "another model", differing)


def shapes_of(arrays: Mapping[str, Any]) -> dict[str, str]:
    """Name -> e.g. `float32[1, 288, 32]`."""
    return {name: f"{array.dtype}{list(array.shape)}" for name, array in arrays.items()}


def _other(directory: Path, what: str, differing: Sequence[str]) -> ConfigError:
    return ConfigError(
        f"the checkpoint in {directory} is of {what} ({'; '.join(differing)}): give what it was "
        "begun with, or remove that directory to train its runs from their start"
    )


def _chunk_name(runs: Sequence[Run]) -> str:
    """Of its first run, by which a process knows its own; no run's name has a plus in it."""
    first = f"{file_name(runs[0].arm)}-{runs[0].seed}"
    if len(runs) == 1:
        return first
    keys = json.dumps([[run.arm, run.seed] for run in runs])
    return f"{first}+{len(runs) - 1}-more-{hashlib.sha256(keys.encode()).hexdigest()[:8]}"


def _files(directory: Path) -> list[Path]:
    """The checkpoints of a chunk, oldest first."""
    return sorted(directory.glob(f"*{_SUFFIX}"), key=_number)


def _number(path: Path) -> int:
    return int(path.stem)


def _to_bytes(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, about=np.array(json.dumps(about)), **arrays)
    content = buffer.getvalue()
    return hashlib.sha256(content).digest() + content


def _read_newest(directory: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """The newest sound checkpoint as (about, arrays); None if no write has ever ended."""
    damaged: list[Path] = []
    for path in reversed(_files(directory)):
        content = path.read_bytes()
        if hashlib.sha256(content[_DIGEST_SIZE:]).digest() != content[:_DIGEST_SIZE]:
            damaged.append(path)
            continue
        for bad in damaged:
            warnings.warn(
                f"checkpoint {bad} is damaged: its SHA-256 is another; the one before it is used",
                stacklevel=2,
            )
            bad.unlink()
        return _from_bytes(path, content[_DIGEST_SIZE:])
    if damaged:
        raise ConfigError(
            f"every checkpoint in {directory} is damaged: remove that directory to train its runs "
            "from their start"
        )
    return None


def _from_bytes(path: Path, content: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    about = json.loads(str(arrays.pop("about")))
    if about["schema_version"] != SCHEMA_VERSION:
        differing = differences(about["schema_version"], SCHEMA_VERSION, "schema_version")
        raise _other(path.parent, "another version of cwjax", differing)
    return about, arrays
