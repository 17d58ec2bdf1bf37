"""Runs on devices: which run trains where, how many side by side, and what comes back.

A *lane* is a place that trains one chunk of runs at a time. On CPU every core is a lane of its own and trains single
runs: nothing is shared, so a run's bits depend on nothing but the run. On accelerators all devices together are one
lane that trains a wide chunk, one `vmap` over runs sharded over the devices.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cwjax.config import TrainConfig
from cwjax.data.dataset import Dataset
from cwjax.events import EpochFinished, RunFinished, StepsFinished, TrainingEvent
from cwjax.methods.arm_row import uniform_row
from cwjax.plan import Run
from cwjax.training.batches import epoch_blocks
from cwjax.training.train import (
    Block,
    Examples,
    ModelFactory,
    Programs,
    RunState,
    make_programs,
)

BLOCK_STEPS = 128
"""Most steps of one dispatch: some seconds of CPU work, so progress shows and a stop is heard."""

EVALUATION_BATCH = 64
"""Examples of one evaluation call; the last call of a split is padded."""

CPU_COMPILER_OPTIONS = {"xla_disable_hlo_passes": "cse_barrier_expander"}
"""Keeps `optimization_barrier`, by which the layers say what to compute once and keep; without it XLA:CPU
computes it again inside every operation that reads it, a fifth of a training step."""


class Lane:
    """One or more devices that train a chunk of `width` runs at a time.

    Width `None` means a single run without a run axis: the CPU's way.
    """

    def __init__(self, devices: Sequence[jax.Device], width: int | None) -> None:
        if width is not None and width % len(devices):
            raise ValueError(f"width {width} is not a multiple of {len(devices)} devices")
        self.devices = tuple(devices)
        self.width = width
        mesh = Mesh(np.array(self.devices), ("runs",))
        self._per_run = NamedSharding(mesh, PartitionSpec("runs") if width else PartitionSpec())
        self._shared = NamedSharding(mesh, PartitionSpec())

    def compile(self, programs: Programs) -> Programs:
        """The programs jitted for this lane; training gives its state's memory back."""
        runs, shared = self._per_run.spec, self._shared.spec
        block = Block(runs, runs, runs, runs, shared, shared)
        initial_state, train_block, start_second_stage, evaluate = programs
        on_cpu = self.devices[0].platform == "cpu"
        jit = partial(jax.jit, compiler_options=CPU_COMPILER_OPTIONS if on_cpu else None)
        return Programs(
            jit(self._spread(initial_state, (runs, runs))),
            jit(self._spread(train_block, (runs, runs, shared, block)), donate_argnums=0),
            jit(self._spread(start_second_stage, (runs, runs)), donate_argnums=0),
            jit(self._spread(evaluate, (runs, runs, shared, runs))),
        )

    def _spread(self, program: Callable[..., Any], specs: Any) -> Callable[..., Any]:
        """`program` for every run of a chunk: vmapped on each device, each device on its own."""
        if self.width is None:
            return program
        axes = jax.tree.map(lambda spec: 0 if spec else None, specs, is_leaf=_is_spec)
        # Runs never talk to each other, so each device gets the whole program of its share: XLA's partitioner
        # would have to find that out, which takes it minutes. check_vma would take parameters that start equal
        # on all devices (zero biases) as shared and sum their gradients.
        return jax.shard_map(
            jax.vmap(program, in_axes=axes),
            mesh=self._per_run.mesh,
            in_specs=specs,
            out_specs=self._per_run.spec,
            check_vma=False,
        )

    def put_runs(self, per_run: Any) -> Any:
        """Arrays with a leading run axis onto the devices, each its share of the runs."""
        if self.width is None:
            per_run = jax.tree.map(lambda array: array[0], per_run)
        return jax.device_put(per_run, self._per_run)

    def put_shared(self, shared: Any) -> Any:
        """Arrays that every run reads onto every device."""
        return jax.device_put(shared, self._shared)

    def get_runs(self, per_run: Any) -> Any:
        """The opposite of `put_runs`: NumPy arrays with a leading run axis."""
        host = jax.tree.map(np.asarray, per_run)
        return jax.tree.map(lambda array: array[None], host) if self.width is None else host


def _is_spec(leaf: Any) -> bool:
    return isinstance(leaf, PartitionSpec)


class OutOfDeviceMemory(Exception):
    """A chunk of runs did not fit; its unfinished runs can start again in a narrower one."""


