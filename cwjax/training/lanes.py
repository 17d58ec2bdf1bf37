"""Where runs train: lanes of devices, and how many runs a lane holds side by side.

A *lane* trains one chunk of runs at a time. On CPU there is one lane per core, each for single
runs: nothing is shared, so a run's bits depend on nothing but the run. All cores are one JAX
device, which executes a program in each thread that calls it, so the lanes use one compiled copy
(one device per core would compile one each). On accelerators all devices together are one lane that
trains a wide chunk: each device its share, vmapped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cwjax.config import available_cores
from cwjax.training.devices import LANES_PER_CPU_DEVICE
from cwjax.training.step import Batches, Block, Programs

BLOCK_STEPS = 128
"""Most steps of one dispatch: some seconds of CPU work, so progress shows and a stop is heard."""

CPU_TRAINING_OPTIONS = {"xla_disable_hlo_passes": "cse_barrier_expander"}
"""Keeps `optimization_barrier`, by which the layers say what to compute once and keep; without it
XLA:CPU computes it again inside every operation that reads it, a fifth of a training step."""

CPU_OTHER_OPTIONS = CPU_TRAINING_OPTIONS | {"xla_backend_optimization_level": 2}
"""Not 3 for what runs seldom: compiled in two thirds of the time. In training it would change the
last bits of some sums, and a uniform run would no longer be plain Flax and Optax to the bit."""


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

    @property
    def runs_per_device(self) -> int:
        """How many runs share the memory of a device."""
        return (self.width or len(self.devices)) // len(self.devices)

    def compile(self, programs: Programs) -> Programs:
        """The programs jitted for this lane; training gives its state's memory back."""
        runs, shared = self._per_run.spec, self._shared.spec
        block = Block(Batches(*[runs] * len(Batches._fields)), shared, shared)
        on_cpu = self.devices[0].platform == "cpu"
        jit_training = partial(jax.jit, compiler_options=CPU_TRAINING_OPTIONS if on_cpu else None)
        jit = partial(jax.jit, compiler_options=CPU_OTHER_OPTIONS if on_cpu else None)
        train_block = self._spread(programs.train_block, (runs, runs, shared, block))
        second_stage = self._spread(programs.start_second_stage, (runs, runs))
        return programs._replace(
            initial_state=jit(self._spread(programs.initial_state, (runs, runs))),
            train_block=jit_training(train_block, donate_argnums=0),
            start_second_stage=jit(second_stage, donate_argnums=0),
            evaluate=jit(self._spread(programs.evaluate, (runs, runs, shared, runs))),
        )

    def _spread(self, program: Callable[..., Any], specs: Any) -> Callable[..., Any]:
        """`program` for every run of a chunk: vmapped on each device, each device on its own."""
        if self.width is None:
            return program
        axes = jax.tree.map(lambda spec: 0 if spec else None, specs, is_leaf=_is_spec)
        # Runs never talk to each other, so each device gets the whole program of its share: XLA's
        # partitioner would have to find that out, which takes it minutes. check_vma would take
        # parameters that start equal on all devices (zero biases) as shared and sum their
        # gradients.
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

    def pass_runs(self, per_run: Any) -> Any:
        """As `put_runs`, for what a single call reads.

        On CPU NumPy arrays are passed as they are: a program takes them in a tenth of the time that
        putting them on the device first would need, which small networks would notice.
        """
        if self.width is None:
            return jax.tree.map(lambda array: array[0], per_run)
        return self.put_runs(per_run)

    def put_shared(self, shared: Any) -> Any:
        """Arrays that every run reads onto every device."""
        return jax.device_put(shared, self._shared)

    def get_runs(self, per_run: Any) -> Any:
        """The opposite of `put_runs`: NumPy arrays with a leading run axis."""
        host = jax.tree.map(np.asarray, per_run)
        return jax.tree.map(lambda array: array[None], host) if self.width is None else host


def _is_spec(leaf: Any) -> bool:
    return isinstance(leaf, PartitionSpec)


def default_lanes(width: int | None) -> list[Lane]:
    """On CPU one lane as often as there are cores; on accelerators one over all devices.

    Args:
        width: runs side by side on accelerators; one that does not fill every device alike is
            rounded up.
    """
    devices = jax.local_devices()
    if devices[0].platform == "cpu":
        lanes = [Lane([device], None) for device in devices]
        cores = range(available_cores())
        return [lanes[core // LANES_PER_CPU_DEVICE % len(lanes)] for core in cores]
    if width is None:
        raise ValueError("lanes on accelerators need a width: see fitting_width")
    return [Lane(devices, -(-width // len(devices)) * len(devices))]
