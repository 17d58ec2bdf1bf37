"""The one driver behind every script: runs are trained and stored, all else is derived.

`run` yields events and prints nothing; whoever calls it draws the progress.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from cwjax.cell import Cell, enter, store_untrained
from cwjax.config import ExperimentConfig, RuntimeConfig
from cwjax.events import Event, Finished, Planned, RunsFailed, RunStored
from cwjax.group import train_group
from cwjax.plan import Plan, Run, make_plan
from cwjax.results.checkpoints import Saved
from cwjax.results.derive import derive
from cwjax.results.manifest import recorded_threads
from cwjax.results.store import open_store

Work = dict[Cell, list[Run]]


def run(
    config: ExperimentConfig, directory: Path, runtime: RuntimeConfig | None = None
) -> Generator[Event, None, None]:
    """Trains what is missing in `directory` and derives its tables; yields what happens.

    Args:
        config: the experiment.
        directory: created, or continued where it stopped.
        runtime: how to use the machine.

    Raises:
        ConfigError, DataError: settings, data or a directory that cannot be used; nothing is
        written then.
    """
    yield from run_plan(make_plan(config), directory, runtime or RuntimeConfig())


def run_plan(plan: Plan, directory: Path, runtime: RuntimeConfig) -> Generator[Event, None, None]:
    """As `run`, for a plan that has been made already."""
    from cwjax.training import devices

    precision, threads = plan.config.train.precision, recorded_threads(directory)
    device = devices.configure(runtime, precision, threads)
    with open_store(directory) as store:
        allowed = runtime.allow_environment_change
        cell = enter(plan, store, device, allow_environment_change=allowed)
        with closing(train(deal([cell]), runtime)) as events:
            for event in events:
                yield event
                if isinstance(event, RunsFailed):
                    raise event.error
        comparison = derive(store)
        store.log("finished", runs=len(cell.keys))
        yield Finished(comparison)


def deal(cells: Sequence[Cell], index: int = 0, count: int = 1) -> Work:
    """Share `index` of `count` equal shares of the cells' runs, finished or not.

    Each row of `count` runs is dealt to all shares, every row starting one share later, so that no
    share gets all runs of an arm that takes longer than the others.
    """
    work: Work = {cell: [] for cell in cells}
    runs = [(cell, run) for cell in cells for run in cell.plan.trained_runs]
    for place, (cell, run) in enumerate(runs):
        if (place + place // count) % count == index:
            work[cell].append(run)
    return work


def train(work: Work, runtime: RuntimeConfig) -> Generator[Event, None, None]:
    """Trains what is missing; yields what happens, first the plan of the work.

    Cells of one data set train together, in the same compiled programs. A run that fails is
    yielded as `RunsFailed`, and the others go on. Closing the iterator saves what is being trained.

    Args:
        work: cells, all of one `TrainConfig`, and the runs of each to see finished.
        runtime: how to use the machine.

    Raises:
        ConfigError: a checkpoint cannot be continued; nothing has been trained.
        OSError: a result or a checkpoint cannot be written.
    """
    for cell, runs in work.items():
        _complete_untrained(cell, runs)
    missing = {cell: cell.missing(runs) for cell, runs in work.items()}
    begun = {cell: cell.checkpoints.load(runs) for cell, runs in work.items()}
    yield _planned(missing, begun)
    for cell in work:
        for arm, seed in cell.keys:
            if cell.store.has_run(arm, seed):
                yield RunStored(cell.store.read_run(arm, seed), cell.plan.cell)
    for group in _trained_together(cell for cell in work if missing[cell]):
        for cell in group:
            continued = sum(len(saved.state.runs) for saved in begun[cell])
            cell.store.log("training", runs=len(missing[cell]), continued=continued)
        runs = [run for cell in group for run in missing[cell]]
        yield from train_group(group, runs, [s for cell in group for s in begun[cell]], runtime)


def _complete_untrained(cell: Cell, runs: list[Run]) -> None:
    """Stores what finished runs answer and a process that ended in between has not stored."""
    incomplete = {seed for arm, seed in cell.keys if not cell.store.has_run(arm, seed)}
    for run in runs:
        if run.seed in incomplete and cell.store.has_run(run.arm, run.seed):
            for _ in store_untrained(cell, cell.store.read_run(run.arm, run.seed)):
                pass


def _planned(missing: Work, begun: Mapping[Cell, Sequence[Saved]]) -> Planned:
    runs = [run for runs in missing.values() for run in runs]
    states = [
        (saved.state, cell.plan.config.train.batch_size)
        for cell, checkpoints in begun.items()
        for saved in checkpoints
    ]
    epochs_done = sum(state.epoch * len(state.runs) for state, _ in states)
    examples_done = sum(state.num_examples(batch_size) for state, batch_size in states)
    return Planned(
        plans=tuple(cell.plan for cell in missing),
        num_runs=len(runs),
        num_finished=sum(cell.store.has_run(*key) for cell in missing for key in cell.keys),
        num_epochs=sum(run.num_epochs for run in runs) - epochs_done,
        num_examples=sum(run.num_epochs * len(run.train_indices) for run in runs) - examples_done,
    )


def _trained_together(cells: Iterable[Cell]) -> list[list[Cell]]:
    """Cells in groups of one data set and one width."""
    groups: dict[tuple[str, int | None], list[Cell]] = {}
    for cell in cells:
        width = (cell.store.read_config() or {})["width"]
        groups.setdefault((cell.plan.dataset.fingerprint, width), []).append(cell)
    return list(groups.values())