def default_lanes(width: int | None) -> list[Lane]:
    """One lane a host device on CPU; on accelerators one lane over all of them, `width` runs wide.

    A width that does not fill every device alike is rounded up.
    """
    devices = jax.local_devices()
    if devices[0].platform == "cpu":
        return [Lane([device], None) for device in devices]
    if width is None:
        raise ValueError("lanes on accelerators need a width: see fitting_width")
    return [Lane(devices, -(-width // len(devices)) * len(devices))]


def fitting_width(
    dataset: Dataset, make_model: ModelFactory, config: TrainConfig, num_runs: int
) -> int | None:
    """How many runs to train side by side: what device memory holds, at most `num_runs`; None on CPU.

    One run a device is compiled to learn what it needs; a fifth of the memory stays free for what the allocator splits.
    """
    devices = jax.local_devices()
    if devices[0].platform == "cpu":
        return None
    limits = [(device.memory_stats() or {}).get("bytes_limit") for device in devices]
    if None in limits:
        return min(num_runs, 8 * len(devices))  # the platform does not tell
    shared = dataset.train_images.nbytes + dataset.test_images.nbytes
    per_run = run_bytes(Lane(devices[:1], 1), dataset, make_model, config)
    per_device = int(0.8 * min(limits) - shared) // per_run
    return max(1, min(num_runs, per_device * len(devices)))


def run_bytes(
    lane: Lane, dataset: Dataset, make_model: ModelFactory, config: TrainConfig
) -> int:
    """Device memory of one run's training in bytes, as the compiler plans it; the data set apart."""
    programs = make_programs(make_model, config, dataset.num_classes)
    row = uniform_row(dataset.num_classes)
    state = jax.eval_shape(programs.initial_state, np.zeros(2, np.uint32), row)
    block = Block(
        *(np.zeros((BLOCK_STEPS, config.batch_size), dtype) for dtype in (np.int32, bool, np.int32)),
        np.zeros(BLOCK_STEPS, np.float32),
        np.int32(0),
        np.int32(0),
    )
    one_run = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), (state, row, block[:4])
    )
    state, row, per_run = one_run
    train_block = lane.compile(programs).train_block
    examples = jax.eval_shape(lambda: _examples(dataset))
    compiled = train_block.lower(state, row, examples, Block(*per_run, *block[4:])).compile()  # type: ignore[attr-defined]
    memory = compiled.memory_analysis()
    state_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return int(memory.temp_size_in_bytes) + 2 * state_bytes


def _examples(dataset: Dataset) -> Examples:
    return Examples(
        np.concatenate([dataset.train_images, dataset.test_images]),
        np.concatenate([dataset.train_labels, dataset.test_labels]),
    )


def train(
    runs: Sequence[Run],
    dataset: Dataset,
    make_model: ModelFactory,
    config: TrainConfig,
    lanes: Sequence[Lane],
) -> Iterator[TrainingEvent]:
    """Trains every run; yields events as they happen, those of one run in order.

    Runs start in the order given; those that cannot share a chunk (other numbers of examples or
    epochs) go into chunks of their own. Closing the iterator stops the lanes after their current block.

    Raises:
        OutOfDeviceMemory: a chunk does not fit; finished runs have been yielded.
        Exception: whatever else a lane raised, after the other lanes have stopped.
    """
    programs = make_programs(make_model, config, dataset.num_classes)
    chunks = deque(chunk_runs(runs, lanes[0].width or 1))
    events: queue.SimpleQueue[TrainingEvent | BaseException | None] = queue.SimpleQueue()
    stop = threading.Event()

    def work(lane: Lane) -> None:
        try:
            trainer = _ChunkTrainer(lane, programs, dataset, config, stop)
            while not stop.is_set():
                try:
                    chunk = chunks.popleft()
                except IndexError:
                    break
                for event in trainer.train(chunk):
                    events.put(event)
            events.put(None)
        except jax.errors.JaxRuntimeError as error:
            full = "RESOURCE_EXHAUSTED" in str(error)
            events.put(OutOfDeviceMemory(str(error)) if full else error)
        except BaseException as error:
            events.put(error)

    with ThreadPoolExecutor(len(lanes), thread_name_prefix="lane") as pool:
        for lane in lanes:
            pool.submit(work, lane)
        try:
            working = len(lanes)
            while working:
                event = events.get()
                if event is None:
                    working -= 1
                elif isinstance(event, BaseException):
                    raise event
                else:
                    yield event
        finally:
            stop.set()


def chunk_runs(runs: Sequence[Run], width: int) -> list[list[Run]]:
    """Runs in chunks of at most `width` that can train in lockstep, in the order given."""
    groups: dict[tuple[int, int, int], list[Run]] = {}
    for run in runs:
        lockstep = (len(run.train_indices), run.num_epochs, run.first_stage_epochs)
        groups.setdefault(lockstep, []).append(run)
    return [
        group[start : start + width]
        for group in groups.values()
        for start in range(0, len(group), width)
    ]


class _ChunkTrainer:
    """A lane with its compiled programs and its copy of the data set."""

    def __init__(
        self,
        lane: Lane,
        programs: Programs,
        dataset: Dataset,
        config: TrainConfig,
        stop: threading.Event,
    ) -> None:
        self._lane = lane
        self._programs = lane.compile(programs)
        self._dataset = dataset
        self._config = config
        self._stop = stop
        self._examples = lane.put_shared(_examples(dataset))

    def train(self, chunk: list[Run]) -> Iterator[TrainingEvent]:
        """All epochs of one chunk; ends early, without its last events, when asked to stop."""
        # A last, smaller chunk is filled up, so that it runs the same program; a place in the chunk
        # does not change a run's bits.
        padded = chunk + [chunk[0]] * ((self._lane.width or 1) - len(chunk))
        lane, first = self._lane, chunk[0]
        rows = lane.put_runs(jax.tree.map(lambda *leaves: np.stack(leaves), *[r.row for r in padded]))
        keys = np.array([divmod(run.key_seed, 2**32) for run in padded], np.uint32)
        state = self._programs.initial_state(lane.put_runs(keys), rows)
        for epoch in range(first.num_epochs):
            if epoch == first.first_stage_epochs:
                state = self._programs.start_second_stage(state, rows)
            blocks = epoch_blocks(
                padded, self._dataset.train_labels, epoch, self._config.batch_size, BLOCK_STEPS
            )
            for block in blocks:
                if self._stop.is_set():
                    return
                state = self._train_block(state, rows, block)
                yield StepsFinished(int(block.valid[: len(chunk)].sum()))
            losses = lane.get_runs(state.loss_sum) / len(first.train_indices)
            state = state._replace(loss_sum=state.loss_sum * 0)
            validation_indices = np.stack([run.validation_indices for run in padded])
            logits = self._evaluate(state, rows, validation_indices)
            for place, run in enumerate(chunk):
                yield EpochFinished(run, epoch, float(losses[place]), logits[place])
        yield from self._finish(chunk, state, rows, logits)

    def _train_block(self, state: RunState, rows: Any, block: Block) -> RunState:
        per_run = self._lane.put_runs(tuple(block[:4]))
        state = self._programs.train_block(
            state, rows, self._examples, Block(*per_run, block.num_steps, block.epoch)
        )
        return jax.block_until_ready(state)

    def _evaluate(self, state: RunState, rows: Any, indices: np.ndarray) -> np.ndarray:
        """Logits float32 `[num_runs, num_examples, num_classes]` of `indices [num_runs, num_examples]`."""
        num_examples = indices.shape[1]
        padded = np.pad(indices, ((0, 0), (0, -num_examples % EVALUATION_BATCH)))
        parts = [
            self._programs.evaluate(
                state,
                rows,
                self._examples,
                self._lane.put_runs(padded[:, start : start + EVALUATION_BATCH]),
            )
            for start in range(0, num_examples, EVALUATION_BATCH)
        ]
        logits = np.concatenate([self._lane.get_runs(part) for part in parts], axis=1)
        return logits[:, :num_examples]

    def _finish(
        self, chunk: list[Run], state: RunState, rows: Any, validation_logits: np.ndarray
    ) -> Iterator[RunFinished]:
        num_train = len(self._dataset.train_labels)
        test_indices = num_train + np.arange(len(self._dataset.test_labels), dtype=np.int32)
        width = self._lane.width or 1
        test_logits = self._evaluate(state, rows, np.tile(test_indices, (width, 1)))
        head = state.params["head"]
        kernels = self._lane.get_runs(head["kernel"][...])
        biases = self._lane.get_runs(head["bias"][...])
        for place, run in enumerate(chunk):
            yield RunFinished(
                run, test_logits[place], validation_logits[place], kernels[place], biases[place]
            )
