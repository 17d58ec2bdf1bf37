"""Several processes, on one host or many, on JAX's own distributed runtime.

Runs are independent, so the processes exchange nothing while they train; they meet at barriers. A
process that is lost stops answering JAX's heartbeats, and JAX then ends the others.
"""

from __future__ import annotations

from dataclasses import dataclass

from cwjax.errors import ConfigError

JOIN_SECONDS = 300
"""For all processes to have started."""

BARRIER_SECONDS = 3600
"""For the slowest process to have trained its share, once another one has."""


@dataclass(frozen=True)
class Hosts:
    """Who takes part; all None where SLURM, a TPU pod or Open MPI tells JAX."""

    coordinator: str | None = None  # HOST:PORT of the first process
    num_processes: int | None = None
    process_id: int | None = None
    timeout: int = 30  # seconds after which a silent process is lost


def join(hosts: Hosts) -> tuple[int, int]:
    """Meets the other processes; returns this one's index and their number.

    Call it before any other use of JAX.

    Raises:
        ConfigError: they cannot be found.
    """
    import jax

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
    return jax.process_index(), jax.process_count()


def leave() -> None:
    """Ends what `join` began, together with the others.

    Without it the first process, which the others listen to, could end before they know that all
    is done, and they would take it for lost.
    """
    import jax

    jax.distributed.shutdown()


def barrier(name: str) -> None:
    """Waits until every process is here.

    Raises:
        ConfigError: one of them has not come within `BARRIER_SECONDS`.
    """
    import jax
    from orbax.checkpoint import multihost

    everyone = set(range(jax.process_count()))
    try:
        multihost.sync_global_processes(name, timeout=BARRIER_SECONDS, processes=everyone)
    except jax.errors.JaxRuntimeError as error:
        raise ConfigError(
            f"a process of this sweep is lost or stuck ({str(error).splitlines()[0]}): start all "
            "of them again, finished runs are kept"
        ) from error
