"""Compiled programs that cannot be kept or read back cost time and change nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def train(dataset: str, out: Path, cache: Path) -> str:
    """One short run; what it wrote on standard error."""
    flags = ["--dataset", dataset, "--imbalance-factor", "4", "--num-seeds", "1", "--quiet"]
    flags += ["--arms", "uniform", "--num-epochs", "1", "--batch-size", "16", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "experiments.compare", *flags],
        cwd=ROOT,
        env=os.environ | {"CWJAX_CACHE": str(cache)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def run_file(directory: Path) -> bytes:
    (file,) = (directory / "runs").rglob("*.npz")
    return file.read_bytes()


@pytest.mark.fault(36)
@pytest.mark.slow
def test_the_results_are_the_same_without_it_and_with_a_damaged_one(
    tiny_npz: str, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    assert train(tiny_npz, tmp_path / "good", cache) == ""
    entries = sorted((cache / "compiled").glob("*-cache"))
    assert len(entries) >= 3
    for number, entry in enumerate(entries):
        content = bytearray(entry.read_bytes())
        content[len(content) // 2] ^= 0xFF
        entry.write_bytes(content[: len(content) // 3] if number % 2 else content)
    warned = train(tiny_npz, tmp_path / "damaged", cache)
    assert "warning: Error reading persistent compilation cache entry" in warned
    assert all(line.startswith("warning: ") for line in warned.splitlines())
    (tmp_path / "file").write_text("in the way")
    warned = train(tiny_npz, tmp_path / "unwritable", tmp_path / "file")
    assert f"warning: compile cache {tmp_path}/file/compiled cannot be written" in warned
    results = {run_file(tmp_path / name) for name in ("good", "damaged", "unwritable")}
    assert len(results) == 1
