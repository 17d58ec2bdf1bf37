"""Signals end a script with everything saved, in a known way."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
from comparisons import Compare, ended, files, log

pytestmark = pytest.mark.slow

SAVED = "interrupted: saved; the same command continues where it stopped\n"


def when_training(process: subprocess.Popen[str], out: Path, number: int) -> tuple[int, str]:
    """Sends the signal once training begins; exit code and standard error."""
    num_events = len(log(out))
    while len(log(out)) == num_events:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(number)
    return ended(process)


@pytest.mark.fault(6, 7, 21)
def test_a_signal_saves_what_is_in_flight(compare: Compare, unbroken: Path, tmp_path: Path) -> None:
    """No checkpoint is due for a minute; then one core goes on with what two had begun."""
    assert when_training(compare.start(tmp_path), tmp_path, signal.SIGTERM) == (143, SAVED)
    checkpoints = sorted(path.name for path in tmp_path.glob("checkpoints/*/*"))
    assert checkpoints == ["1.checkpoint", "1.checkpoint"]
    assert when_training(compare.start(tmp_path), tmp_path, signal.SIGINT) == (130, SAVED)
    assert compare(tmp_path, "--max-parallel-runs", "1") == (0, "")
    trained = [event["continued"] for event in log(tmp_path) if event["event"] == "training"]
    assert trained == [0, 2, 2]
    assert files(tmp_path) == files(unbroken)


@pytest.mark.fault(7)
def test_a_second_interrupt_ends_at_once(compare: Compare, unbroken: Path, tmp_path: Path) -> None:
    """It comes while the first one's checkpoint is written."""
    twice = [("interrupt", "*.checkpoint", 3), ("interrupt", "*.checkpoint", 4)]
    assert compare(tmp_path, faults=twice, checkpoint_seconds=0) == (130, "")
    assert len(list(tmp_path.rglob(".tmp-*"))) == 1
    assert compare(tmp_path) == (0, "")
    assert files(tmp_path) == files(unbroken)
