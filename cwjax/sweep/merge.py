"""Puts together what was trained apart: directories of one experiment or of one sweep.

The shares of a sweep (`--shard`), the directories of hosts without a common file system, or
comparisons of the same settings with other arms or seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cwjax.errors import ConfigError
from cwjax.results.contents import arm_names, refuse_foreign_runs
from cwjax.results.derive import derive
from cwjax.results.examples import EXAMPLES
from cwjax.results.files import write_atomically
from cwjax.results.manifest import continued, differences, union
from cwjax.results.store import CONFIG, Store, open_store
from cwjax.sweep.derive import derive_sweep
from cwjax.sweep.directory import (
    SWEEP,
    CellStatus,
    State,
    cell_directory,
    read_statuses,
    read_sweep,
    write_statuses,
)


def merge(
    directories: Sequence[Path], out: Path, *, allow_environment_change: bool
) -> dict[str, Any]:
    """Merges directories into `out` and derives its tables; the directories stay as they are.

    Args:
        directories: at least two, all of experiments or all of sweeps.
        out: a new directory, or one that the same directories were merged into before.
        allow_environment_change: put runs of different versions or devices together, and record it.

    Returns:
        The content of the `comparison.json`.

    Raises:
        ConfigError: they are of different experiments, hold different files of one run, or a run is
            missing or damaged.
    """
    sweeps = [(directory / SWEEP).is_file() for directory in directories]
    if any(sweeps) and not all(sweeps):
        raise ConfigError(
            f"{directories[sweeps.index(False)]} is no sweep's directory, others are: give "
            "directories of one kind"
        )
    sources = [Store(directory) for directory in directories]
    if all(sweeps):
        return _merge_sweeps(sources, out, allow_environment_change)
    content = _merged_config(sources, allow_environment_change)
    with open_store(out) as store:
        _merge_experiment(content, sources, store)
        return derive(store)


def _merge_sweeps(
    sources: Sequence[Store], out: Path, allow_environment_change: bool
) -> dict[str, Any]:
    sweep = _merged_sweep(sources)
    merged = {}
    for cell in sweep["cells"]:  # checked before anything is written
        stores = [Store(cell_directory(source.directory, cell)) for source in sources]
        stores = [store for store in stores if (store.directory / CONFIG).is_file()]
        merged[cell] = stores, _merged_config(stores, allow_environment_change) if stores else None
    with open_store(out, SWEEP) as store:
        store.write_json(SWEEP, sweep)
        for cell, (stores, content) in merged.items():
            if content is not None:
                with open_store(cell_directory(out, cell)) as cell_store:
                    _merge_experiment(content, stores, cell_store)
        write_statuses(store, _merged_statuses(sources, store, sweep))
        return derive_sweep(store)


def _merged_sweep(sources: Sequence[Store]) -> dict[str, Any]:
    first, *others = (read_sweep(source) for source in sources)
    for source, other in zip(sources[1:], others, strict=True):
        fixed = ("settings", "cells")
        differing = differences({n: first[n] for n in fixed}, {n: other[n] for n in fixed})
        if differing:
            raise ConfigError(
                f"{source.directory} holds another sweep than {sources[0].directory} "
                f"({'; '.join(differing)}): give shares of one sweep"
            )
        first = first | {
            "arms": union(first["arms"], other["arms"]),
            "seeds": union(first["seeds"], other["seeds"]),
            "null_control": first["null_control"] or other["null_control"],
            "custom_weights": first["custom_weights"] | other["custom_weights"],
        }
    return first


def _merged_config(sources: Sequence[Store], allow_environment_change: bool) -> dict[str, Any]:
    first, *others = (_config(source) for source in sources)
    for source, other in zip(sources[1:], others, strict=True):
        try:
            first = _merged_pair(first, other, allow_environment_change)
        except ConfigError as error:
            raise ConfigError(f"{source.directory}: {error}") from error
    return first


def _merged_pair(
    first: dict[str, Any], other: dict[str, Any], allow_environment_change: bool
) -> dict[str, Any]:
    """One `config.json` for the runs of two; the width counts as part of the environment."""
    old, new = (
        content | {"environment": content["environment"] | {"width": content["width"]}}
        for content in (first, other)
    )
    merged = continued(new, old, allow_environment_change=allow_environment_change)
    changes = union(merged["environment_changes"], other["environment_changes"])
    # Equal on the seeds of one directory alone is not equal.
    equal_arms = {
        arm: same
        for arm, same in (first["equal_arms"] | other["equal_arms"]).items()
        if all(content["equal_arms"].get(arm) == same or arm not in content["arms"]
               for content in (first, other))
    }  # fmt: skip
    kept = {"environment": first["environment"], "environment_changes": changes}
    return merged | kept | {"equal_arms": equal_arms}


def _config(source: Store) -> dict[str, Any]:
    content = source.read_config()
    if content is None:
        raise ConfigError(f"{source.directory} holds no {CONFIG}: give a directory of results")
    refuse_foreign_runs(source, content)  # they would not be copied
    return content


def _merge_experiment(content: dict[str, Any], sources: Sequence[Store], store: Store) -> None:
    """Copies every run, checked, and what the report needs of the data set."""
    old = store.read_config()
    if old is not None:  # an earlier merge; it may have been interrupted
        continued(content, old, allow_environment_change=True)
    store.write_json(CONFIG, content)
    examples = next(path for source in sources if (path := source.directory / EXAMPLES).is_file())
    store.write_bytes(EXAMPLES, examples.read_bytes())
    for arm in arm_names(content):
        for seed in content["seeds"]:
            for source in sources:
                if source.has_run(arm, seed):
                    _copy_run(source, store, arm, seed)


def _copy_run(source: Store, store: Store, arm: str, seed: int) -> None:
    source.read_run(arm, seed)  # a damaged file must not spread
    content = source.run_path(arm, seed).read_bytes()
    target = store.run_path(arm, seed)
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        write_atomically(target, content)
    elif target.read_bytes() != content:
        raise ConfigError(
            f"{source.run_path(arm, seed)} differs from {target}: the same run was trained twice "
            "with different results; leave one of the directories out"
        )


def _merged_statuses(
    sources: Sequence[Store], store: Store, sweep: dict[str, Any]
) -> dict[str, CellStatus]:
    """Finished where every run is there now; otherwise failed if a reason is known, or pending."""
    cells = list(sweep["cells"])
    known = [read_statuses(source, cells) for source in sources]
    statuses = {}
    for cell in cells:
        merged = Store(cell_directory(store.directory, cell))
        keys = [(arm, seed) for arm in arm_names(sweep) for seed in sweep["seeds"]]
        missing = [key for key in keys if not merged.has_run(*key)]
        reasons = tuple(reason for each in known for reason in each[cell].reasons)
        failed = tuple(key for each in known for key in each[cell].failed if key in missing)
        if missing:
            lacking = f"{len(missing)} of {len(keys)} runs are in none of the directories"
            state: State = "failed" if reasons else "pending"
            statuses[cell] = CellStatus(state, (*reasons, lacking), failed)
        else:
            statuses[cell] = CellStatus("finished")
    return statuses
