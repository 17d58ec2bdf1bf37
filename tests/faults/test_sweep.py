"""Studies of several cells that are killed and stopped: afterwards as if nothing had been."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from comparisons import ended, files

ROOT = Path(__file__).parents[2]


def start(dataset: str, out: Path) -> subprocess.Popen[str]:
    """A sweep of 2 cells, 2 arms and 2 seeds: eight runs of a second or two."""
    command = [sys.executable, "-m", "experiments.sweep", "--dataset", dataset]
    command += ["--imbalance-factor", "2", "4", "--num-seeds", "2", "--num-epochs", "30"]
    command += ["--batch-size", "16", "--quiet", "--out", str(out)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture(scope="module")
def unbroken(tiny_npz: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "sweep"
    assert ended(start(tiny_npz, out)) == (0, "")
    assert len(list(out.glob("runs/*/*.npz"))) == 8
    assert len(list(out.glob("runs/*"))) == 2
    return out


def kill_and_run_again(dataset: str, out: Path, kills: int) -> None:
    """Kills the process at random moments, then lets it end."""
    moments, num_killed = random.Random(kills), 0
    for _ in range(kills):
        process = start(dataset, out)
        time.sleep(moments.uniform(0, 12))
        process.kill()
        process.communicate(timeout=120)
        num_killed += process.returncode == -signal.SIGKILL
    assert num_killed > 0
    assert ended(start(dataset, out)) == (0, "")


@pytest.mark.slow
@pytest.mark.fault(1, 4, 13)
def test_a_sweep_that_is_killed_three_times(tiny_npz: str, unbroken: Path, tmp_path: Path) -> None:
    kill_and_run_again(tiny_npz, tmp_path / "sweep", 3)
    assert files(tmp_path / "sweep") == files(unbroken)


@pytest.mark.exhaustive
@pytest.mark.fault(1, 4, 13)
def test_a_sweep_that_is_killed_twenty_times(tiny_npz: str, unbroken: Path, tmp_path: Path) -> None:
    kill_and_run_again(tiny_npz, tmp_path / "sweep", 20)
    assert files(tmp_path / "sweep") == files(unbroken)


@pytest.mark.slow
@pytest.mark.fault(6)
def test_sigterm_saves_a_sweep(tiny_npz: str, unbroken: Path, tmp_path: Path) -> None:
    """It comes while the first cell trains, and once more in the second."""
    out = tmp_path / "sweep"
    for number in (2, 6):
        process = start(tiny_npz, out)
        while len(list(out.glob("runs/*/*.npz"))) < number:
            assert process.poll() is None
            time.sleep(0.005)
        process.terminate()
        code, errors = ended(process)
        assert (code, errors.count("\n")) == (143, 1)
        assert "the same command continues" in errors
    assert ended(start(tiny_npz, out)) == (0, "")
    assert files(out) == files(unbroken)
