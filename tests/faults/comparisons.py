"""A small comparison in processes of its own, with faults if wanted, and what it leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FLAGS = ("--imbalance-factor", "4", "--batch-size", "16", "--num-epochs", "12", "--quiet")


@dataclass(frozen=True)
class Compare:
    """`cwjax compare` on the tiny data set: four runs of a second each."""

    dataset: str

    def start(
        self,
        out: Path,
        *flags: str,
        seeds: Sequence[str] = ("--num-seeds", "2"),
        env: Mapping[str, str] | None = None,
        faults: Sequence[tuple[str, str, int]] = (),
        **options: Any,
    ) -> subprocess.Popen[str]:
        """The running process.

        Args:
            out: its `--out`.
            flags: more of them.
            seeds: how many.
            env: more variables of its environment.
            faults: as `launch` takes them.
            options: more options of `launch`.
        """
        script = ["experiments.compare"]
        if faults or options:
            script = ["tests.faults.launch", json.dumps({"faults": faults, **options})]
        flags = ("--dataset", self.dataset, *seeds, *FLAGS, "--out", str(out), *flags)
        return subprocess.Popen(
            [sys.executable, "-m", *script, *flags],
            cwd=ROOT,
            env=os.environ | dict(env or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, out: Path, *flags: str, **options: Any) -> tuple[int, str]:
        """The same, to its end: exit code, standard error."""
        return ended(self.start(out, *flags, **options))


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Waits; exit code and standard error of the process."""
    _, errors = process.communicate(timeout=300)
    return process.returncode, errors


def files(directory: Path, *, with_log: bool = False) -> dict[str, bytes]:
    """Every file, by default but the log, which alone holds clock times; directories are empty."""
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else b""
        for path in directory.rglob("*")
        if with_log or path.name != "log.jsonl"
    }


def log(directory: Path) -> list[dict[str, Any]]:
    """The events of `log.jsonl`."""
    path = directory / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
