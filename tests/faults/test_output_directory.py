"""An output directory that cannot be used is refused, and nothing in it changes: real processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from comparisons import files
from drawn_runs import write_study

from cwjax.store.directory import open_study

ROOT = Path(__file__).parents[2]


def compare(*flags: object, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, "-m", "experiments.compare", *map(str, flags)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def assert_refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    for word in words:
        assert word in result.stderr


def unprivileged() -> tuple[str, ...]:
    """What to put before a command so that file modes bind it, whoever runs the tests."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("file modes do not bind root, and setpriv is not installed")
    dropped = "-dac_override,-dac_read_search"
    return ("setpriv", "--bounding-set", dropped, "--inh-caps", dropped)


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    directory.chmod(0o555)
    try:
        yield
    finally:
        directory.chmod(0o755)


@pytest.mark.fault(10)
def test_a_new_directory_below_one_that_is_read_only(tmp_path: Path) -> None:
    with read_only(tmp_path):
        result = compare("--out", tmp_path / "a" / "b", prefix=unprivileged())
    assert_refused(result, f"{tmp_path} is not writable: give another directory")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault(10)
def test_a_study_that_became_read_only(tmp_path: Path) -> None:
    directory = tmp_path / "results"
    write_study(directory, {"uniform": 0.0, "balanced": 0.5}, 2)
    before = files(directory, with_log=True)
    with read_only(directory), read_only(directory / "runs"):
        result = compare("--out", directory, prefix=unprivileged())
    assert_refused(result, f"{directory} is not writable: give another directory")
    assert files(directory, with_log=True) == before


@pytest.mark.fault(12)
def test_a_directory_that_another_process_holds(tiny_npz: str, tmp_path: Path) -> None:
    with open_study(tmp_path / "results"):
        before = files(tmp_path / "results", with_log=True)
        flags = ["--dataset", tiny_npz, "--imbalance-factor", 4]
        result = compare(*flags, "--out", tmp_path / "results")
        assert_refused(result, f"is in use by process {os.getpid()} on", "give another directory")
        assert files(tmp_path / "results", with_log=True) == before
