"""The one driver behind every script: runs are trained and stored, all else is derived.

`run` yields events and prints nothing; whoever calls it draws the progress.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cwjax.cell import Cell, enter, history_row, store_finished, store_untrained
from cwjax.config import ExperimentConfig, RuntimeConfig
from cwjax.events import (
    EpochFinished,
    Event,
    Finished,
    Planned,
    RunFinished,
    RunsFailed,
    RunStored,
    TrainingEvent,
)
from cwjax.plan import Plan, Run, make_plan
from cwjax.results.derive import derive
from cwjax.results.store import open_store

if TYPE_CHECKING:
    from cwjax.training.engine import Engine
    from cwjax.training.train import ModelFactory

Work = dict[Cell, list[Run]]


def run(
    config: ExperimentConfig, directory: Path, runtime: RuntimeConfig | None = None
) -> Iterator[Event]:
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


def run_plan(plan: Plan, directory: Path, runtime: RuntimeConfig) -> Iterator[Event]:
    """As `run`, for a plan that has been made already."""
    from cwjax.training import devices

    device = devices.configure(runtime, plan.config.train.precision)
    with open_store(directory) as store:
        allowed = runtime.allow_environment_change
        cell = enter(plan, store, device, allow_environment_change=allowed)
        for event in train(deal([cell]), runtime):
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
    yielded as `RunsFailed`, and the others go on.

    Args:
        work: cells, all of one `TrainConfig`, and the runs of each to see finished.
        runtime: how to use the machine.
    """
    for cell, runs in work.items():
        _complete_untrained(cell, runs)
    missing = {cell: cell.missing(runs) for cell, runs in work.items()}
    yield _planned(missing)
    for cell in work:
        for arm, seed in cell.keys:
            if cell.store.has_run(arm, seed):
                yield RunStored(cell.store.read_run(arm, seed), cell.plan.cell)
    for group in _trained_together(cell for cell in work if missing[cell]):
        for cell in group:
            cell.store.log("training", runs=len(missing[cell]))
        yield from _train_group(group, [run for cell in group for run in missing[cell]], runtime)


def _complete_untrained(cell: Cell, runs: list[Run]) -> None:
    """Stores what finished runs answer and a process that ended in between has not stored."""
    for run in runs:
        if cell.store.has_run(run.arm, run.seed):
            for _ in store_untrained(cell, cell.store.read_run(run.arm, run.seed)):
                pass


def _planned(missing: Work) -> Planned:
    runs = [run for runs in missing.values() for run in runs]
    return Planned(
        plans=tuple(cell.plan for cell in missing),
        num_runs=len(runs),
        num_finished=sum(cell.store.has_run(*key) for cell in missing for key in cell.keys),
        num_epochs=sum(run.num_epochs for run in runs),
        num_examples=sum(run.num_epochs * len(run.train_indices) for run in runs),
    )


def _trained_together(cells: Iterable[Cell]) -> list[list[Cell]]:
    """Cells in groups of one data set and one width."""
    groups: dict[tuple[str, int | None], list[Cell]] = {}
    for cell in cells:
        width = (cell.store.read_config() or {})["width"]
        groups.setdefault((cell.plan.dataset.fingerprint, width), []).append(cell)
    return list(groups.values())


def _train_group(cells: Sequence[Cell], runs: list[Run], runtime: RuntimeConfig) -> Iterator[Event]:
    by_name = {cell.plan.cell: cell for cell in cells}
    histories: dict[Run, list[dict[str, float]]] = {}
    for event in _training_events(cells, runs, runtime):
        yield event
        match event:
            case EpochFinished(run=run):
                if event.epoch == 0:
                    histories[run] = []
                histories[run].append(history_row(by_name[run.cell], event))
            case RunFinished(run=run):
                for record in store_finished(by_name[run.cell], event, histories.pop(run)):
                    yield RunStored(record, run.cell)


def _training_events(
    cells: Sequence[Cell], runs: list[Run], runtime: RuntimeConfig
) -> Iterator[TrainingEvent]:
    """Trains `runs`, in narrower chunks where device memory turns out too small."""
    from cwjax.training.engine import OutOfDeviceMemory

    plan = cells[0].plan
    # Kept once chosen: another width would change results in the last bits.
    width = (cells[0].store.read_config() or {})["width"] or choose_width(plan, runtime)
    finished: set[Run] = set()
    while True:
        for cell in cells:
            _record_width(cell, width)
        try:
            engine = make_engine(plan, width, runtime)
            for event in engine.train([run for run in runs if run not in finished]):
                if isinstance(event, RunFinished):
                    finished.add(event.run)
                yield event
            return
        except OutOfDeviceMemory:
            assert width is not None  # a run alone fails by itself
            width //= 2
            warnings.warn(
                f"device memory is exceeded: {width} runs side by side from now on; those that "
                "were under way start again",
                stacklevel=2,
            )
            for cell in cells:
                cell.store.log("out_of_memory", new_width=width)


def choose_width(plan: Plan, runtime: RuntimeConfig) -> int | None:
    """How many runs to train side by side in one program; None on CPU, where each has its own."""
    from cwjax.training import width

    make_model, settings = model_factory(plan), plan.config.train
    limit = runtime.max_parallel_runs
    return width.fitting_width(plan.runs[0], plan.dataset, make_model, settings, limit)


def make_engine(plan: Plan, width: int | None, runtime: RuntimeConfig) -> Engine:
    """The engine for the plan's data set and settings, on this process's devices."""
    from cwjax.training import engine, lanes

    used = lanes.default_lanes(width)[: runtime.max_parallel_runs]
    return engine.Engine(plan.dataset, model_factory(plan), plan.config.train, used)


def model_factory(plan: Plan) -> ModelFactory:
    """Builds the CNN for the plan's images and classes."""
    from cwjax.training.cnn import CNN

    return lambda rngs: CNN(plan.dataset.image_shape, plan.dataset.num_classes, rngs=rngs)


def _record_width(cell: Cell, width: int | None) -> None:
    content = cell.store.read_config() or {}
    if content["width"] != width:
        cell.store.write_json("config.json", content | {"width": width})
