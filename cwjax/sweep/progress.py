"""What became of each cell of a sweep while its runs are trained."""

from __future__ import annotations

from pathlib import Path

from cwjax.cell import run_keys
from cwjax.results.store import Store
from cwjax.sweep import messages
from cwjax.sweep.config import SweepConfig
from cwjax.sweep.directory import (
    CellStatus,
    State,
    cell_directory,
    read_statuses,
    write_statuses,
)


class Progress:
    """The status of each cell, as the worker's messages tell it; stored whenever it changes.

    Args:
        config: the sweep, all arms and seeds of its directory included.
        directory: of the sweep.
        store: of the directory; None where another process holds it.
        retry_failed: failed cells are pending again.
    """

    def __init__(
        self, config: SweepConfig, directory: Path, store: Store | None, *, retry_failed: bool
    ) -> None:
        self._cells = config.cells()
        self._directory = directory
        self._store = store
        self._in_flight: set[messages.Key] = set()
        self.done = False
        self.statuses = read_statuses(Store(directory), list(self._cells))
        for cell, status in self.statuses.items():
            if self.missing(cell) and (status.state != "failed" or retry_failed):
                self.statuses[cell] = CellStatus()  # killed ones are always tried again
        self._tried: set[str] = set()

    @property
    def lost(self) -> list[str]:
        """Cells in which the training process was killed."""
        return [cell for cell, status in self.statuses.items() if status.state == "killed"]

    def todo(self) -> list[str]:
        """Cells that are still to be trained by this call."""
        pending = [cell for cell, status in self.statuses.items() if status.state == "pending"]
        return pending

    def skipped(self) -> frozenset[str]:
        """Cells that are not to be trained by this call."""
        return frozenset(self._cells) - set(self.todo())

    def missing(self, cell: str) -> list[tuple[str, int]]:
        """(arm, seed) of the cell's runs that are not stored, trained or not."""
        store = Store(cell_directory(self._directory, cell))
        return [key for key in run_keys(self._cells[cell]) if not store.has_run(*key)]

    def update(self, message: messages.Message) -> None:
        """Takes a message of the worker into account."""
        match message:
            case messages.Started(keys=keys):
                self._in_flight |= set(keys)
                for cell in {key[0] for key in keys}:
                    self._set(cell, "running", self.statuses[cell].reasons)
            case messages.Stored(key=key):
                self._in_flight.discard(key)
            case messages.Failed(keys=keys, reason=reason):
                self._in_flight -= set(keys)
                for cell, arm, seed in keys:
                    reasons = self.statuses[cell].reasons
                    self._set(cell, "running", (*reasons, f"{arm} seed {seed}: {reason}"))
            case messages.Done():
                self.done = True
                self._settle()

    def worker_lost(self, ending: str) -> None:
        """The worker ended without a word: the cells of the runs in flight are marked killed."""
        for cell in sorted({key[0] for key in self._in_flight}):
            runs = [f"{arm} seed {seed}" for name, arm, seed in self._in_flight if name == cell]
            reason = f"{ending} while it trained {', '.join(sorted(runs))}"
            self._set(cell, "killed", (reason,))
        self._in_flight.clear()
        for cell, status in self.statuses.items():
            if status.state == "running" and not status.reasons:
                self._set(cell, "pending")
        self._settle()

    def _settle(self) -> None:
        """Cells that are not in flight any more are finished, failed or still pending."""
        for cell, status in self.statuses.items():
            if not self.missing(cell):
                self._set(cell, "finished")
            elif status.state == "running":
                self._set(cell, "failed" if status.reasons else "pending", status.reasons)

    def _set(self, cell: str, state: State, reasons: tuple[str, ...] = ()) -> None:
        status = CellStatus(state, reasons)
        if status != self.statuses[cell]:
            self.statuses[cell] = status
            if self._store is not None:
                write_statuses(self._store, self.statuses)
