"""Peers as processes of their own that take turns, for who compares their speed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, TypeVar

import msgspec
from rich.console import Console
from rich.progress import track

from cwjax.errors import ConfigError
from experiments.peers import PER_CORE, Repeat, Row, WorkName

T = TypeVar("T")


@dataclass(frozen=True)
class Peer:
    """What is measured.

    Attributes:
        name: as `experiments.peers` takes it; with `PER_CORE` one process for each core.
        num_examples: that are trained on.
        work: what is trained.
        seconds: a measurement goes over the examples until it has lasted as long; at least once.
        num_classes: of a dense network, in place of the work's; 0 for those.
    """

    name: str
    num_examples: int
    work: WorkName = "cnn"
    seconds: float = 0.0
    num_classes: int = 0


def measure_in_turns(peers: Sequence[Peer], repeats: int, threads: int) -> list[Row]:
    """Each peer's row.

    Args:
        peers: that take turns.
        repeats: measurements of each.
        threads: CPU cores that each may use.

    Raises:
        ConfigError: a peer that ended.
    """
    with ExitStack() as stack:
        rows, running = list[Row](), []
        # One after the other: a start is measured too.
        for peer in progress(peers, "starting"):
            group = PeerGroup(peer, threads, stack)
            rows.append(group.row)
            if not group.row.skipped:
                running.append(group)
        turns = [turn for _ in range(repeats) for turn in running]
        for group in progress(turns, "measuring"):
            group.row.repeats.append(group.measure())
    return rows


def progress(sequence: Sequence[T], description: str) -> Iterable[T]:
    """A bar on standard error while the sequence is gone through; nothing without a terminal."""
    console = Console(stderr=True)
    return track(
        sequence, description, console=console, transient=True, disable=not console.is_terminal
    )


class PeerGroup:
    """The process of a peer, or one single-threaded process for each core.

    Args:
        peer: that is started.
        threads: CPU cores of all its processes together.
        stack: ends the processes.

    Attributes:
        row: what the peer says of itself; its measurements are to be put in.
    """

    def __init__(self, peer: Peer, threads: int, stack: ExitStack) -> None:
        name = peer.name.removesuffix(PER_CORE)
        cores = [(core, 1) for core in range(threads)] if name != peer.name else [(0, threads)]
        self._processes = [
            stack.enter_context(PeerProcess(replace(peer, name=name), first, number))
            for first, number in cores
        ]
        rows = [msgspec.json.decode(each.answer(), type=Row) for each in self._processes]
        self.row = replace(rows[0], name=peer.name, threads=threads)

    def measure(self) -> Repeat:
        """One repeat; of several processes at once the sums."""
        for process in self._processes:
            process.go()
        repeats = [msgspec.json.decode(each.answer(), type=Repeat) for each in self._processes]
        return replace(
            repeats[0],
            peak_memory_mib=sum(repeat.peak_memory_mib for repeat in repeats),
            examples_per_second=sum(repeat.examples_per_second for repeat in repeats),
        )


class PeerProcess:
    """A peer that is kept alive and measures once a call; a context manager that ends it."""

    def __init__(self, peer: Peer, first_core: int, threads: int) -> None:
        self.name = peer.name
        self._messages = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in __exit__)
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "experiments.peers", peer.name, "--serve"),
                *("--work", peer.work, "--num-examples", str(peer.num_examples)),
                *("--seconds", str(peer.seconds), "--num-classes", str(peer.num_classes)),
                *("--first-core", str(first_core), "--threads", str(threads)),
            ],
            cwd=Path(__file__).parents[2],  # `experiments` is found from the checkout
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._messages.close()

    def answer(self) -> str:
        """The next line of the peer: after its start its row, then one measurement per line.

        Raises:
            ConfigError: the peer ended instead; with the last line that it wrote.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._messages.seek(0)
            reason = (self._messages.read().strip().splitlines() or ["no message"])[-1]
            raise ConfigError(f"{self.name}: {reason.removeprefix('error: ')}")
        return line

    def go(self) -> None:
        """Begins one repeat."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
