"""What a study and the processes that train for it elsewhere say to each other: plain data.

Runs travel to a process once, within their chunk; on the way back they are named by their keys.
"""

from __future__ import annotations

import functools
import hashlib
import io
import pickle
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from cwjax.config import RuntimeConfig, TrainConfig
from cwjax.study.manifest import PACKAGES, installed_versions
from cwjax.training.runs import ChunkState, Run, RunKey, TrainingEvent

if TYPE_CHECKING:  # imports JAX, which trains elsewhere
    from cwjax.training.devices import DeviceFacts


@dataclass(frozen=True)
class Work:
    """What every process is told at its start."""

    train: TrainConfig
    runtime: RuntimeConfig
    cpu_threads: int  # of XLA's pool on CPU
    own_model: bytes | None  # as `pack_model` gives it


@dataclass(frozen=True)
class Greeting:
    """What a process says of itself."""

    versions: dict[str, str]
    device: DeviceFacts
    num_lanes: int  # chunks that it trains at a time


@dataclass(frozen=True)
class Prepared:
    """What must be known before the runs of a data set are cut into chunks."""

    width: int | None  # runs side by side; None on CPU
    skips_partial_batches: bool


@dataclass(frozen=True, eq=False)
class Chunk:
    """Runs that train side by side: what is pulled, kept and lost."""

    number: int
    runs: list[Run]
    width: int | None
    dataset: str  # fingerprint
    begun: ChunkState | None


@dataclass(frozen=True)
class ChunkEnded:
    """The last event of a chunk: its lane is free."""


@dataclass(frozen=True)
class ChunkTooWide:
    """The chunk did not fit into device memory."""


@dataclass(frozen=True)
class RunsFailedThere:
    """`RunsFailed` without the error itself, which may not exist elsewhere."""

    kind: str
    text: str


@dataclass(frozen=True)
class NodeFailed:
    """A chunk could not be trained for a reason that concerns the whole study."""

    error: Exception


NodeEvent: TypeAlias = TrainingEvent | RunsFailedThere | ChunkTooWide | NodeFailed | ChunkEnded


class Worker(Protocol):
    """A process that trains, as the study sees it; every call returns at once.

    Attributes:
        node: the name of its machine, for people.
    """

    node: str

    def greet(self) -> Future[Greeting]:
        """See `Node.greet`."""

    def prepare(self, dataset: str, run: Run) -> Future[Prepared]:
        """See `Node.prepare`."""

    def exchange(self, chunks: Sequence[Chunk], keep_seconds: float, stop: bool) -> Future[bytes]:
        """See `Node.exchange`."""

    def is_loss(self, error: BaseException) -> bool:
        """Whether an error of one of these calls says that the process cannot be reached."""

    def machine_lives(self) -> bool:
        """Whether the process's machine can be reached."""

    def end(self) -> None:
        """Ends the process, if it still runs."""


class Machines(Protocol):
    """The machines of a cluster."""

    def new_workers(self) -> list[Worker]:
        """Starts the processes that machines have room for and that do not run yet."""

    def left(self, worker: Worker) -> None:
        """Tells that a process has ended; another may take its place."""


@functools.cache
def versions() -> dict[str, str]:
    """What must be equal everywhere: versions, and a digest of cwjax's own source."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return {**installed_versions(PACKAGES), "the source of cwjax": digest.hexdigest()[:12]}


def dump_events(events: Iterable[tuple[int, NodeEvent]]) -> bytes:
    """Events, each with the number of its chunk, as bytes."""
    file = io.BytesIO()
    _Pickler(file, protocol=5).dump(list(events))
    return file.getvalue()


def load_events(content: bytes, runs: Mapping[RunKey, Run]) -> list[tuple[int, NodeEvent]]:
    """The opposite of `dump_events`.

    Args:
        content: of a process of this study.
        runs: all that may be named.
    """
    loaded: list[tuple[int, NodeEvent]] = _Unpickler(io.BytesIO(content), runs).load()
    return loaded


class _Pickler(pickle.Pickler):
    """Writes the key of a run in its place."""

    def persistent_id(self, thing: Any) -> RunKey | None:
        return thing.key if isinstance(thing, Run) else None


class _Unpickler(pickle.Unpickler):
    """Puts the runs of this process in the places of their keys."""

    def __init__(self, file: io.BytesIO, runs: Mapping[RunKey, Run]) -> None:
        super().__init__(file)
        self._runs = runs

    def persistent_load(self, key: RunKey) -> Run:
        return self._runs[key]
