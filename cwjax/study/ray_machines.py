"""The machines of a Ray cluster, and the processes on them that train.

Ray starts processes, moves bytes and says what is lost; it takes no part in the results.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody

import ray
from ray._private import ray_constants as constants
from ray.exceptions import (
    ObjectStoreFullError,
    OutOfDiskError,
    RayError,
    RayTaskError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cwjax.config import available_cores
from cwjax.data.dataset import Dataset
from cwjax.errors import ConfigError, one_line
from cwjax.study.exchange import Chunk, Greeting, Prepared, Work, Worker
from cwjax.study.node import Node
from cwjax.training.runs import Run

CONNECT_SECONDS = 10
"""How long the head of a cluster may take to answer."""

STORE_BYTES = 256 * 2**20
"""Of the object store of `local` besides twice the data: what chunks and results pass through."""

ACCELERATORS = {"gpu": "GPU", "tpu": "TPU"}
"""Platforms, and what Ray calls their devices."""


@contextlib.contextmanager
def connected(address: str, num_bytes: int) -> Iterator[None]:
    """Ray is connected to a cluster meanwhile; one that runs here already is taken as it is.

    Args:
        address: local, auto or HOST:PORT.
        num_bytes: of the data that are to go into the object store.

    Raises:
        ConfigError: there is no such cluster, or it cannot be used from here.
    """
    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"address": address}
    if address == "local":
        options |= {
            "include_dashboard": False,
            "num_cpus": available_cores(),
            "object_store_memory": STORE_BYTES + 2 * num_bytes,
            "_node_ip_address": "127.0.0.1",
        }
    elif address != "auto":
        _check_answers(address)
    handler = signal.getsignal(signal.SIGTERM)
    reaches_others = constants.ENABLE_RAY_CLUSTER
    try:
        if address == "local":  # Ray listens on 127.0.0.1 alone then, as it does on macOS
            constants.ENABLE_RAY_CLUSTER = False
        ray.init(**options, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError, RayError) as error:
        raise ConfigError(
            f"--cluster {address}: {one_line(error).rstrip('.')}; start Ray here and on the other "
            "nodes, with RAY_AUTH_MODE=token where it wants a token (docs/clusters.md)"
        ) from None
    finally:
        constants.ENABLE_RAY_CLUSTER = reaches_others
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # ray.init puts its own in the place
    # What raylets report would be printed to standard output, and there is no public switch.
    ray._private.worker._worker_logs_enabled = False
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"--cluster {address}: nothing answers there ({error}): start Ray's head with `ray "
            "start --head`, and give the address that it prints"
        ) from None


@dataclass(frozen=True)
class _Machine:
    """A node of a Ray cluster."""

    id: str
    name: str
    address: tuple[str, int]  # of its raylet
    resources: Mapping[str, float]

    def is_reachable(self) -> bool:
        """Whether its raylet answers."""
        try:
            socket.create_connection(self.address, CONNECT_SECONDS).close()
        except OSError:
            return False
        return True


def _machines() -> list[_Machine]:
    return [
        _Machine(
            node["NodeID"],
            node["NodeManagerHostname"],
            (node["NodeManagerAddress"], node["NodeManagerPort"]),
            node["Resources"],
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


class RayMachines:
    """Starts a process for each accelerator or, where none is used, for each machine.

    Args:
        work: what every process is told.
        datasets: of the study; each goes into the object store once.

    Raises:
        ConfigError: the cluster lacks the accelerators that are asked for, or memory for the data.
    """

    def __init__(self, work: Work, datasets: Sequence[Dataset]) -> None:
        self._work = work
        try:
            self._datasets = {data.fingerprint: ray.put(data) for data in datasets}
        except RayError as error:
            raise _storage_problem(error) or error from None
        self._accelerator = self._find_accelerator()
        self._running = Counter[str]()  # processes, by the machine's id

    def _find_accelerator(self) -> str | None:
        """What every process gets one of: as --platform says, or the best that there is."""
        platform = self._work.runtime.platform
        if platform == "cpu":
            return None
        total = Counter[str]()
        for machine in _machines():
            total.update({name: int(number) for name, number in machine.resources.items()})
        for name in ("tpu", "gpu") if platform == "auto" else (platform,):
            if total[ACCELERATORS[name]]:
                return ACCELERATORS[name]
        if platform != "auto":
            raise ConfigError(
                f"--platform {platform}: no node of the cluster offers a {platform.upper()}: start "
                f"Ray where they are, or give --platform auto"
            )
        return None

    def new_workers(self) -> list[Worker]:
        """See `Machines.new_workers`."""
        return [
            self._start(machine, num_workers)
            for machine in _machines()
            if (num_workers := self._num_workers(machine))
            for _ in range(num_workers - self._running[machine.id])
        ]

    def left(self, worker: Worker) -> None:
        """See `Machines.left`."""
        assert isinstance(worker, RayWorker)
        self._running[worker.machine.id] -= 1

    def _num_workers(self, machine: _Machine) -> int:
        if self._accelerator is None:
            return int(machine.resources.get("CPU", 0) >= 1)
        return int(machine.resources.get(self._accelerator, 0))

    def _start(self, machine: _Machine, num_workers: int) -> RayWorker:
        self._running[machine.id] += 1
        num_cpus = int(machine.resources.get("CPU", 0)) // num_workers
        resources = {}
        if self._accelerator is None:
            num_cpus = min(num_cpus, self._work.runtime.max_parallel_runs or num_cpus)
        elif self._accelerator != "GPU":
            resources = {self._accelerator: 1}
        actor = (
            ray.remote(_Actor)
            .options(
                num_cpus=num_cpus,
                num_gpus=int(self._accelerator == "GPU"),
                resources=resources,
                scheduling_strategy=NodeAffinitySchedulingStrategy(machine.id, soft=False),
            )
            .remote(self._work, num_cpus, self._datasets)
        )
        return RayWorker(actor, machine)


class RayWorker:
    """A `Worker` that is an actor of Ray.

    Args:
        actor: of `_Actor`.
        machine: where it is.
    """

    def __init__(self, actor: Any, machine: _Machine) -> None:
        self.node = machine.name
        self.machine = machine
        self._actor = actor

    def greet(self) -> Future[Greeting]:
        """See `Worker.greet`."""
        return _future(self._actor.greet.remote())

    def prepare(self, dataset: str, run: Run) -> Future[Prepared]:
        """See `Worker.prepare`."""
        return _future(self._actor.prepare.remote(dataset, run))

    def exchange(self, chunks: Sequence[Chunk], keep_seconds: float, stop: bool) -> Future[bytes]:
        """See `Worker.exchange`."""
        return _future(self._actor.exchange.remote(chunks, keep_seconds, stop))

    def is_loss(self, error: BaseException) -> bool:
        """See `Worker.is_loss`."""
        return isinstance(error, RayError) and type(error) is not RayError  # that: of an answer

    def machine_lives(self) -> bool:
        """See `Worker.machine_lives`."""
        return self.machine.is_reachable()

    def end(self) -> None:
        """See `Worker.end`."""
        with contextlib.suppress(RayError):
            ray.kill(self._actor)


class _Actor:
    """What runs in a process of the cluster: a `Node`, made when it is greeted."""

    def __init__(self, work: Work, num_cpus: int, datasets: Mapping[str, ray.ObjectRef]) -> None:
        self._arguments = work, num_cpus, datasets

    def greet(self) -> Greeting:
        work, num_cpus, datasets = self._arguments
        self._node = Node(work, num_cpus, lambda fingerprint: ray.get(datasets[fingerprint]))
        return self._node.greet()

    def prepare(self, dataset: str, run: Run) -> Prepared:
        return self._node.prepare(dataset, run)

    def exchange(self, chunks: Sequence[Chunk], keep_seconds: float, stop: bool) -> bytes:
        return self._node.exchange(chunks, keep_seconds, stop)


def _future(reference: Any) -> Future[Any]:
    """The answer of an actor; an error that it raised comes as itself, without Ray's frame."""
    answer = Future[Any]()

    def pass_on(done: Future[Any]) -> None:
        error = done.exception()
        if error is None:
            answer.set_result(done.result())
        else:
            cause = error.cause if isinstance(error, RayTaskError) else error
            answer.set_exception(_storage_problem(cause) or cause)

    reference.future().add_done_callback(pass_on)
    return answer


def _storage_problem(error: BaseException) -> ConfigError | None:
    """A full object store, told with its fix; nothing is lost then."""
    if not isinstance(error, ObjectStoreFullError | OutOfDiskError):
        return None
    return ConfigError(
        f"Ray's object store is full ({type(error).__name__}): start Ray with a larger "
        "--object-store-memory, and where /dev/shm is small mount it larger"
    )
