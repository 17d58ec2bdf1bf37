"""A sweep's directory: what the sweep is, what became of each cell, and the cells' directories."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cwjax.errors import ConfigError
from cwjax.methods.custom_weights import remember
from cwjax.results.manifest import differences, union
from cwjax.results.store import CELLS, SCHEMA_VERSION, Store
from cwjax.sweep.config import SweepConfig

SWEEP = "sweep.json"
STATUS = "status.json"

State = Literal["pending", "running", "finished", "failed", "killed"]


@dataclass(frozen=True)
class CellStatus:
    """What became of one cell."""

    state: State = "pending"
    reasons: tuple[str, ...] = ()  # why runs failed; of a killed cell, how it was killed comes last
    failed: tuple[tuple[str, int], ...] = ()  # (arm, seed) of runs that failed, or wait for such


def cell_directory(directory: Path, cell: str) -> Path:
    """The experiment directory of a cell."""
    return directory / CELLS / cell


def enter_sweep(config: SweepConfig, store: Store) -> SweepConfig:
    """Writes `sweep.json`, after checking it against the one that is there.

    Returns:
        The sweep with all arms and seeds of its directory.

    Raises:
        ConfigError: the directory holds another sweep; the differing fields are named.
    """
    config = known_sweep(config, store.directory)
    content = {"schema_version": SCHEMA_VERSION, **config.content()}
    if content != store.read_json(SWEEP):
        store.write_json(SWEEP, content)
    return config


def known_sweep(config: SweepConfig, directory: Path) -> SweepConfig:
    """The sweep with what its directory holds already: arms and seeds may grow.

    The cells stay: together they are the family that is judged.

    Raises:
        ConfigError: the directory holds another sweep; the differing fields are named.
    """
    old = Store(directory).read_json(SWEEP)
    if old is None:
        return config
    fixed = ("schema_version", "settings", "cells")
    new = {"schema_version": SCHEMA_VERSION, **config.content()}
    differing = differences(
        {name: old.get(name) for name in fixed}, {name: new[name] for name in fixed}
    )
    if differing:
        raise ConfigError(
            f"the directory holds another sweep ({'; '.join(differing)}): give the same data sets, "
            "factors and settings, or another --out"
        )
    remember(old["custom_weights"])
    return dataclasses.replace(
        config,
        arms=tuple(union(old["arms"], list(config.arms))),
        seeds=tuple(union(old["seeds"], list(config.all_seeds))),
        null_control=old["null_control"] or config.null_control,
    )


def read_sweep(store: Store) -> dict[str, Any]:
    """The content of `sweep.json`.

    Raises:
        ConfigError: the directory is no sweep's, or another version of cwjax wrote it.
    """
    content = store.read_json(SWEEP)
    if content is None:
        raise ConfigError(f"{store.directory} holds no {SWEEP}: give a directory of a sweep")
    if content.get("schema_version") != SCHEMA_VERSION:
        raise ConfigError(
            f"{store.directory}/{SWEEP} has schema version {content.get('schema_version')}, this "
            f"cwjax reads {SCHEMA_VERSION}: give a directory that it wrote"
        )
    return content


def read_statuses(store: Store, cells: list[str]) -> dict[str, CellStatus]:
    """What became of each cell so far; what an ended process left "running" is pending again."""
    stored = store.read_json(STATUS) or {}
    statuses = {}
    for cell in cells:
        entry = stored.get(cell, {})
        state = entry.get("state", "pending")
        statuses[cell] = CellStatus(
            "pending" if state == "running" else state,
            tuple(entry.get("reasons", ())),
            tuple((arm, seed) for arm, seed in entry.get("failed", ())),
        )
    return statuses


def write_statuses(store: Store, statuses: dict[str, CellStatus]) -> None:
    """Stores what became of each cell."""
    content = {cell: dataclasses.asdict(status) for cell, status in statuses.items()}
    store.write_json(STATUS, content)


def note_killed(directory: Path, index: int, statuses: dict[str, CellStatus]) -> None:
    """Leaves word of killed cells where another process holds the directory; see `take_notes`.

    Args:
        directory: of the sweep.
        index: of the process in which they were killed.
        statuses: of all cells.
    """
    killed = {cell: status.reasons for cell, status in statuses.items() if status.state == "killed"}
    Store(directory).write_json(f"killed-{index}.json", killed)


def take_notes(store: Store, cells: list[str]) -> None:
    """Brings what `note_killed` left into `status.json`."""
    statuses = read_statuses(store, cells)
    notes = sorted(store.directory.glob("killed-*.json"))
    for note in notes:
        for cell, reasons in (store.read_json(note.name) or {}).items():
            statuses[cell] = CellStatus("killed", tuple(reasons), statuses[cell].failed)
    if notes:
        write_statuses(store, statuses)
    for note in notes:
        note.unlink()
