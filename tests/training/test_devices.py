"""JAX is set up before it starts: in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import pytest

from cwjax.training.devices import DeviceFacts, use_compile_cache

ROOT = Path(__file__).parents[2]

CONFIGURE = """
from cwjax.config import RuntimeConfig
from cwjax.training.devices import configure
print(configure(RuntimeConfig(platform="cpu", compile_cache=False)))
"""


def configured(program: str = CONFIGURE, **flags: str) -> str:
    environment = {name: v for name, v in os.environ.items() if not name.startswith("JAX_")}
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment | flags,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


@pytest.mark.fault(20)
def test_flags_that_decide_numbers_are_told_where_they_are_not_the_defaults() -> None:
    plain = DeviceFacts("cpu", "cpu", cpu_threads=3, jax_flags={})
    assert configured(NPROC="3") == str(plain)
    changed = configured(NPROC="3", JAX_THREEFRY_PARTITIONABLE="0", JAX_ENABLE_X64="1")
    flags = {"jax_threefry_partitionable": False, "jax_enable_x64": True}
    assert changed == str(replace(plain, jax_flags=flags))


CONFIGURE_TWICE = f"""{CONFIGURE}
import jax
jax.devices()
print(configure(RuntimeConfig(platform="cpu", compile_cache=False), cpu_threads=7))
"""


def test_a_thread_pool_that_runs_already_stays_what_is_told() -> None:
    first, second = configured(CONFIGURE_TWICE, NPROC="3").splitlines()
    assert first == second == str(DeviceFacts("cpu", "cpu", cpu_threads=3, jax_flags={}))


@pytest.mark.fault(36)
def test_a_compile_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    in_use = jax.config.jax_compilation_cache_dir
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match=r"cannot be written; programs are compiled anew"):
        use_compile_cache(tmp_path / "file" / "compiled")
    assert jax.config.jax_compilation_cache_dir == in_use
