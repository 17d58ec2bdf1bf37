"""Cells that train together: one data set, one width, the same compiled programs."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from cwjax.cell import Cell, history_row, store_finished
from cwjax.config import RuntimeConfig
from cwjax.events import ChunkState, EpochFinished, Event, RunFinished, RunStored, TrainingEvent
from cwjax.plan import Plan, Run
from cwjax.results.checkpoints import Saved, check_shapes, shapes_of
from cwjax.results.record import History

if TYPE_CHECKING:
    from cwjax.training.engine import Engine
    from cwjax.training.train import ModelFactory


def train_group(
    cells: Sequence[Cell], runs: Sequence[Run], begun: Sequence[Saved], runtime: RuntimeConfig
) -> Generator[Event, None, None]:
    """Trains runs of these cells and stores what comes of them; yields what happens.

    Closing the iterator stops the training: what the lanes have then is stored or kept in a
    checkpoint first, so that nothing is lost.

    Args:
        cells: of one data set, one `TrainConfig` and one width.
        runs: to be trained.
        begun: checkpoints of some of them.
        runtime: how to use the machine.

    Raises:
        ConfigError: a checkpoint does not fit the model.
        OSError: a result cannot be written.
    """
    keeper = _Keeper(cells, begun)
    stop = threading.Event()
    with closing(_training_events(cells, runs, begun, runtime, stop)) as events:
        try:
            for event in events:
                yield from keeper.keep(event)
        except GeneratorExit:
            stop.set()
            for event in events:
                keeper.keep(event)
            raise


class _Keeper:
    """Brings what the engine yields into the directories."""

    def __init__(self, cells: Sequence[Cell], begun: Sequence[Saved]) -> None:
        self._cells = {cell.plan.cell: cell for cell in cells}
        self._histories: dict[Run, History] = {}
        for saved in begun:
            self._histories |= saved.histories

    def keep(self, event: TrainingEvent) -> list[Event]:
        """Stores what an event brings; returns what whoever watches should know."""
        match event:
            case EpochFinished(run=run):
                if event.epoch == 0:
                    self._histories[run] = []
                self._histories[run].append(history_row(self._cells[run.cell], event))
            case ChunkState(runs=runs):
                self._cells[runs[0].cell].checkpoints.save(event, self._histories)
                return []
            case RunFinished(run=run):
                cell = self._cells[run.cell]
                records = list(store_finished(cell, event, self._histories.pop(run)))
                cell.checkpoints.remove_finished(run)
                return [event, *(RunStored(record, run.cell) for record in records)]
        return [event]


def _training_events(
    cells: Sequence[Cell],
    runs: Sequence[Run],
    begun: Sequence[Saved],
    runtime: RuntimeConfig,
    stop: threading.Event,
) -> Generator[TrainingEvent, None, None]:
    """Trains `runs`, in narrower chunks where device memory turns out too small."""
    from cwjax.training.engine import OutOfDeviceMemory

    plan = cells[0].plan
    # Kept once chosen: another width would change results in the last bits.
    width = (cells[0].store.read_config() or {})["width"] or choose_width(plan, runtime)
    finished: set[Run] = set()
    while True:
        try:
            engine = make_engine(plan, width, runtime)
            width = engine.width  # as its devices fill up
            _record_width(cells, width)
            for saved in begun:
                check_shapes(saved, shapes_of(engine.state_shapes(runs[0])))
            missing = [run for run in runs if run not in finished]
            with closing(engine.train(missing, [saved.state for saved in begun], stop)) as events:
                for event in events:
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
            begun = ()  # of the old width
            for cell in cells:
                cell.store.log("out_of_memory", new_width=width)


def record_widths(cells: Sequence[Cell], runtime: RuntimeConfig) -> None:
    """Records the width of every new cell before other processes read it."""
    chosen: dict[str, int | None] = {}
    for cell in cells:
        if (cell.store.read_config() or {})["width"] is None:
            data = cell.plan.dataset.fingerprint
            if data not in chosen:
                chosen[data] = choose_width(cell.plan, runtime)
            _record_width([cell], chosen[data])


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


def _record_width(cells: Sequence[Cell], width: int | None) -> None:
    """In the directories that this process holds; who else trains there begins with it."""
    for cell in cells:
        content = cell.store.read_config() or {}
        if cell.store.is_held and content["width"] != width:
            cell.store.write_json("config.json", content | {"width": width})
