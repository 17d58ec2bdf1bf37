"""A Ray cluster trains what one machine trains, whatever happens to its nodes; real processes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[cluster]'")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TOYS = Path("tests/toys/keeping.py")
FLAGS = (
    *("--imbalance-factor", "4", "--batch-size", "16", "--quiet"),
    *("--num-epochs", "300", "--num-seeds", "4"),
)


class Study:
    """`cwjax compare` on tiny data: eight runs of some seconds each, whose states are kept."""

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset

    def start(self, out: Path, *flags: str, dataset: str | None = None) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "experiments.compare", "--out", str(out), *FLAGS]
        command += ["--dataset", dataset or self.dataset, "--model", f"{TOYS}:Keeping", *flags]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, out: Path, *flags: str) -> tuple[int, str]:
        return ended(self.start(out, *flags))


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, errors = process.communicate(timeout=300)
    return process.returncode, errors


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name != "log.jsonl"
    }


def log(directory: Path, event: str) -> list[dict[str, Any]]:
    path = directory / "log.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [entry for entry in map(json.loads, lines) if entry["event"] == event]


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def training(out: Path) -> bool:
    """Whether some state of a run is kept: training is under way."""
    return any(out.glob("checkpoints/*/*.checkpoint"))


@pytest.fixture(scope="module")
def study(tiny_npz: str) -> Study:
    return Study(tiny_npz)


@pytest.fixture(scope="module")
def local(study: Study, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the study leaves that trains in its own process."""
    out = tmp_path_factory.mktemp("local") / "out"
    assert study(out) == (0, "")
    return files(out)


class Cluster:
    """Ray's nodes on this machine, of one core each; the first is the head."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("ray_nodes.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.address = self._line()
        self.raylets = [int(self._line())]

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def add_node(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self.raylets.append(int(self._line()))

    def signal_node(self, number: signal.Signals) -> None:
        """Sends all processes of the last node a signal."""
        raylet = self.raylets.pop()
        for process in [raylet, *children(raylet)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def close(self) -> None:
        self._process.communicate(timeout=60)


def children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found


def workers(raylet: int) -> list[int]:
    """The processes of a node that train."""
    found = []
    for process in children(raylet):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{process}/cmdline").read_bytes().startswith(b"ray::_Actor"):
                found.append(process)
    return found


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Three nodes."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    made = Cluster()
    made.add_node()
    made.add_node()
    yield made
    made.close()


def started(cluster: Cluster, study: Study, out: Path) -> subprocess.Popen[str]:
    """The driver, some moments into the training."""
    driver = study.start(out, "--cluster", cluster.address)
    wait_for(lambda: training(out))
    time.sleep(random.uniform(0, 3))
    return driver


def kill_node(cluster: Cluster, study: Study, out: Path) -> subprocess.Popen[str]:
    driver = started(cluster, study, out)
    cluster.signal_node(signal.SIGKILL)
    return driver


def terminate_node(cluster: Cluster, study: Study, out: Path) -> subprocess.Popen[str]:
    driver = started(cluster, study, out)
    cluster.signal_node(signal.SIGTERM)
    return driver


def stop_node(cluster: Cluster, study: Study, out: Path) -> subprocess.Popen[str]:
    """It hangs for ever: Ray takes half a minute to find that out."""
    driver = started(cluster, study, out)
    cluster.signal_node(signal.SIGSTOP)
    return driver


def kill_worker(cluster: Cluster, study: Study, out: Path) -> subprocess.Popen[str]:
    driver = started(cluster, study, out)
    os.kill(random.choice([pid for raylet in cluster.raylets for pid in workers(raylet)]), 9)
    return driver


def add_node(cluster: Cluster, study: Study, out: Path) -> subprocess.Popen[str]:
    """The data are gone when it comes: nodes get them from the driver."""
    copy = Path(shutil.copy(study.dataset.removeprefix("npz:"), out.with_name("tiny.npz")))
    driver = study.start(out, "--cluster", cluster.address, dataset=f"npz:{copy}")
    wait_for(lambda: training(out))
    copy.unlink()
    cluster.add_node()
    wait_for(lambda: workers(cluster.raylets[-1]))
    return driver


def kill_driver(cluster: Cluster, study: Study, out: Path) -> subprocess.Popen[str]:
    driver = started(cluster, study, out)
    driver.kill()
    driver.communicate()
    return study.start(out, "--cluster", cluster.address)


def terminate_driver(cluster: Cluster, study: Study, out: Path) -> subprocess.Popen[str]:
    driver = started(cluster, study, out)
    driver.terminate()
    saved = "interrupted: saved; the same command continues where it stopped\n"
    assert ended(driver) == (143, saved)
    return study.start(out, "--cluster", cluster.address)


def stop_driver(cluster: Cluster, study: Study, out: Path) -> subprocess.Popen[str]:
    driver = started(cluster, study, out)
    driver.send_signal(signal.SIGSTOP)
    time.sleep(20)
    driver.send_signal(signal.SIGCONT)
    return driver


HAPPENINGS = [
    pytest.param(kill_node, marks=pytest.mark.fault(61, 66, 91)),
    pytest.param(terminate_node, marks=pytest.mark.fault(68)),
    pytest.param(stop_node, marks=pytest.mark.fault(67)),
    pytest.param(kill_worker, marks=pytest.mark.fault(59, 92)),
    pytest.param(add_node, marks=pytest.mark.fault(93)),
    pytest.param(kill_driver, marks=pytest.mark.fault(94)),
    pytest.param(terminate_driver, marks=pytest.mark.fault(94)),
    pytest.param(stop_driver, marks=pytest.mark.fault(95)),
]


@pytest.mark.parametrize("happening", HAPPENINGS)
def test_whatever_happens_the_results_are_those_of_one_machine(
    happening: Callable[[Cluster, Study, Path], subprocess.Popen[str]],
    cluster: Cluster,
    study: Study,
    local: dict[str, bytes],
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    assert ended(happening(cluster, study, out)) == (0, "")
    assert files(out) == local
    lost = happening in (kill_node, terminate_node, stop_node, kill_worker)
    assert bool(log(out, "lost")) == lost
