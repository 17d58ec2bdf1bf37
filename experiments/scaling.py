"""What a training example of a run costs as work grows: more runs at once, more data.

python -m experiments.scaling --plot cost.svg

About five minutes on two CPU cores. Every point is a process of its own that compiles first; the
repeats take turns, and medians are drawn through them. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

from cwjax.cli import command_line
from cwjax.config import available_cores
from cwjax.errors import ConfigError
from experiments.benchmark import machine, write_json
from experiments.peers import Row
from experiments.peers.process import Peer, measure_in_turns

RUNS_AS_DATA_GROWS = 2


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Flags of `scaling`."""

    runs: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    """Runs at once, on the fewest examples."""
    examples: tuple[int, ...] = (1_008, 4_032, 16_016, 60_032)
    """Training examples of each of two runs at once; whole batches of 56 are used."""
    repeats: int = 3
    """Measurements of each point: an epoch of each run."""
    threads: int = available_cores()
    """CPU cores to use."""
    plot: Path | None = None
    """Draw the points to this file: .svg."""
    json: Path | None = None
    """Write all measurements to this file."""

    def __post_init__(self) -> None:
        if not self.runs or not self.examples or min(*self.runs, *self.examples, self.repeats) < 1:
            raise ConfigError("--runs, --examples and --repeats need integers of at least 1")
        for flag, path in (("--plot", self.plot), ("--json", self.json)):
            if path is not None and not path.absolute().parent.is_dir():
                raise ConfigError(f"{flag} is {path}: its directory does not exist")
        if self.plot is not None and self.plot.suffix != ".svg":
            raise ConfigError(f"--plot is {self.plot}: give a name that ends in .svg")


@dataclass(frozen=True)
class Report:
    """All that was measured, and where."""

    machine: dict[str, str]
    points: list[tuple[int, int]]
    """Runs at once and examples of each row."""
    rows: list[Row]


def main() -> int:
    """The script; returns its exit code."""
    flags = command_line.parse(Flags, __doc__, "scaling", sys.argv[1:])
    ladders = {
        "runs at once": [(runs, min(flags.examples)) for runs in flags.runs],
        "training examples": [(RUNS_AS_DATA_GROWS, examples) for examples in flags.examples],
    }
    points = sorted({point for ladder in ladders.values() for point in ladder})
    peers = [Peer(f"cwjax-{runs}", examples) for runs, examples in points]
    rows = measure_in_turns(peers, flags.repeats, flags.threads)
    costs = {point: _microseconds(row) for point, row in zip(points, rows, strict=True)}
    print("runs  examples  microseconds per example of a run")
    for (runs, examples), cost in costs.items():
        print(f"{runs:4}  {examples:8,}  {statistics.median(cost):6.0f}")
    if flags.json is not None:
        write_json(flags.json, Report(machine(flags.threads), points, rows))
    if flags.plot is not None:
        from experiments.cost_figure import cost_figure  # matplotlib takes a second

        panels = {
            title: {point[place]: costs[point] for point in ladder}
            for place, (title, ladder) in enumerate(ladders.items())
        }
        flags.plot.write_text(cost_figure(panels))
    return 0


def _microseconds(row: Row) -> list[float]:
    """The time that an example of a run took in every repeat."""
    return [1e6 / repeat.examples_per_second for repeat in row.repeats]


if __name__ == "__main__":
    command_line.run_main(main)
