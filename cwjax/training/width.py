"""How many runs to train side by side on accelerators: as many as their memory holds."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from cwjax.config import TrainConfig
from cwjax.data.dataset import Dataset
from cwjax.plan import Run
from cwjax.training.batches import epoch_blocks
from cwjax.training.chunk import BLOCK_STEPS, examples_of
from cwjax.training.lanes import Lane
from cwjax.training.train import ModelFactory, make_programs


def fitting_width(
    runs: Sequence[Run], dataset: Dataset, make_model: ModelFactory, config: TrainConfig
) -> int | None:
    """How many of `runs` to train side by side: what device memory holds; None on CPU.

    One run is compiled to learn what it needs; a fifth of the memory stays free for what the
    allocator splits.
    """
    devices = jax.local_devices()
    if devices[0].platform == "cpu":
        return None
    limits = [(device.memory_stats() or {}).get("bytes_limit", 0) for device in devices]
    if 0 in limits:  # the platform does not tell
        return min(len(runs), 8 * len(devices))
    shared = dataset.train_images.nbytes + dataset.test_images.nbytes
    per_run = run_bytes(runs[0], dataset, make_model, config)
    per_device = int(0.8 * min(limits) - shared) // per_run
    return max(1, min(len(runs), per_device * len(devices)))


def run_bytes(run: Run, dataset: Dataset, make_model: ModelFactory, config: TrainConfig) -> int:
    """Device memory of one run in bytes, as the compiler plans it; the data set apart."""
    programs = make_programs(make_model, config, dataset.num_classes)
    block = next(iter(epoch_blocks([run], dataset.train_labels, 0, config.batch_size, BLOCK_STEPS)))
    rows = jax.tree.map(lambda leaf: leaf[None], run.row)
    state = jax.eval_shape(jax.vmap(programs.initial_state), np.zeros((1, 2), np.uint32), rows)
    train_block = Lane(jax.local_devices()[:1], 1).compile(programs).train_block
    lowered = jax.jit(train_block).lower(state, rows, examples_of(dataset), block)
    memory = lowered.compile().memory_analysis()
    if memory is None:
        raise RuntimeError("this platform does not say how much memory a program needs")
    state_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return int(memory.temp_size_in_bytes) + 2 * state_bytes
