"""Training throughput beside other libraries, on the same cores, examples and network.

python -m experiments.benchmark
python -m experiments.benchmark --work mlp --json mlp.json
python -m experiments.benchmark --peers torch keras-jax matmul --repeats 9

Every row is a process of its own that compiles first and then waits, or (`-per-core`) a process of
one thread for each core; the repeats take turns (A B C, A B C, ...), so that a slow minute of the
machine hits all rows alike, and medians are shown. Leave the machine alone meanwhile. Rows whose
library is not installed are skipped with a line.
"""

from __future__ import annotations

import itertools
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cwjax.cli import command_line
from cwjax.config import available_cores
from cwjax.errors import ConfigError
from cwjax.store.schema import to_json
from experiments.peers import WORKS, Network, Row, WorkName
from experiments.peers.process import Peer, measure_in_turns


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Flags of `benchmark`."""

    work: WorkName = "cnn"
    """What is trained: the notebook's network on digits, or a dense one on features (mlp-small:
    10-64-5, mlp: 40-256-128-18, linear: 768-100)."""
    peers: tuple[str, ...] = ()
    """Rows of the table, e.g. torch torch-per-core cwjax-32 [default: all of this work]."""
    repeats: int = 3
    """Measurements of each row."""
    seconds: float = 20.0
    """How long a measurement lasts at least: `fit` takes a while to begin."""
    num_examples: int = 5_040
    """Training examples; whole batches of 56 of them are used."""
    threads: int = available_cores()
    """CPU cores that every row may use."""
    json: Path | None = None
    """Also write all measurements to this file."""

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ConfigError(f"--repeats is {self.repeats}: give an integer of at least 1")
        if self.json is not None and not self.json.absolute().parent.is_dir():
            raise ConfigError(f"--json is {self.json}: its directory does not exist")


def main() -> int:
    """The script; returns its exit code."""
    flags = command_line.parse(Flags, __doc__, "benchmark", sys.argv[1:])
    network = WORKS[flags.work]
    peers = [
        Peer(name, flags.num_examples, flags.work, flags.seconds)
        for name in flags.peers or network.peers
    ]
    rows = measure_in_turns(peers, flags.repeats, flags.threads)
    report = Report(machine(flags.threads), flags.work, needed_flop(network), rows)
    print_report(report)
    if flags.json is not None:
        flags.json.write_bytes(to_json(report))
    return 0


@dataclass(frozen=True)
class Report:
    """All that was measured, and where."""

    machine: dict[str, str]
    work: str
    needed_flop_per_example: int
    rows: list[Row]


def machine(num_cores: int) -> dict[str, str]:
    """Where and with what the numbers were taken."""
    return {
        "processor": processor_name(),
        "cores": str(num_cores),
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


def needed_flop(network: Network) -> int:
    """Floating-point operations that training on one example cannot do without.

    Two per element of a matrix product, three products per layer (output, gradient of the kernel,
    gradient of the input), the first layer without the last. Positions that VALID pooling
    throws away (an odd last row or column) are not counted; neither are pooling, ReLU or dropout.

    Args:
        network: that is trained.
    """
    if network.hidden is not None:
        products = [inputs * outputs for inputs, outputs in itertools.pairwise(network.widths)]
        return 2 * (3 * sum(products) - products[0])
    conv2_positions = 10 * 10  # of 11 x 11, 2x2-pooled
    conv1_positions = 24 * 24  # of 26 x 26: what conv2's 10 x 10 see, 2x2-pooled
    conv1 = 2 * conv1_positions * 9 * 1 * 32
    others = 2 * (conv2_positions * 9 * 32 * 64 + 3 * 3 * 9 * 64 * 64 + 3 * 3 * 64 * 128 + 128 * 10)
    return 2 * conv1 + 3 * others


def examples_per_second(row: Row) -> float:
    """The median over the row's repeats."""
    return statistics.median(repeat.examples_per_second for repeat in row.repeats)


def print_report(report: Report) -> None:
    """The table, the machine, and a line for each row that was skipped."""
    measured = [row for row in report.rows if not row.skipped]
    training = [row for row in measured if row.name != "matmul"]
    ceilings = [
        statistics.median(repeat.gflop_per_second for repeat in row.repeats)
        for row in measured
        if row.name == "matmul"
    ]
    console = Console()
    if training:
        flop, ceiling = report.needed_flop_per_example, ceilings[0] if ceilings else None
        console.print(throughput_table(training, flop, ceiling))
    for ceiling in ceilings:
        console.print(f"float32 matmul ceiling: {ceiling:.0f} GFLOP/s")
    for row in report.rows:
        if row.skipped:
            console.print(f"{row.name}: skipped, {row.skipped}", markup=False)
    versions = {name: version for row in measured for name, version in row.versions.items()}
    console.print(", ".join(f"{key} {value}" for key, value in report.machine.items()))
    console.print(", ".join(f"{name} {version}" for name, version in versions.items()))


def throughput_table(rows: Sequence[Row], needed_flop: int, ceiling: float | None) -> Table:
    """One row per training peer.

    `slower`: how many times as fast the fastest row is. `ceiling`: the share of it that needed
    operations make up. `MiB`: peak memory. `start`: seconds to import and build. `compile`: seconds
    until a first batch is trained, nothing being cached.

    Args:
        rows: what was measured.
        needed_flop: floating-point operations that one example needs.
        ceiling: GFLOP/s of matrix products; None where it was not measured.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for column in ("examples/s", "slower", "ceiling", "MiB", "start", "compile"):
        table.add_column(column, justify="right", no_wrap=True)
    fastest = max(map(examples_per_second, rows))
    for row in rows:
        rate = examples_per_second(row)
        share = None if ceiling is None else rate * needed_flop / 1e9 / ceiling
        table.add_row(
            row.name,
            f"{rate:,.0f}",
            f"{fastest / rate:.2f}x",
            "–" if share is None else f"{share:.0%}",
            f"{max(repeat.peak_memory_mib for repeat in row.repeats):,.0f}",
            f"{row.start_seconds:.1f}",
            f"{row.compile_seconds:.1f}",
        )
    return table


if __name__ == "__main__":
    command_line.run_main(main)
