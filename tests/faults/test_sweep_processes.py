"""Sweeps of real processes that are killed, stopped and lost: afterwards as if nothing had been."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cwjax.sweep.merge import merge

ROOT = Path(__file__).parents[2]
DERIVED = ("scores.parquet", "comparison.json", "status.json", "report.html")


def start(dataset: str, out: Path, *flags: str) -> subprocess.Popen[str]:
    """A sweep of 2 cells, 2 arms and 2 seeds, in a process group of its own."""
    command = [sys.executable, "-m", "experiments.sweep", "--dataset", dataset]
    command += ["--imbalance-factor", "2", "4", "--num-seeds", "2", "--num-epochs", "30"]
    command += ["--batch-size", "16", "--quiet", "--out", str(out), *flags]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )


def end(process: subprocess.Popen[str], timeout: float = 120) -> tuple[int, str]:
    """Its exit code and what it said of errors."""
    _, errors = process.communicate(timeout=timeout)
    return process.returncode, errors


def run_files(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("runs/*.npz")}


def wait_for_runs(out: Path, number: int, *processes: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while len(list(out.rglob("runs/*.npz"))) < number:
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes)
        time.sleep(0.005)


def children(process: subprocess.Popen[str]) -> list[int]:
    listed = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True)
    return [int(pid) for pid in listed.stdout.split()]


def assert_equal(out: Path, unbroken: Path) -> None:
    assert run_files(out) == run_files(unbroken)
    for name in DERIVED:
        assert (out / name).read_bytes() == (unbroken / name).read_bytes(), name


@pytest.fixture(scope="module")
def unbroken(tiny_npz: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "sweep"
    assert end(start(tiny_npz, out))[0] == 0
    assert len(run_files(out)) == 8
    return out


def kill_and_run_again(dataset: str, out: Path, kills: int, rng: random.Random) -> None:
    """Kills the script, or only the process that trains, at random moments; then lets it end."""
    for _ in range(kills):
        process = start(dataset, out)
        time.sleep(rng.uniform(0, 12))
        victims = [process.pid, *children(process)]
        os.kill(rng.choice(victims), signal.SIGKILL)
        process.communicate(timeout=120)
    assert end(start(dataset, out))[0] == 0


@pytest.mark.slow
@pytest.mark.fault(1, 4, 13)
def test_a_sweep_that_is_killed_three_times(tiny_npz: str, unbroken: Path, tmp_path: Path) -> None:
    kill_and_run_again(tiny_npz, tmp_path / "sweep", 3, random.Random(3))
    assert_equal(tmp_path / "sweep", unbroken)


@pytest.mark.exhaustive
@pytest.mark.fault(1, 4, 13)
def test_a_sweep_that_is_killed_twenty_times(tiny_npz: str, unbroken: Path, tmp_path: Path) -> None:
    kill_and_run_again(tiny_npz, tmp_path / "sweep", 20, random.Random(20))
    assert_equal(tmp_path / "sweep", unbroken)


@pytest.mark.slow
@pytest.mark.fault(6)
def test_sigterm_saves_a_sweep(tiny_npz: str, unbroken: Path, tmp_path: Path) -> None:
    process = start(tiny_npz, tmp_path / "sweep")
    wait_for_runs(tmp_path / "sweep", 2, process)
    process.terminate()
    code, errors = end(process)
    assert code == 143
    assert "the same command continues" in errors
    assert end(start(tiny_npz, tmp_path / "sweep"))[0] == 0
    assert_equal(tmp_path / "sweep", unbroken)


@pytest.fixture
def pair(tiny_npz: str, tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes that share a sweep, on two CPU cores each."""
    processes = start_pair(tiny_npz, tmp_path / "sweep")
    yield processes
    kill(processes)


def kill(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def start_pair(
    dataset: str, out: Path, other_out: Path | None = None
) -> list[subprocess.Popen[str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ["--distributed", "--coordinator", f"127.0.0.1:{port}", "--num-processes", "2"]
    flags += ["--peer-timeout", "10", "--max-parallel-runs", "2"]
    outs = (out, other_out or out)
    return [start(dataset, outs[index], *flags, "--process-id", str(index)) for index in (0, 1)]


@pytest.mark.slow
@pytest.mark.fault(70)
def test_two_processes_share_a_sweep_and_get_what_one_gets(
    pair: list[subprocess.Popen[str]], unbroken: Path, tmp_path: Path
) -> None:
    for process in pair:
        assert end(process)[0] == 0
    assert_equal(tmp_path / "sweep", unbroken)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "how"),
    [
        # Lost to the other as one that hangs is, by its silence.
        pytest.param(1, "dies", marks=[pytest.mark.fault(66), pytest.mark.exhaustive]),
        pytest.param(0, "dies", marks=pytest.mark.fault(66)),
        pytest.param(1, "hangs", marks=pytest.mark.fault(67)),
        pytest.param(1, "is preempted", marks=pytest.mark.fault(68)),
    ],
)
def test_a_lost_process_ends_the_other_and_a_restart_goes_on(
    victim: int,
    how: str,
    pair: list[subprocess.Popen[str]],
    tiny_npz: str,
    unbroken: Path,
    tmp_path: Path,
) -> None:
    wait_for_runs(tmp_path / "sweep", 1, *pair)
    if how == "is preempted":
        pair[victim].terminate()
        assert end(pair[victim])[0] == 143
    else:
        stop = signal.SIGKILL if how == "dies" else signal.SIGSTOP
        os.killpg(pair[victim].pid, stop)
    lost = time.monotonic()
    code, errors = end(pair[1 - victim])
    assert time.monotonic() - lost < 60
    assert code in (1, 2)
    assert errors.splitlines()[-1].startswith("error: ")
    if how == "hangs":
        os.killpg(pair[victim].pid, signal.SIGKILL)
    again = start_pair(tiny_npz, tmp_path / "sweep")
    assert [end(process) for process in again] == [(0, ""), (0, "")]
    assert_equal(tmp_path / "sweep", unbroken)


@pytest.mark.slow
@pytest.mark.fault(6, 68)
def test_both_are_preempted_in_directories_of_their_own_and_a_restart_goes_on(
    tiny_npz: str, unbroken: Path, tmp_path: Path
) -> None:
    outs = [tmp_path / "mine", tmp_path / "other"]
    pair = start_pair(tiny_npz, *outs)
    try:
        wait_for_runs(tmp_path, 2, *pair)
        for process in pair:
            process.terminate()
        assert [end(process)[0] for process in pair] == [143, 143]
        again = start_pair(tiny_npz, *outs)
        pair += again
        assert [end(process) for process in again] == [(0, ""), (0, "")]
    finally:
        kill(pair)
    assert all(len(run_files(out)) == 4 for out in outs)
    assert not any((out / "comparison.json").exists() for out in outs)
    merge(outs, tmp_path / "merged", allow_environment_change=False)
    assert_equal(tmp_path / "merged", unbroken)
