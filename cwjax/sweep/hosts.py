"""Several processes, on one host or many, on JAX's own distributed runtime.

Runs are independent, so the processes exchange nothing but a few words before and after they train,
through JAX's key-value store; the first process keeps it. A process that is lost stops answering
JAX's heartbeats, and JAX then ends the others.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cwjax.errors import ConfigError

JOIN_SECONDS = 300
"""For all processes to have started."""

ENTER_SECONDS = 1800
"""For all processes to have loaded the data and checked their directories, once one has."""

POLL_SECONDS = 0.5
"""Between two looks at what the others have said."""

SHARE_SECONDS = 5
"""For a file that the first process has written to be seen on other hosts, where they share it."""


@dataclass(frozen=True)
class Hosts:
    """Who takes part; all None where SLURM, a TPU pod or Open MPI tells JAX."""

    coordinator: str | None = None  # HOST:PORT of the first process
    num_processes: int | None = None
    process_id: int | None = None
    timeout: int = 30  # seconds after which a silent process is lost


def join(hosts: Hosts) -> tuple[int, int]:
    """Meets the other processes; returns this one's index and their number.

    Call it after `devices.prepare` and before any other use of JAX: it starts no backend.

    Raises:
        ConfigError: they cannot be found.
    """
    import jax

    with contextlib.suppress(AttributeError):  # a JAX without it
        # It would take SIGTERM, which is the supervisor's to hear.
        jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator_address=hosts.coordinator,
            num_processes=hosts.num_processes,
            process_id=hosts.process_id,
            initialization_timeout=JOIN_SECONDS,
            heartbeat_timeout_seconds=hosts.timeout,
        )
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            f"--distributed: the other processes are not found ({str(error).splitlines()[0]}); "
            "start it under SLURM, Open MPI or on a TPU pod, or give --coordinator HOST:PORT, "
            "--num-processes and --process-id"
        ) from error
    return _state().process_id, _state().num_processes


def leave() -> None:
    """Ends what `join` began, together with the others.

    Without it the first process, which the others listen to, could end before they know that all
    is done, and they would take it for lost.
    """
    import jax

    jax.distributed.shutdown()


def exchange(
    topic: str, value: str, stop: threading.Event, seconds: float = float("inf")
) -> list[str] | None:
    """Waits until every process has said something on a topic.

    Args:
        topic: used once.
        value: what this process says.
        stop: ends the waiting.
        seconds: for the others to come.

    Returns:
        What each process says, in their order; None once `stop` is set.

    Raises:
        ConfigError: one of them is lost, or has not come in time.
    """
    _tell(f"{topic}/{_state().process_id:06}", value)
    deadline = time.monotonic() + seconds
    while len(values := _told(topic)) < _state().num_processes:
        if stop.wait(POLL_SECONDS):
            return None
        _check_time(deadline, topic)
    return values


@contextlib.contextmanager
def shown(directory: Path) -> Iterator[None]:
    """The first process shows the others its directory; they look with `shares`."""
    token = directory / f".tmp-{secrets.token_hex(8)}"  # where it is left over it is cleaned
    token.touch()
    try:
        _tell("directory/token", token.name)
        yield
    finally:
        token.unlink()


def shares(directory: Path) -> bool:
    """Whether `directory` is the one that the first process shows; waits until it does.

    Raises:
        ConfigError: the first process does not come.
    """
    deadline = time.monotonic() + ENTER_SECONDS
    while not (tokens := _told("directory")):
        time.sleep(POLL_SECONDS)
        _check_time(deadline, "directory")
    give_up = time.monotonic() + SHARE_SECONDS
    while not (directory / tokens[0]).exists():
        if time.monotonic() > give_up:
            return False
        time.sleep(POLL_SECONDS)
        with contextlib.suppress(OSError):
            os.listdir(directory.parent)  # NFS then asks the server whether there is something new
    return True


def _check_time(deadline: float, topic: str) -> None:
    if time.monotonic() > deadline:
        raise ConfigError(_lost(f"no word of it on {topic!r}"))


def _tell(key: str, value: str) -> None:
    with _ending_of_others():
        _state().client.key_value_set(f"cwjax/{key}", value)


def _told(topic: str) -> list[str]:
    with _ending_of_others():
        told = _state().client.key_value_dir_get(f"cwjax/{topic}/")
    return [value for _, value in sorted(told)]


@contextlib.contextmanager
def _ending_of_others() -> Iterator[None]:
    import jax

    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        raise ConfigError(_lost(str(error).splitlines()[0])) from error


def _lost(reason: str) -> str:
    return (
        f"a process of this sweep is lost or stuck ({reason}): start all of them again, finished "
        "runs are kept"
    )


def _state() -> Any:
    """JAX's own; its public functions for it need devices, and start them."""
    from jax._src import distributed

    return distributed.global_state
