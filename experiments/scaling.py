"""What a training example of a run costs as work grows, and the memory that it takes.

python -m experiments.scaling --plot cost.svg
python -m experiments.scaling --ladders rows classes

`runs` and `data`: more runs at once, more training examples, of the notebook's CNN. `mlp-runs`,
`rows` and `classes`: the same of a dense network, up to 1,000 runs, a million rows, 1,000 classes.
`arms`: whole studies of `cwjax compare` with up to 200 arms, start and report included.

Eighteen minutes on two CPU cores with --repeats 2. Every point is a process of its own that
compiles first; the repeats take turns, and medians are drawn through them. Leave the machine alone
meanwhile.
"""

from __future__ import annotations

import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cwjax.cli import command_line
from cwjax.config import available_cores
from cwjax.errors import ConfigError
from cwjax.store.schema import to_json
from experiments.benchmark import machine
from experiments.peers import Repeat, Row, peak_mib
from experiments.peers.process import Peer, measure_in_turns, progress

LadderName = Literal["runs", "data", "mlp-runs", "rows", "classes", "arms"]


@dataclass(frozen=True)
class Ladder:
    """What grows.

    Attributes:
        title: of its panel.
        sizes: of what grows.
        peer: the peer of a size; None of `arms`, whose points are whole commands.
    """

    title: str
    sizes: tuple[int, ...]
    peer: Callable[[int], Peer] | None = None


_peer = functools.partial(Peer, seconds=2.0)  # one epoch may take 20 milliseconds

LADDERS: dict[LadderName, Ladder] = {
    "runs": Ladder(
        "runs at once (CNN)",
        (1, 2, 4, 8, 16, 32, 64),
        lambda runs: _peer(f"cwjax-{runs}", 1_008, "cnn"),
    ),
    "data": Ladder(
        "training images (CNN)",
        (1_008, 4_032, 16_016, 60_032),
        lambda examples: _peer("cwjax-2", examples, "cnn"),
    ),
    "mlp-runs": Ladder(
        "runs at once (MLP)",
        (2, 10, 100, 1_000),
        lambda runs: _peer(f"cwjax-{runs}", 5_040, "mlp-small"),
    ),
    "rows": Ladder(
        "rows of a table (MLP)",
        (1_008, 10_024, 100_016, 1_000_048),
        lambda rows: _peer("cwjax-2", rows, "mlp-small"),
    ),
    "classes": Ladder(
        "classes (MLP)",
        (2, 10, 100, 1_000),
        lambda classes: _peer("cwjax-2", 10_024, "mlp", num_classes=classes),
    ),
    "arms": Ladder("arms of a study (MLP)", (2, 20, 200)),
}
"""Examples come in whole batches of 56."""


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Flags of `scaling`."""

    ladders: tuple[LadderName, ...] = tuple(LADDERS)
    """What grows."""
    repeats: int = 3
    """Measurements of each point: epochs of every run, or of `arms` whole studies."""
    threads: int = available_cores()
    """CPU cores to use; `arms` use all."""
    plot: Path | None = None
    """Draw the points to this file: .svg."""
    json: Path | None = None
    """Write all measurements to this file."""

    def __post_init__(self) -> None:
        if not self.ladders or self.repeats < 1:
            raise ConfigError("--ladders needs a name, and --repeats an integer of at least 1")
        for flag, path in (("--plot", self.plot), ("--json", self.json)):
            if path is not None and not path.absolute().parent.is_dir():
                raise ConfigError(f"{flag} is {path}: its directory does not exist")
        if self.plot is not None and self.plot.suffix != ".svg":
            raise ConfigError(f"--plot is {self.plot}: give a name that ends in .svg")


@dataclass(frozen=True)
class Report:
    """All that was measured, and where."""

    machine: dict[str, str]
    rows: dict[LadderName, dict[int, Row]]
    """What grows -> its size -> what was measured."""


def main() -> int:
    """The script; returns its exit code."""
    flags = command_line.parse(Flags, __doc__, "scaling", sys.argv[1:])
    rows = {}
    for name in flags.ladders:
        ladder = LADDERS[name]
        if ladder.peer is None:
            found = [measure_study(size, flags.repeats) for size in progress(ladder.sizes, name)]
        else:
            found = measure_in_turns(
                [ladder.peer(size) for size in ladder.sizes], flags.repeats, flags.threads
            )
        rows[name] = dict(zip(ladder.sizes, found, strict=True))
        print(f"{ladder.title:>24}  microseconds per example of a run  peak MiB")
        for size, row in rows[name].items():
            cost = statistics.median(_microseconds(row))
            print(f"{size:24,}  {cost:34.2f}  {max(r.peak_memory_mib for r in row.repeats):8,.0f}")
    if flags.json is not None:
        flags.json.write_bytes(to_json(Report(machine(flags.threads), rows)))
    if flags.plot is not None:
        from experiments.cost_figure import cost_figure  # matplotlib takes a second

        panels = {
            LADDERS[name].title: {size: _microseconds(row) for size, row in found.items()}
            for name, found in rows.items()
        }
        flags.plot.write_text(cost_figure(panels))
    return 0


def _microseconds(row: Row) -> list[float]:
    """The time that an example of a run took in every repeat."""
    return [1e6 / repeat.examples_per_second for repeat in row.repeats]


def measure_study(num_arms: int, repeats: int) -> Row:
    """Whole studies of `cwjax compare`: so many arms, four seeds, twenty epochs of small digits.

    Args:
        num_arms: `uniform` and losses with a setting of their own; all train.
        repeats: studies, each anew.
    """
    from cwjax.store.directory import StudyDirectory

    taus = ",".join(f"{tau:g}" for tau in np.linspace(0.01, 2, num_arms - 1).round(4))
    num_epochs = 20
    row = Row(f"{num_arms} arms")
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as out:
            command = (
                *(sys.executable, "-m", "experiments.compare", "--dataset", "sklearn:digits"),
                *("--imbalance-factor", "2", "--model", "mlp", "--quiet", "--out", out),
                *("--num-seeds", "4", "--num-epochs", str(num_epochs)),
                *("--platform", "cpu", "--no-compile-cache"),
                *("--arms", "uniform", f"logit_adjusted:tau={taus}"),
            )
            start = time.perf_counter()
            memory = _peak_mib(command)
            seconds = time.perf_counter() - start
            (cell,) = StudyDirectory(Path(out)).known_study().cells.values()
        examples = num_arms * num_epochs * sum(map(sum, cell.class_counts.values()))
        row.repeats.append(Repeat(memory, examples_per_second=examples / seconds))
    return row


def _peak_mib(command: tuple[str, ...]) -> float:
    """Runs a command; its largest resident memory in MiB."""
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise ConfigError(f"{' '.join(command)[:200]} ended with {process.returncode}")
    return peak_mib(usage)


if __name__ == "__main__":
    command_line.run_main(main)
