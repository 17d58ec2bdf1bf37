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
    take_notes,
    write_statuses,
)


class Progress:
    """The status of each cell, as the worker's messages tell it; stored whenever it changes.

    Args:
        config: the sweep, all arms and seeds of its directory included.
        directory: of the sweep.
        store: of the directory; None where another process holds it.
        retry_failed: train again whatever failed before.
        retry_killed: train again the cells in which the training process was killed before.
    """

    def __init__(
        self,
        config: SweepConfig,
        directory: Path,
        store: Store | None,
        *,
        retry_failed: bool,
        retry_killed: bool,
    ) -> None:
        self._cells = config.cells()
        self._directory = directory
        self._store = store
        self._in_flight: set[messages.Key] = set()
        self.done: messages.Done | None = None  # the worker's last word
        if store is not None:
            take_notes(store, list(self._cells))
        self.statuses = read_statuses(Store(directory), list(self._cells))
        for cell, status in self.statuses.items():
            if status.state == "killed" and retry_killed:
                status = CellStatus("pending", status.reasons[:-1], status.failed)
            if retry_failed:
                status = CellStatus()
            self.statuses[cell] = self._settled(cell, status)

    def todo(self) -> list[str]:
        """Cells that are still to be trained by this call."""
        return [cell for cell, status in self.statuses.items() if status.state == "pending"]

    def skipped(self) -> frozenset[messages.Key]:
        """Runs that are not to be trained by this call: failed ones, and all of killed cells."""
        keys: set[messages.Key] = set()
        for cell, status in self.statuses.items():
            runs = self.missing(cell) if status.state == "killed" else status.failed
            keys |= {(cell, arm, seed) for arm, seed in runs}
        return frozenset(keys)

    def missing(self, cell: str) -> list[tuple[str, int]]:
        """(arm, seed) of the cell's runs that are not stored, trained or not."""
        store = Store(cell_directory(self._directory, cell))
        return [key for key in run_keys(self._cells[cell]) if not store.has_run(*key)]

    def is_complete(self) -> bool:
        """Whether every run of every cell is stored."""
        return not any(map(self.missing, self._cells))

    def update(self, message: messages.Message) -> None:
        """Takes a message of the worker into account."""
        match message:
            case messages.Started(keys=keys):
                self._in_flight |= set(keys)
                for cell in {key[0] for key in keys}:
                    status = self.statuses[cell]
                    self._set(cell, CellStatus("running", status.reasons, status.failed))
            case messages.Stored(key=key):
                self._in_flight.discard(key)
            case messages.Failed(keys=keys, reason=reason):
                self._in_flight -= set(keys)
                for cell in {key[0] for key in keys}:
                    self._add_failed(cell, [key[1:] for key in keys if key[0] == cell], reason)
            case messages.Done():
                self.done = message
                self._settle()

    def worker_lost(self, ending: str) -> list[str]:
        """The worker ended without a word: the cells of the runs in flight are killed.

        Args:
            ending: how it ended.

        Returns:
            These cells.
        """
        killed = sorted({key[0] for key in self._in_flight})
        for cell in killed:
            runs = [key[1:] for key in self._in_flight if key[0] == cell]
            reason = f"{ending} while it trained {_names(sorted(runs))}"
            status = self.statuses[cell]
            self._set(cell, CellStatus("killed", (*status.reasons, reason), status.failed))
        self._in_flight.clear()
        self._settle()
        return killed

    def _add_failed(self, cell: str, runs: list[tuple[str, int]], reason: str) -> None:
        status = self.statuses[cell]
        reasons = (*status.reasons, f"{_names(runs)}: {reason}")
        self._set(cell, CellStatus(status.state, reasons, (*status.failed, *runs)))

    def _settle(self) -> None:
        for cell, status in self.statuses.items():
            self._set(cell, self._settled(cell, status))

    def _settled(self, cell: str, status: CellStatus) -> CellStatus:
        """The status of a cell of which nothing is in flight."""
        missing = self.missing(cell)
        if not missing:
            return CellStatus("finished")
        if status.state == "killed":
            return status
        failed = tuple(key for key in status.failed if key in missing)
        if not failed:
            return CellStatus("pending")
        # Once all is done, what else is missing is another process's.
        state: State = "failed" if self.done or len(failed) == len(missing) else "pending"
        return CellStatus(state, status.reasons, failed)

    def _set(self, cell: str, status: CellStatus) -> None:
        if status != self.statuses[cell]:
            self.statuses[cell] = status
            if self._store is not None:
                write_statuses(self._store, self.statuses)


def _names(runs: list[tuple[str, int]]) -> str:
    return ", ".join(f"{arm} seed {seed}" for arm, seed in runs)
