"""Runs on this machine's devices: chunks of runs go through lanes, and events come back.

Memory does not grow with the number of runs: a lane holds the state of one chunk, and a finished
run leaves as an event.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import jax
import numpy as np

from cwjax.arms.arm import SCHEMES, Arm
from cwjax.config import RuntimeConfig, TrainConfig
from cwjax.data.dataset import Dataset
from cwjax.errors import ConfigError
from cwjax.models.network import Network, check_network
from cwjax.models.registry import OWN_MODEL, model_factory
from cwjax.training import width
from cwjax.training.batches import epoch_blocks
from cwjax.training.chunk import ChunkTrainer
from cwjax.training.lanes import BLOCK_STEPS, Lane, default_lanes
from cwjax.training.optim import find_optimizer
from cwjax.training.runs import (
    ChunkState,
    Run,
    RunFinished,
    RunsFailed,
    RunsStarted,
    TrainingEvent,
    WidthChosen,
    chunk_runs,
    trained_together,
    warn_of_narrower_chunks,
    warn_of_partial_batches,
)
from cwjax.training.step import Examples, Programs, make_programs


class OutOfDeviceMemory(Exception):
    """A chunk of runs did not fit; its unfinished runs can start again in a narrower one."""


class LocalTrainer:
    """A `Trainer` that uses the devices of this process.

    Args:
        datasets: of every cell, by the cell's name.
        config: how every run is trained.
        runtime: how to use the machine.
        widths: runs side by side in one program, for cells whose runs have begun with one.
    """

    def __init__(
        self,
        datasets: Mapping[str, Dataset],
        config: TrainConfig,
        runtime: RuntimeConfig,
        widths: Mapping[str, int | None],
    ) -> None:
        self._datasets = datasets
        self._config = config
        self._runtime = runtime
        self._widths = dict(widths)

    def train(
        self, runs: Sequence[Run], begun: Sequence[ChunkState], stop: threading.Event
    ) -> Generator[TrainingEvent, None, None]:
        """See `Trainer.train`; runs of one data set and width share the compiled programs."""
        for cells in trained_together(runs, self._datasets, self._widths):
            own = [run for run in runs if run.key.cell in cells]
            states = [state for state in begun if state.runs[0].key.cell in cells]
            yield from self._train_group(cells, own, states, stop)
            if stop.is_set():
                return

    def _train_group(
        self,
        cells: Sequence[str],
        runs: Sequence[Run],
        begun: Sequence[ChunkState],
        stop: threading.Event,
    ) -> Generator[TrainingEvent, None, None]:
        """Trains runs of one data set, in narrower chunks where device memory is too small."""
        dataset, finished = self._datasets[cells[0]], set[Run]()
        programs = make_run_programs(dataset, self._config)
        if programs.skips_partial_batches:
            warn_of_partial_batches(self._config.model)
        # Kept once chosen: another width would change results in the last bits.
        chosen = self._widths.get(cells[0]) or width.fitting_width(
            runs[0], dataset, programs, self._config, self._runtime.max_parallel_runs
        )
        while True:
            used = default_lanes(chosen)[: self._runtime.max_parallel_runs]
            engine = Engine(
                dataset, programs, self._config, used, keep_models=self._runtime.keep_models
            )
            self._widths |= dict.fromkeys(cells, engine.width)  # as its devices fill up
            yield WidthChosen(tuple(cells), engine.width)
            for state in begun:
                check_state(state, engine.state_shapes(runs[0]))
            missing = [run for run in runs if run not in finished]
            try:
                with closing(engine.train(missing, begun, stop)) as events:
                    for event in events:
                        if isinstance(event, RunFinished):
                            finished.add(event.run)
                        if isinstance(event, RunsFailed):
                            finished.update(event.runs)
                        yield event
                return
            except OutOfDeviceMemory:
                assert engine.width is not None  # a run alone fails by itself
                chosen = engine.width // engine.runs_per_device * (engine.runs_per_device // 2)
                warn_of_narrower_chunks(chosen)
                begun = ()  # of the old width


def make_run_programs(dataset: Dataset, config: TrainConfig) -> Programs:
    """The programs of every run of a data set, not yet compiled.

    Args:
        dataset: gives the shape of the inputs and the number of classes.
        config: names model and optimiser.
    """
    factory = model_factory(config.model, dataset.input_shape, dataset.num_classes)
    tx = find_optimizer(config.optimizer)()
    return make_programs(factory, tx, config, dataset.num_classes)


def check_own_model(run: Run, dataset: Dataset, config: TrainConfig, arms: Sequence[Arm]) -> None:
    """Checks a model of the user's own, before anything is written: a first step is taken.

    Args:
        run: any of them.
        dataset: of the run.
        config: names the model; nothing is checked where it is one of cwjax's.
        arms: what is to be trained, or computed afterwards.

    Raises:
        ConfigError: it cannot be trained; one line that says why.
    """
    if not OWN_MODEL.fullmatch(config.model):
        return
    try:
        _take_first_step(run, dataset, config, arms)
    except ConfigError as error:
        raise ConfigError(f"--model {config.model}: {error}") from None


def _take_first_step(run: Run, dataset: Dataset, config: TrainConfig, arms: Sequence[Arm]) -> None:
    network = Network(model_factory(config.model, dataset.input_shape, dataset.num_classes))
    inputs = jax.ShapeDtypeStruct((config.batch_size, *dataset.input_shape), np.float32)
    check_network(network, inputs, dataset.num_classes)
    headless = [str(arm) for arm in arms if SCHEMES[arm.scheme].needs_head and not network.has_head]
    if headless:
        raise ConfigError(
            f"{', '.join(headless)} need its head: give it features(inputs) and self.head = "
            "nnx.Linear(...), or leave them out"
        )
    lane = Lane(jax.local_devices()[:1], None)
    programs = lane.compile(make_run_programs(dataset, config))
    block = next(iter(epoch_blocks([run], dataset.labels, 0, config, BLOCK_STEPS)))
    block = block._replace(batches=lane.pass_runs(block.batches), num_steps=np.int32(1))
    row = lane.put_shared(run.row)
    examples = lane.put_shared(Examples(dataset.inputs, dataset.labels))
    state = programs.initial_state(lane.put_shared(np.zeros(2, np.uint32)), row)
    state = programs.train_block(state, row, examples, block)
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state.params, state.loss_sum))):
        raise ConfigError(
            "its loss or a parameter is not finite after the first step: check its initial values, "
            "or give a smaller --learning-rate"
        )


def check_state(state: ChunkState, expected: Mapping[str, jax.ShapeDtypeStruct]) -> None:
    """Checks that a chunk's arrays are those of the model.

    Raises:
        ConfigError: an array is missing, unknown or of another type or shape.
    """
    found, wanted = (
        {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in arrays.items()}
        for arrays in (state.arrays, expected)
    )
    differing = [
        f"{name}: {found.get(name)}, now {wanted.get(name)}"
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name) != wanted.get(name)
    ]
    if differing:
        raise ConfigError(
            f"the checkpoint of {state.runs[0].key} is of another model ({'; '.join(differing)}): "
            "give what it was begun with, or remove checkpoints/ to train its runs from their start"
        )


class Engine:
    """Lanes with everything compiled and the data set on their devices; trains any number of runs.

    Args:
        dataset: what the runs' indices point into.
        programs: of every run.
        config: how every run is trained.
        lanes: where; all of one width. A lane that stands several times trains as many chunks at
            once, in the same compiled programs.
        keep_models: give out the trained network of every run.
    """

    def __init__(
        self,
        dataset: Dataset,
        programs: Programs,
        config: TrainConfig,
        lanes: Sequence[Lane],
        *,
        keep_models: bool = False,
    ) -> None:
        self.width = lanes[0].width
        self.runs_per_device = lanes[0].runs_per_device
        trainers = {
            lane: ChunkTrainer(lane, programs, dataset, config, keep_models=keep_models)
            for lane in lanes
        }
        self._trainers = [trainers[lane] for lane in lanes]

    @property
    def num_lanes(self) -> int:
        """How many chunks train at a time."""
        return len(self._trainers)

    def state_shapes(self, run: Run) -> dict[str, jax.ShapeDtypeStruct]:
        """The arrays of every `ChunkState`, for a run of any kind; nothing is compiled."""
        return self._trainers[0].state_shapes(run)

    def train(
        self,
        runs: Sequence[Run],
        begun: Sequence[ChunkState] = (),
        stop: threading.Event | None = None,
    ) -> Generator[TrainingEvent, None, None]:
        """Trains every run; yields events as they happen, those of one run in order.

        Runs start in the order given; those that cannot share a chunk (other numbers of examples or
        epochs) go into chunks of their own. Closing the iterator stops the lanes after their
        current block. A chunk that ends in an error is yielded as `RunsFailed`, and its lane takes
        the next one. A chunk that trains for long is yielded as `ChunkState` every minute.

        Args:
            runs: to be trained.
            begun: where some of them stand already, as an engine of the same width yielded it;
                these come first and end as if they had never stopped.
            stop: once set, the lanes end after their current block, each with a last `ChunkState`.

        Raises:
            OutOfDeviceMemory: a chunk of several runs on one device does not fit; finished runs
                have been yielded.
        """
        chunks = iter(self._chunks(runs, begun))
        taking = threading.Lock()
        events: queue.SimpleQueue[TrainingEvent | BaseException | None] = queue.SimpleQueue()
        closed = threading.Event()  # not `stop`: the caller may go on with another engine

        def stopping() -> bool:
            return closed.is_set() or (stop is not None and stop.is_set())

        def work(trainer: ChunkTrainer) -> None:
            try:
                while not stopping():
                    with taking:
                        chunk, state = next(chunks, (None, None))
                    if chunk is None:
                        break
                    trained = trainer.train(chunk, stopping, state)
                    for event in _isolated(trained, chunk, self.runs_per_device):
                        events.put(event)
                events.put(None)
            except BaseException as error:
                events.put(error)

        with ThreadPoolExecutor(len(self._trainers), thread_name_prefix="lane") as pool:
            for trainer in self._trainers:
                pool.submit(work, trainer)
            try:
                working = len(self._trainers)
                while working:
                    event = events.get()
                    if event is None:
                        working -= 1
                    elif isinstance(event, BaseException):
                        raise event
                    else:
                        yield event
            finally:
                closed.set()

    def _chunks(
        self, runs: Sequence[Run], begun: Sequence[ChunkState]
    ) -> list[tuple[list[Run], ChunkState | None]]:
        """Those that have begun, with their states, then the rest."""
        in_begun = {run for state in begun for run in state.runs}
        fresh = chunk_runs([run for run in runs if run not in in_begun], self.width or 1)
        return [(list(state.runs), state) for state in begun] + [(chunk, None) for chunk in fresh]


def _isolated(
    events: Iterator[TrainingEvent], chunk: list[Run], runs_per_device: int
) -> Iterator[TrainingEvent]:
    """The events of a chunk; its error becomes the last of them, unless fewer runs could fit."""
    yield RunsStarted(tuple(chunk))
    try:
        yield from events
    except Exception as error:
        failure = error
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error):
            if runs_per_device > 1:
                raise OutOfDeviceMemory(str(error)) from error
            failure = ConfigError(
                "one run does not fit into device memory: give a smaller --batch-size"
            )
        yield RunsFailed(tuple(chunk), failure)
