"""Sets JAX up before its backend starts: platform, host devices, threads, compile cache.

The only place that touches XLA flags. All of it must happen before the first array exists, because
a backend that has started ignores later changes without a word.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import jax

from cwjax.config import THREADS, RuntimeConfig, available_cores, default_threads
from cwjax.data.cache import cache_directory
from cwjax.errors import ConfigError

SINGLE_THREADED = "--xla_cpu_multi_thread_eigen=false"
"""Faster than sharing the cores within a matrix product, and sums are always taken in the same
order, so that a run's bits do not depend on its neighbours."""

_NUMBER_FLAGS = {
    "jax_threefry_partitionable": True,
    "jax_default_prng_impl": "threefry2x32",
    "jax_enable_x64": False,
}
"""JAX's flags that decide random numbers and types, with the values that they have by default."""

LANES_PER_CPU_DEVICE = 32
"""XLA:CPU executes no more programs at once on one device; larger machines need several."""

MATMUL_PRECISION = {"float32": "highest", "tf32": "tensorfloat32", "bf16": "bfloat16"}
"""What JAX calls each `--precision`."""


@dataclass(frozen=True)
class DeviceFacts:
    """What results depend on besides versions and settings."""

    platform: str
    device_kind: str
    cpu_threads: int | None
    """Size of XLA's thread pool; None on accelerators."""
    jax_flags: dict[str, bool | str]
    """JAX's flags that decide numbers and differ from their defaults."""


def configure(
    runtime: RuntimeConfig, precision: str = "float32", cpu_threads: int | None = None
) -> DeviceFacts:
    """Prepares JAX for `runtime`; best called before any other use of JAX.

    In a process whose JAX has started already, its devices and flags stay as they are.

    Args:
        runtime: how to use the machine.
        precision: of matrix products: float32, tf32 or bf16.
        cpu_threads: of the thread pool on CPU [default: as many as there are cores].

    Raises:
        ConfigError: the asked platform is not there, or it does not have the asked precision.
    """
    prepare(runtime, cpu_threads)
    return checked(runtime, precision)


def prepare(runtime: RuntimeConfig, cpu_threads: int | None = None) -> None:
    """The part of `configure` that must come before the backend starts, and does not start it."""
    if runtime.platform in ("cpu", "tpu"):  # "gpu" is several platforms to JAX, all but one missing
        jax.config.update("jax_platforms", runtime.platform)
    if not _jax_runs():  # else the caller's devices are used, and the thread pool that there is
        os.environ[THREADS] = str(cpu_threads or default_threads())
        num_devices = -(-available_cores() // LANES_PER_CPU_DEVICE)
        jax.config.update("jax_num_cpu_devices", num_devices)
    flags = os.environ.get("XLA_FLAGS", "")
    if SINGLE_THREADED.split("=")[0] not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {SINGLE_THREADED}".strip()
    if runtime.compile_cache:
        use_compile_cache(cache_directory() / "compiled")


def _jax_runs() -> bool:
    """Whether the backend has started: from then on JAX refuses another number of devices."""
    number = jax.config.jax_num_cpu_devices  # type: ignore[attr-defined]
    try:
        jax.config.update("jax_num_cpu_devices", 1 if number != 1 else 2)
    except RuntimeError:
        return True
    jax.config.update("jax_num_cpu_devices", number)
    return False


def checked(runtime: RuntimeConfig, precision: str) -> DeviceFacts:
    """The part of `configure` that starts the backend: it checks the devices and tells them."""
    device, reason = _first_device()
    if device is None or runtime.platform not in ("auto", device.platform):
        asked, fix = f"--platform {runtime.platform}", "give --platform auto"
        if runtime.platform == "auto":
            asked, fix = f"JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS')}", "unset it"
        raise ConfigError(
            f"{asked}: JAX finds no such device here ({reason}); {fix}, or install the extra for "
            "it, e.g. pip install -e '.[cuda]'"
        )
    on_cpu = device.platform == "cpu"
    if on_cpu and precision != "float32":
        raise ConfigError(
            f"--precision {precision} is for accelerators: on CPU leave it at float32"
        )
    jax.config.update("jax_default_matmul_precision", MATMUL_PRECISION[precision])
    flags_now = {name: getattr(jax.config, name) for name in _NUMBER_FLAGS}
    return DeviceFacts(
        platform=device.platform,
        device_kind=device.device_kind,
        cpu_threads=default_threads() if on_cpu else None,
        jax_flags={
            name: value for name, value in flags_now.items() if value != _NUMBER_FLAGS[name]
        },
    )


def use_compile_cache(directory: Path) -> None:
    """Keeps compiled programs in `directory`; warns where it cannot be written."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        writable = os.access(directory, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        warnings.warn(
            f"compile cache {directory} cannot be written; programs are compiled anew", stacklevel=2
        )
        return
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _first_device() -> tuple[jax.Device | None, str]:
    """JAX's first device, or None; and what there is instead of a missing one."""
    try:
        device = jax.local_devices()[0]
    except RuntimeError as error:
        return None, str(error).splitlines()[0]
    except AssertionError:  # how jax says that of JAX_PLATFORMS=cuda without CUDA's plugin
        return None, "it finds none"
    return device, f"it finds {device.platform}"
