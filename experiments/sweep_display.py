"""What `sweep` shows on a terminal: the plan, a progress bar, the result."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cwjax.analysis.metrics import METRICS
from cwjax.analysis.power import seeds_floor
from cwjax.results.summary import unit
from cwjax.sweep import messages
from cwjax.sweep.config import SweepConfig
from cwjax.sweep.report import cell_rows, difference_rows, sweep_headline, trend_rows
from cwjax.sweep.supervisor import Ended, SweepEvent
from experiments.display import LINE_SECONDS, print_table


def print_sweep(config: SweepConfig, directory: Path) -> None:
    """What is about to be trained, and whether the seeds can be enough."""
    cells, num_seeds = config.cells(), len(config.all_seeds)
    print(f"{len(cells)} cells: {', '.join(cells)}")
    print(f"arms: {', '.join(config.arms)}; {num_seeds} seeds; results: {directory}")
    num_comparisons = len(cells) * (len(config.arms) - 1)
    if num_comparisons:
        floor = seeds_floor(num_comparisons, config.analysis.confidence)
        if num_seeds < floor:
            print(
                f"note: {num_seeds} seeds cannot give a verdict for {num_comparisons} comparisons, "
                f"whatever comes out: give at least {floor}"
            )


def follow(
    events: Iterator[SweepEvent], config: SweepConfig, directory: Path, quiet: bool
) -> Ended:
    """Shows progress until every run has ended."""
    tracker = _Tracker()
    events = chain([next(events)], events)  # with the first, everything has been checked
    if not quiet:
        print_sweep(config, directory)
    if quiet or not sys.stderr.isatty():
        return _follow_lines(events, tracker, quiet)
    columns = (
        TextColumn("training"),
        BarColumn(bar_width=20),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[counts]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=None, counts="")
        for event in events:
            if isinstance(event, Ended):
                return event
            tracker.update(event)
            progress.update(
                task,
                total=tracker.total_examples,
                completed=tracker.num_examples,
                counts=tracker.counts(),
            )
    raise AssertionError("a sweep ends with an Ended event")


def _follow_lines(events: Iterator[SweepEvent], tracker: _Tracker, quiet: bool) -> Ended:
    last_line = time.monotonic()
    for event in events:
        if isinstance(event, Ended):
            return event
        tracker.update(event)
        if isinstance(event, messages.Failed):
            print(f"failed: {_names(event.keys)}: {event.reason}", file=sys.stderr, flush=True)
        if not quiet and time.monotonic() - last_line > LINE_SECONDS:
            last_line = time.monotonic()
            print(tracker.counts(), file=sys.stderr, flush=True)
    raise AssertionError("a sweep ends with an Ended event")


def _names(keys: tuple[messages.Key, ...]) -> str:
    return ", ".join(f"{cell} {arm} seed {seed}" for cell, arm, seed in keys)


class _Tracker:
    """Counts what the worker tells; a worker that replaces a killed one lays its work anew."""

    def __init__(self) -> None:
        self.num_examples = 0
        self.total_examples: int | None = None
        self._num_runs = 0
        self._stored: set[messages.Key] = set()
        self._failed: set[messages.Key] = set()
        self._started = time.monotonic()

    def update(self, message: messages.Message) -> None:
        """Takes one message into account."""
        match message:
            case messages.Laid():
                self._num_runs, self.total_examples = message.num_runs, message.num_examples
                self.num_examples, self._started = 0, time.monotonic()
            case messages.Trained(num_examples=num_examples):
                self.num_examples += num_examples
            case messages.Stored(key=key):
                self._stored.add(key)
            case messages.Failed(keys=keys):
                self._failed |= set(keys)

    def counts(self) -> str:
        """Runs, failures, speed, seconds left."""
        if self.total_examples is None:
            return "preparing"
        rate = self.num_examples / max(time.monotonic() - self._started, 1e-9)
        parts = [f"run {len(self._stored)}/{self._num_runs}"]
        if self._failed:
            parts.append(f"{len(self._failed)} failed")
        parts.append(f"{rate:,.0f} examples/s")
        if 0 < self.num_examples < self.total_examples:
            parts.append(f"{(self.total_examples - self.num_examples) / rate:,.0f} s left")
        return ", ".join(parts)


def conclude(ended: Ended, directory: Path, *, is_share: bool, quiet: bool) -> int:
    """Shows the result; returns the exit code, 1 where a cell is not finished or no run ended well.

    Args:
        ended: the sweep's last event.
        directory: of the sweep.
        is_share: other processes train other runs, so that some may be elsewhere.
        quiet: print only what is wrong.
    """
    statuses, comparison = ended.progress.statuses, ended.comparison
    unfinished = [cell for cell, status in statuses.items() if status.state != "finished"]
    if comparison is not None and not quiet:
        print_comparison(comparison)
    elif unfinished and is_share and not quiet:
        print("other runs are elsewhere: put all directories together with report --merge")
    if not quiet:
        print(f"files: {directory}")
    if comparison is None and is_share:
        unfinished = [cell for cell in unfinished if statuses[cell].state in ("failed", "killed")]
    for cell in unfinished:
        status = statuses[cell]
        reason = "; ".join(status.reasons) or "runs are missing"
        print(f"{status.state}: {cell}: {reason}", file=sys.stderr)
    return 1 if unfinished or (comparison is not None and not comparison["num_ok_runs"]) else 0


def print_comparison(comparison: dict[str, Any]) -> None:
    """The tables of the sweep, and the answer in a sentence."""
    console, metric = Console(), METRICS[comparison["metric"]]
    cells = {cell["cell"]: cell for cell in comparison["cells"]}
    if rows := difference_rows(comparison):
        shown = []
        for row in rows:
            cell = cells[row["cell"]]
            about = f"{cell['dataset']}, {cell['imbalance']}\n× {cell['imbalance_factor']:g}"
            shown.append({"arm": f"{about}: {row['arm']}"} | _without(row, "arm", "cell"))
        title = f"{metric.title}: difference from {comparison['baseline']}, {unit(metric)}"
        print_table(console, title, shown, 3)
    if rows := trend_rows(comparison):
        shown = [
            {"arm": f"{row['data']}\n{row['arm']}"} | _without(row, "arm", "data") for row in rows
        ]
        print_table(console, f"change per doubling of the factor, {unit(metric)}", shown, 3)
    if rows := cell_rows(comparison):
        console.print(f"{len(rows)} cells are not finished", style="bold")
    console.print(sweep_headline(comparison), soft_wrap=True, markup=False, highlight=False)


def _without(row: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in row.items() if name not in names}
