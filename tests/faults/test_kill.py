"""A process that is killed loses nothing finished, and a rerun ends as if nothing had been."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from comparisons import Compare, files, log

DEADLINE_SECONDS = 120


def kill_once(process: subprocess.Popen[str], reached: Callable[[], bool]) -> None:
    """Kills the process as soon as it has come that far; it must not end before."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not reached():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.fault(4, 13)
def test_killed_after_any_run_and_run_again_gives_the_same_bytes(
    compare: Compare, unbroken: Path, tmp_path: Path
) -> None:
    """The lock and the holder's name that a dead process leaves stop nobody."""
    runs = tmp_path / "runs"
    for num_finished in (1, 2):
        kill_once(
            compare.start(tmp_path), lambda n=num_finished: len(list(runs.rglob("*.npz"))) >= n
        )
        assert (tmp_path / ".holder").exists()
    assert not (tmp_path / "comparison.json").exists()
    assert compare(tmp_path) == (0, "")
    assert files(tmp_path) == files(unbroken)


@pytest.mark.fault(1)
@pytest.mark.parametrize(
    "num_kills",
    [pytest.param(3, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.exhaustive)],
)
def test_killed_at_random_moments_of_training_and_run_again_gives_the_same_bytes(
    compare: Compare, unbroken: Path, tmp_path: Path, num_kills: int
) -> None:
    """Every epoch is followed by a checkpoint, so that a third of the moments are in a write."""
    moments = random.Random(num_kills)
    num_killed = 0
    for place in range(num_kills):
        out = tmp_path / f"{place // 4}"  # four kills in one directory, then another
        num_starts = len(log(out))
        process = compare.start(out, checkpoint_seconds=0)
        while len(log(out)) == num_starts and process.poll() is None:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 5))
        process.kill()
        process.communicate()
        num_killed += process.returncode == -signal.SIGKILL
    assert num_killed > num_kills / 2
    for out in tmp_path.iterdir():
        assert compare(out) == (0, "")
        assert files(out) == files(unbroken)


@pytest.mark.slow
@pytest.mark.fault(99)
def test_killed_after_a_look_and_run_again_gives_the_same_bytes(
    compare: Compare, tmp_path: Path
) -> None:
    """One kill right after the first look, one among the runs that follow it."""
    out, flags = tmp_path / "out", ("--arms", "uniform", "focal", "--model=linear")
    planned = {"seeds": ("--max-seeds", "9", "--looks", "6", "9")}
    assert compare(tmp_path / "unbroken", *flags, **planned) == (0, "")
    unbroken = files(tmp_path / "unbroken")
    looks = [event["look"] for event in log(tmp_path / "unbroken") if event["event"] == "look"]
    assert looks == [1, 2]

    def has_looked() -> bool:
        return any(event["event"] == "look" for event in log(out))

    kill_once(compare.start(out, *flags, **planned), has_looked)
    assert 12 <= len(list(out.glob("runs/*/*"))) < 18
    kill_once(compare.start(out, *flags, **planned), lambda: len(list(out.glob("runs/*/*"))) >= 14)
    assert not (out / "comparison.json").exists()
    assert compare(out, *flags, **planned) == (0, "")
    assert files(out) == unbroken
