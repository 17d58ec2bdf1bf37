"""A process that is killed loses nothing finished, and a rerun ends as if nothing had been."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def start(dataset: str, out: Path) -> subprocess.Popen[bytes]:
    flags = ["--dataset", dataset, "--imbalance-factor", "4", "--num-seeds", "3"]
    flags += ["--num-epochs", "40", "--batch-size", "16", "--quiet", "--out", str(out)]
    return subprocess.Popen([sys.executable, "-m", "experiments.compare", *flags], cwd=ROOT)


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name != "log.jsonl"
    }


@pytest.mark.slow
def test_killed_after_any_run_and_run_again_gives_the_same_bytes(
    tiny_npz: str, tmp_path: Path
) -> None:
    assert start(tiny_npz, tmp_path / "unbroken").wait(timeout=300) == 0
    for num_finished in (1, 2, 4):
        process = start(tiny_npz, tmp_path / "killed")
        runs = tmp_path / "killed" / "runs"
        deadline = time.monotonic() + 300
        while len(list(runs.glob("*.npz"))) < num_finished and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "comparison.json").exists()
    assert start(tiny_npz, tmp_path / "killed").wait(timeout=300) == 0
    assert files(tmp_path / "killed") == files(tmp_path / "unbroken")
