"""Checkpoints of unfinished runs: `checkpoints/<chunk>/<number>.checkpoint` while they train.

A file is the SHA-256 of the rest, then an .npz of the runs' arrays and a header that says whose
they are. It is written as run files are, whole or not at all. Orbax is not used: it restored
partial and changed trees without a word.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cwjax.config import DataConfig, TrainConfig
from cwjax.errors import ConfigError
from cwjax.store import schema
from cwjax.store.directory import StudyDirectory
from cwjax.store.files import write_atomically
from cwjax.store.record import History
from cwjax.store.schema import CheckpointHeader, StudyFile
from cwjax.store.settings import differences
from cwjax.training.runs import ChunkState, Run, RunKey

NUM_KEPT = 2
"""Checkpoints of a chunk: the newest, and the one before it in case the newest is damaged."""

_SUFFIX = ".checkpoint"
_DIGEST_SIZE = hashlib.sha256().digest_size


@dataclass(frozen=True, eq=False)
class Saved:
    """A checkpoint as it was read, and the history of each of its runs."""

    state: ChunkState
    histories: dict[RunKey, History]


@dataclass(frozen=True)
class _Settings:
    """What must be equal for a checkpoint to be continued."""

    train: TrainConfig
    data: DataConfig
    dataset: str


class Checkpoints:
    """The checkpoints of a study's directory.

    Args:
        directory: of the study.
    """

    def __init__(self, directory: StudyDirectory) -> None:
        self._study_directory = directory
        self._directory = directory.path / "checkpoints"
        self._unfinished: dict[Path, set[RunKey]] = {}  # runs of each chunk with a checkpoint

    def save(
        self, state: ChunkState, histories: Mapping[RunKey, History], study: StudyFile
    ) -> None:
        """Writes a checkpoint; of the earlier ones the last is kept.

        Args:
            state: where the runs of a chunk stand.
            histories: of each of these runs, a row for every finished epoch.
            study: their study.

        Raises:
            OSError: it cannot be written; the earlier ones are as they were.
        """
        keys = tuple(run.key for run in state.runs)
        directory = self._directory / _chunk_name(keys)
        directory.mkdir(parents=True, exist_ok=True)
        earlier = _files(directory)
        settings = _settings(study, keys[0].cell)
        header = CheckpointHeader(
            train=settings.train,
            data=settings.data,
            dataset=settings.dataset,
            width=state.width,
            runs=keys,
            epoch=state.epoch,
            step=state.step,
            histories=tuple(tuple(dict(row) for row in histories.get(key, ())) for key in keys),
        )
        content = schema.to_npz(header, state.arrays)
        number = _number(earlier[-1]) + 1 if earlier else 1
        digest = hashlib.sha256(content).digest()
        write_atomically(directory / f"{number}{_SUFFIX}", digest + content)
        for path in earlier[: -(NUM_KEPT - 1)]:
            path.unlink()
        self._unfinished[directory] = set(keys)

    def load(self, runs: Sequence[Run], study: StudyFile) -> list[Saved]:
        """The newest sound checkpoint of every chunk of unfinished runs.

        What cannot be continued is removed: checkpoints of finished runs, of chunks that have
        finished in part, and of another width. A damaged checkpoint is passed over with a warning.

        Args:
            runs: to be trained.
            study: theirs.

        Raises:
            ConfigError: every checkpoint of a chunk is damaged, or one belongs to another study or
                to another version of cwjax.
        """
        unfinished = {run.key: run for run in runs}
        found = []
        for directory in sorted(self._directory.glob("*")):
            read = _read_newest(directory)
            if read is not None:
                header, arrays = read
                saved = _saved(directory, header, arrays, unfinished, study)
                if saved is not None:
                    found.append(saved)
                    self._unfinished[directory] = set(header.runs)
                    continue
            self._study_directory.log("checkpoint_removed", chunk=directory.name)
            shutil.rmtree(directory)
        self._remove_if_empty()
        return found

    def newest(self, runs: Sequence[Run]) -> ChunkState | None:
        """The newest sound checkpoint that `save` has written of these runs together, if any."""
        directory = self._directory / _chunk_name([run.key for run in runs])
        read = _read_newest(directory)
        if read is None:
            return None
        header, arrays = read
        return ChunkState(tuple(runs), header.epoch, header.step, arrays, header.width)

    def remove_ended(self, key: RunKey) -> None:
        """To be called when a run is stored or has failed: after the last of a chunk they go."""
        for directory, unfinished in list(self._unfinished.items()):
            unfinished.discard(key)
            if not unfinished:
                shutil.rmtree(directory)
                del self._unfinished[directory]
                self._remove_if_empty()

    def _remove_if_empty(self) -> None:
        with contextlib.suppress(OSError):  # not there, or other chunks are in it
            self._directory.rmdir()


def _settings(study: StudyFile, cell: str) -> _Settings:
    stored = study.cells[cell]
    return _Settings(study.train, stored.data, stored.dataset.fingerprint)


def _saved(
    directory: Path,
    header: CheckpointHeader,
    arrays: dict[str, np.ndarray],
    unfinished: Mapping[RunKey, Run],
    study: StudyFile,
) -> Saved | None:
    """The checkpoint, or None where there is nothing to continue."""
    cell = header.runs[0].cell
    if not all(key in unfinished for key in header.runs):
        return None
    if header.width != study.cells[cell].width:
        return None
    written = _Settings(header.train, header.data, header.dataset)
    differing = differences(written, _settings(study, cell))
    if differing:
        raise ConfigError(
            f"the checkpoint in {directory} is of another study ({'; '.join(differing)}): give "
            "what it was begun with, or remove that directory to train its runs from their start"
        )
    runs = tuple(unfinished[key] for key in header.runs)
    histories = {
        key: [{name: np.nan if x is None else x for name, x in row.items()} for row in rows]
        for key, rows in zip(header.runs, header.histories, strict=True)
    }
    state = ChunkState(runs, header.epoch, header.step, arrays, header.width)
    return Saved(state, histories)


def _chunk_name(keys: Sequence[RunKey]) -> str:
    text = "\n".join(f"{key.cell}\t{key.arm}\t{key.seed}" for key in keys)
    return f"{len(keys)}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _files(directory: Path) -> list[Path]:
    """The checkpoints of a chunk, oldest first."""
    return sorted(directory.glob(f"*{_SUFFIX}"), key=_number)


def _number(path: Path) -> int:
    return int(path.stem)


def _read_newest(directory: Path) -> tuple[CheckpointHeader, dict[str, np.ndarray]] | None:
    """The newest sound checkpoint; None if no write has ever ended."""
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
        arrays = schema.read_npz(io.BytesIO(content[_DIGEST_SIZE:]), str(path))
        return schema.checkpoint_header(arrays, str(path)), arrays
    if damaged:
        raise ConfigError(
            f"every checkpoint in {directory} is damaged: remove that directory to train its runs "
            "from their start"
        )
    return None
