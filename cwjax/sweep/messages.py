"""What the process that trains a sweep tells the one that watches it; small and picklable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Key: TypeAlias = tuple[str, str, int]  # cell, arm, seed


@dataclass(frozen=True)
class Joined:
    """The devices are there, and so are the other processes; this one waits for its job."""

    index: int
    count: int
    holds: bool  # the directory; False where another process holds it for this one too


@dataclass(frozen=True)
class Laid:
    """The work of this process is known."""

    num_runs: int  # of all cells, finished ones included
    num_finished: int
    num_examples: int  # to train on, over all epochs


@dataclass(frozen=True)
class Started:
    """Runs began to train."""

    keys: tuple[Key, ...]


@dataclass(frozen=True)
class Trained:
    """So many examples more."""

    num_examples: int


@dataclass(frozen=True)
class Stored:
    """A run is finished; its score on the primary metric, None if it diverged."""

    key: Key
    score: float | None


@dataclass(frozen=True)
class Failed:
    """Runs ended in an error, or would be computed from such runs; here or in another process."""

    keys: tuple[Key, ...]
    reason: str


@dataclass(frozen=True)
class Refused:
    """Nothing can be trained, for a reason that the user can mend."""

    reason: str


@dataclass(frozen=True)
class Waiting:
    """This process has trained its share and waits for the others."""


@dataclass(frozen=True)
class Stopped:
    """As asked: what was in flight is saved."""


@dataclass(frozen=True)
class Done:
    """Every run of this process (and, with several hosts, of all) has ended."""

    has_all: bool  # the directory: every run that did not fail is in it


Message: TypeAlias = (
    Joined | Laid | Started | Trained | Stored | Failed | Refused | Waiting | Stopped | Done
)
