"""How many runs to train side by side on accelerators."""

from __future__ import annotations

from typing import cast

import jax
import numpy as np
from jax.stages import Wrapped

from cwjax.config import TrainConfig
from cwjax.data.dataset import Dataset
from cwjax.training.batches import epoch_blocks
from cwjax.training.lanes import BLOCK_STEPS, Lane
from cwjax.training.runs import Run
from cwjax.training.step import Examples, Programs

RUNS_PER_DEVICE = 32
"""Most runs side by side on one device, unless the caller says otherwise. About as many as it takes
to fill a large accelerator with the small kernels of a training step: more would gain little, and a
chunk that is not full, as in a pilot of two runs, takes as long as a full one."""


def fitting_width(
    run: Run,
    dataset: Dataset,
    programs: Programs,
    config: TrainConfig,
    max_parallel_runs: int | None = None,
) -> int | None:
    """How many runs to train side by side: what device memory holds, up to a limit; None on CPU.

    How many runs there are now plays no part: a directory keeps the width of its first runs (with
    another one results would differ in the last bits), and a pilot is often of two.

    Args:
        run: any of them, compiled alone to learn what it needs. A fifth of the memory stays free
            for what the allocator splits.
        dataset: lies on every device once.
        programs: of every run.
        config: how every run is trained.
        max_parallel_runs: the limit, of all devices together [default: `RUNS_PER_DEVICE` each];
            rounded up to fill every device alike.
    """
    devices = jax.local_devices()
    if devices[0].platform == "cpu":
        return None
    limit = max_parallel_runs or RUNS_PER_DEVICE * len(devices)
    most = -(-limit // len(devices)) * len(devices)
    limits = [(device.memory_stats() or {}).get("bytes_limit", 0) for device in devices]
    if 0 in limits:  # the platform does not tell
        return most
    shared = dataset.inputs.nbytes + dataset.labels.nbytes
    per_device = int(0.8 * min(limits) - shared) // run_bytes(run, dataset, programs, config)
    return min(most, max(1, per_device) * len(devices))


def run_bytes(run: Run, dataset: Dataset, programs: Programs, config: TrainConfig) -> int:
    """Device memory of one run in bytes, as the compiler plans it; the data set apart."""
    block = next(iter(epoch_blocks([run], dataset.labels, 0, config, BLOCK_STEPS)))
    rows = jax.tree.map(lambda leaf: leaf[None], run.row)
    state = jax.eval_shape(jax.vmap(programs.initial_state), np.zeros((1, 2), np.uint32), rows)
    train_block = cast(Wrapped, Lane(jax.local_devices()[:1], 1).compile(programs).train_block)
    examples = Examples(dataset.inputs, dataset.labels)
    lowered = train_block.lower(state, rows, examples, block)
    memory = lowered.compile().memory_analysis()
    if memory is None:
        raise RuntimeError("this platform does not say how much memory a program needs")
    state_bytes: int = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return int(memory.temp_size_in_bytes) + 2 * state_bytes
