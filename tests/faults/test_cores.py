"""A machine of another size goes on with what was begun."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from comparisons import Compare, files

from cwjax.config import available_cores
from cwjax.store.directory import StudyDirectory
from cwjax.training.devices import THREADS


@pytest.mark.slow
@pytest.mark.fault(21)
@pytest.mark.skipif(available_cores() < 2, reason="there is one core")
def test_fewer_cores_go_on_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the recorded number of threads the second seed differs in its last bits."""
    monkeypatch.delenv(THREADS, raising=False)
    compare = Compare("mnist5k")
    short = ("--num-epochs", "2", "--imbalance-factor", "50", "--batch-size", "56")
    assert compare(tmp_path / "unbroken", *short) == (0, "")
    assert compare(tmp_path / "moved", *short, "--num-seeds", "1") == (0, "")
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        assert compare(tmp_path / "moved", *short) == (0, "")
        assert compare(tmp_path / "small", *short) == (0, "")
    finally:
        os.sched_setaffinity(0, cores)
    assert files(tmp_path / "moved") == files(tmp_path / "unbroken")
    study = StudyDirectory(tmp_path / "unbroken").known_study()
    assert study.environment.cpu_threads == len(cores)
    (cell,) = study.cells
    small, run = files(tmp_path / "small"), f"runs/{cell}/uniform-1.npz"
    assert small[run] != files(tmp_path / "moved")[run]
