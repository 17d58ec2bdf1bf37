"""Peers as processes of their own that take turns, for who compares their speed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self, TypeVar

import msgspec
from rich.console import Console
from rich.progress import track

from cwjax.errors import ConfigError
from experiments.peers import Repeat, Row

T = TypeVar("T")


def measure_in_turns(peers: Sequence[tuple[str, int]], repeats: int, threads: int) -> list[Row]:
    """Each peer's row.

    Args:
        peers: name, and the number of examples that a repeat trains on.
        repeats: measurements of each.
        threads: CPU cores that each may use.

    Raises:
        ConfigError: a peer that ended.
    """
    with ExitStack() as stack:
        rows, running = list[Row](), []
        # One after the other: a start is measured too.
        for name, num_examples in progress(peers, "starting"):
            process = stack.enter_context(PeerProcess(name, num_examples, threads))
            row = msgspec.json.decode(process.answer(), type=Row)
            rows.append(row)
            if not row.skipped:
                running.append((process, row))
        turns = [turn for _ in range(repeats) for turn in running]
        for process, row in progress(turns, "measuring"):
            row.repeats.append(process.measure())
    return rows


def progress(sequence: Sequence[T], description: str) -> Iterable[T]:
    """A bar on standard error while the sequence is gone through; nothing without a terminal."""
    console = Console(stderr=True)
    return track(
        sequence, description, console=console, transient=True, disable=not console.is_terminal
    )


class PeerProcess:
    """A peer that is kept alive and measures once a call; a context manager that ends it."""

    def __init__(self, name: str, num_examples: int, threads: int) -> None:
        self.name = name
        self._messages = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in __exit__)
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "experiments.peers", name, "--serve"),
                *("--num-examples", str(num_examples), "--threads", str(threads)),
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

    def measure(self) -> Repeat:
        """One repeat."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self.answer(), type=Repeat)
