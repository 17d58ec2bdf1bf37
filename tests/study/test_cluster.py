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

from cwjax.config import RuntimeConfig, TrainConfig
from cwjax.data.dataset import Dataset
from cwjax.errors import ConfigError
from cwjax.study import ray_machines
from cwjax.study.exchange import Work

ROOT = Path(__file__).parents[2]
TOYS = Path("tests/toys/keeping.py")
FLAGS = (
    *("--imbalance-factor", "4", "--batch-size", "16", "--quiet"),
    *("--num-epochs", "600", "--num-seeds", "4"),
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
    wait_for(lambda: training(out) or driver.poll() is not None)
    time.sleep(random.uniform(0, 1.5))
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


Happening = Callable[[Cluster, Study, Path], subprocess.Popen[str]]
slow, exhaustive = pytest.mark.slow, pytest.mark.exhaustive


@pytest.mark.parametrize(
    "happening",
    [
        pytest.param(kill_node, marks=[slow, pytest.mark.fault(61, 66, 91)]),
        pytest.param(kill_worker, marks=[slow, pytest.mark.fault(59, 92)]),
        pytest.param(add_node, marks=[exhaustive, pytest.mark.fault(93)]),
        pytest.param(kill_driver, marks=[slow, pytest.mark.fault(94)]),
        pytest.param(stop_driver, marks=[exhaustive, pytest.mark.fault(95)]),
        pytest.param(terminate_node, marks=[exhaustive, pytest.mark.fault(68)]),
        pytest.param(stop_node, marks=[exhaustive, pytest.mark.fault(67)]),
        pytest.param(terminate_driver, marks=[exhaustive, pytest.mark.fault(94)]),
    ],
)
def test_whatever_happens_the_results_are_those_of_one_machine(
    happening: Happening,
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


@pytest.mark.exhaustive
@pytest.mark.parametrize("trial", range(10))
def test_ten_random_trials(
    trial: int, cluster: Cluster, study: Study, local: dict[str, bytes], tmp_path: Path
) -> None:
    """Each of four happenings at random moments of the training."""
    happening = (kill_node, kill_worker, kill_driver, stop_driver)[trial % 4]
    assert ended(happening(cluster, study, tmp_path / "out")) == (0, "")
    assert files(tmp_path / "out") == local


@pytest.mark.slow
@pytest.mark.fault(92)
def test_a_run_that_kills_its_process_fails_alone(study: Study, tmp_path: Path) -> None:
    """Its parameters overflow: with them the model ends its process, here and again."""
    out = tmp_path / "out"
    flags = ("--arms", "uniform", "uniform:lr=1000000", "--num-seeds", "1", "--num-epochs", "30")
    model = ("--model", f"{TOYS}:Deadly", "--cluster", "local")
    code, errors = study(out, *flags, *model, "--learning-rate", "1e32")
    assert code == 1
    (failure,) = set(errors.splitlines())
    assert failure.startswith("failed: uniform:lr=1000000 seed 0: ")
    assert "the process that trained it ended twice before the run did" in failure
    assert len(list(out.glob("runs/*/*"))) == 1
    assert len(log(out, "lost")) == 1  # the second time there is nothing to go on with


@pytest.mark.slow
@pytest.mark.fault(96)
def test_no_cluster_at_the_address(study: Study, tmp_path: Path) -> None:
    started = time.monotonic()
    code, error = study(tmp_path / "out", "--cluster", "127.0.0.1:1")
    assert time.monotonic() - started < 30
    assert code == 2
    assert error.startswith("error: --cluster 127.0.0.1:1: nothing answers there (")
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.fault(97)
def test_a_full_object_store_is_told_before_anything_is_written(
    tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.exceptions import OutOfDiskError

    def full(_: Dataset) -> None:
        raise OutOfDiskError("no space")

    monkeypatch.setattr(ray_machines.ray, "put", full)
    work = Work(TrainConfig(), RuntimeConfig(), 1, None)
    with pytest.raises(ConfigError, match=r"object store is full .*--object-store-memory"):
        ray_machines.RayMachines(work, [tiny_dataset])


def test_nodes_offer_what_ray_says() -> None:
    """A process for every accelerator; for every node where none is asked for."""
    node = ray_machines._Machine("1", "a", ("127.0.0.1", 1), {"CPU": 8.0, "GPU": 4.0})
    machines = object.__new__(ray_machines.RayMachines)
    machines._accelerator = "GPU"
    assert machines._num_workers(node) == 4
    machines._accelerator = None
    assert machines._num_workers(node) == 1
    assert not node.is_reachable()
