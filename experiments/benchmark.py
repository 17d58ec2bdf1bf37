"""Training throughput beside other libraries, on the same cores, digits and network.

python -m experiments.benchmark
python -m experiments.benchmark --peers torch keras-jax matmul --repeats 9 --json throughput.json

Every row is a process of its own that compiles first and then waits; the repeats take turns (A B C,
A B C, ...), so that a slow minute of the machine hits all rows alike, and medians are shown. Leave
the machine alone meanwhile. Rows whose library is not installed are skipped with a line.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cwjax.config import available_cores
from cwjax.errors import ConfigError
from experiments import command_line
from experiments.peers import PeerName
from experiments.peers.process import measure_in_turns


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Flags of `benchmark`."""

    peers: tuple[PeerName, ...] = get_args(PeerName)
    """Rows of the table."""
    repeats: int = 5
    """Measurements of each row."""
    num_examples: int = 5_040
    """Examples a measurement trains on; whole batches of 56 of them are used."""
    threads: int = available_cores()
    """CPU cores that every row may use."""
    json: Path | None = None
    """Also write all measurements to this file."""

    def __post_init__(self) -> None:
        if not self.peers:
            raise ConfigError("--peers is empty: give at least one")
        if self.repeats < 1:
            raise ConfigError(f"--repeats is {self.repeats}: give an integer of at least 1")
        if self.json is not None and not self.json.absolute().parent.is_dir():
            raise ConfigError(f"--json is {self.json}: its directory does not exist")


def main() -> int:
    """The script; returns its exit code."""
    flags = command_line.parse(Flags, __doc__)
    peers = [(name, flags.num_examples) for name in flags.peers]
    rows = measure_in_turns(peers, flags.repeats, flags.threads)
    report = {
        "machine": machine(flags.threads),
        "needed_flop_per_example": needed_flop(),
        "rows": rows,
    }
    print_report(report)
    if flags.json is not None:
        flags.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def machine(num_cores: int) -> dict[str, Any]:
    """Where and with what the numbers were taken."""
    return {
        "processor": processor_name(),
        "cores": num_cores,
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def processor_name() -> str:
    """The processor's name, as the system tells it."""
    if os.path.exists("/proc/cpuinfo"):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def needed_flop() -> int:
    """Floating-point operations that training on one example cannot do without.

    Two an element of a matrix product, three products a layer (output, gradient of the kernel,
    gradient of the input), the first layer without the last. Positions that VALID pooling
    throws away (an odd last row or column) are not counted; neither are pooling, ReLU or dropout.
    """
    conv2_positions = 10 * 10  # of 11 x 11, 2x2-pooled
    conv1_positions = 24 * 24  # of 26 x 26: what conv2's 10 x 10 see, 2x2-pooled
    conv1 = 2 * conv1_positions * 9 * 1 * 32
    others = 2 * (conv2_positions * 9 * 32 * 64 + 3 * 3 * 9 * 64 * 64 + 3 * 3 * 64 * 128 + 128 * 10)
    return 2 * conv1 + 3 * others


def median(row: dict[str, Any], quantity: str) -> float:
    """The median of one measured quantity over the row's repeats."""
    return statistics.median(repeat[quantity] for repeat in row["repeats"])


def print_report(report: dict[str, Any]) -> None:
    """The table, the machine, and a line for each row that was skipped."""
    measured = [row for row in report["rows"] if "skipped" not in row]
    training = [row for row in measured if row["name"] != "matmul"]
    ceilings = [median(row, "gflop_per_second") for row in measured if row["name"] == "matmul"]
    console = Console()
    if training:
        console.print(throughput_table(training, report, ceilings[0] if ceilings else None))
    for ceiling in ceilings:
        console.print(f"float32 matmul ceiling: {ceiling:.0f} GFLOP/s")
    for row in report["rows"]:
        if "skipped" in row:
            console.print(f"{row['name']}: skipped, {row['skipped']}", markup=False)
    versions = {name: version for row in measured for name, version in row["versions"].items()}
    console.print(", ".join(f"{key} {value}" for key, value in report["machine"].items()))
    console.print(", ".join(f"{name} {version}" for name, version in versions.items()))


def throughput_table(
    rows: list[dict[str, Any]], report: dict[str, Any], ceiling: float | None
) -> Table:
    """A row a training peer; `ceiling` in GFLOP/s, None where it was not measured.

    `slower`: how many times as fast the fastest row is. `ceiling`: the share of it that needed
    operations make up. `MiB`: peak memory. `start`: seconds to import and build. `compile`: seconds
    until a first batch is trained, nothing being cached.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for column in ("examples/s", "slower", "ceiling", "MiB", "start", "compile"):
        table.add_column(column, justify="right", no_wrap=True)
    fastest = max(median(row, "examples_per_second") for row in rows)
    for row in rows:
        rate = median(row, "examples_per_second")
        share = (
            None if ceiling is None else rate * report["needed_flop_per_example"] / 1e9 / ceiling
        )
        table.add_row(
            row["name"],
            f"{rate:,.0f}",
            f"{fastest / rate:.2f}x",
            "–" if share is None else f"{share:.0%}",
            f"{max(repeat['peak_memory_mib'] for repeat in row['repeats']):,.0f}",
            f"{row['start_seconds']:.1f}",
            f"{row['compile_seconds']:.1f}",
        )
    return table


if __name__ == "__main__":
    command_line.run_main(main)
