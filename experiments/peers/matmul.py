"""The ceiling: the fastest float32 matrix products of these cores, one thread a core."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp

from cwjax.config import RuntimeConfig, available_cores
from cwjax.training.devices import configure

SIZES = (512, 1024, 2048)
MIN_FLOP = 10e9  # per core and size: about a tenth of a second


def prepare() -> tuple[Callable[[], object], Callable[[], float]]:
    """What compiles, and what measures GFLOP/s of all cores, of the size that is fastest then."""
    configure(RuntimeConfig(platform="cpu", compile_cache=False))
    cores = available_cores()
    multiply = jax.jit(jnp.matmul)
    operands = {
        size: [jax.random.normal(jax.random.key(core), (size, size)) for core in range(cores)]
        for size in SIZES
    }
    pool = ThreadPoolExecutor(cores)

    def multiply_often(matrix: jax.Array, times: int) -> None:
        for _ in range(times):
            multiply(matrix, matrix).block_until_ready()

    def gflop_per_second(size: int) -> float:
        flop = 2 * size**3
        times = max(1, round(MIN_FLOP / flop))
        start = time.perf_counter()
        list(pool.map(multiply_often, operands[size], [times] * cores))
        return cores * times * flop / (time.perf_counter() - start) / 1e9

    def compile_all() -> None:
        for size in SIZES:
            multiply_often(operands[size][0], 1)

    return compile_all, lambda: max(gflop_per_second(size) for size in SIZES)
