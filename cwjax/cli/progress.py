"""What the scripts show on a terminal: the plan, a progress bar, the result."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cwjax.methods.arms import list_arms
from cwjax.plan import Plan
from cwjax.results.summary import arm_rows, comparison_rows, secondary_rows, shown_metrics, unit
from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from cwjax.analysis.metrics import METRICS, Metric
from cwjax.analysis.power import seeds_floor
from cwjax.events import EpochFinished, Event, Finished, Planned, RunStored, StepsFinished

LINE_SECONDS = 10
"""Without a terminal, a line of progress at most this often."""


def print_arms() -> None:
    """Every scheme with its formula, settings and source."""
    print("name:setting=default, then the formula and the source; several values, as in")
    print("tau=0.5,1, make several arms\n")
    for arm in list_arms():
        print(":".join(filter(None, (arm.name, arm.settings))))
        print(f"    {arm.formula}")
        if arm.source:
            print(f"    {arm.source}")


def print_plan(plan: Plan, directory: Path) -> None:
    """What is about to be trained, and whether the seeds can be enough."""
    config = plan.config
    counts = plan.splits[config.all_seeds[0]].class_counts
    print(
        f"{plan.dataset.name}: {counts.sum():,} training examples, {counts.min()} to "
        f"{counts.max()} a class; {len(plan.dataset.test_labels):,} test examples"
    )
    print(f"arms: {', '.join(plan.arm_names)}; {len(config.all_seeds)} seeds; results: {directory}")
    num_comparisons = len(config.arms) - 1 - len(plan.equal_arms)
    if num_comparisons > 0:
        floor = seeds_floor(num_comparisons, config.analysis.confidence)
        if len(config.all_seeds) < floor:
            print(
                f"note: {len(config.all_seeds)} seeds cannot give a verdict for "
                f"{num_comparisons} comparison(s), whatever comes out: give at least {floor}"
            )


def follow(events: Iterator[Event], plan: Plan, quiet: bool) -> dict[str, Any]:
    """Shows progress until the experiment is finished; returns the comparison."""
    tracker = _Tracker(plan)
    if quiet or not sys.stderr.isatty():
        return _follow_lines(events, tracker, quiet)
    with _Bar(tracker) as progress:
        task: TaskID | None = None
        for event in events:
            tracker.update(event)
            if isinstance(event, Planned):
                task = progress.add_task("training", total=event.num_examples or 1, counts="")
            elif task is not None:
                progress.update(task, completed=tracker.num_examples, counts=tracker.counts())
            if isinstance(event, Finished):
                return event.comparison
    raise AssertionError("an experiment ends with a Finished event")


class _Bar(Progress):
    """The bar, and below it the mean differences so far."""

    def __init__(self, tracker: _Tracker) -> None:
        self._tracker = tracker
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[counts]}", markup=False),
            console=Console(stderr=True),
        )

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        differences = self._tracker.differences()
        if differences:
            yield Text("  ".join(differences))


def _follow_lines(events: Iterator[Event], tracker: _Tracker, quiet: bool) -> dict[str, Any]:
    last_line = time.monotonic()
    for event in events:
        tracker.update(event)
        if not quiet and time.monotonic() - last_line > LINE_SECONDS:
            last_line = time.monotonic()
            print(tracker.status(), file=sys.stderr, flush=True)
        if isinstance(event, Finished):
            return event.comparison
    raise AssertionError("an experiment ends with a Finished event")


class _Tracker:
    """Counts events; knows examples a second and the running mean difference of each arm."""

    def __init__(self, plan: Plan) -> None:
        self._baseline = plan.config.baseline
        self._metric = METRICS[plan.config.analysis.metric]
        self._scores: dict[str, dict[int, float]] = {}
        self._planned: Planned | None = None
        self._started = time.monotonic()
        self._num_runs = self._num_epochs = 0
        self._total_runs = len(plan.arm_names) * len(plan.splits)
        self.num_examples = 0

    def update(self, event: Event) -> None:
        """Takes one event into account."""
        match event:
            case Planned():
                self._planned, self._started = event, time.monotonic()
            case StepsFinished(num_examples=num_examples):
                self.num_examples += num_examples
            case EpochFinished():
                self._num_epochs += 1
            case RunStored(record=record):
                self._num_runs += 1
                if record.status == "ok":  # the others are named by the verdict
                    score = record.scores[self._metric.name]
                    self._scores.setdefault(record.arm, {})[record.seed] = score

    def counts(self) -> str:
        """Runs, epochs, speed."""
        if self._planned is None:
            return "preparing"
        return (
            f"run {self._num_runs}/{self._total_runs}, epoch "
            f"{self._num_epochs}/{self._planned.num_epochs}, {self._rate():,.0f} examples/s"
        )

    def status(self) -> str:
        """One line: counts, seconds left, mean differences so far."""
        parts = [self.counts()]
        if self._planned is not None and 0 < self.num_examples < self._planned.num_examples:
            left = (self._planned.num_examples - self.num_examples) / self._rate()
            parts.append(f"{left:,.0f} s left")
        return ", ".join([*parts, *self.differences()])

    def _rate(self) -> float:
        """Examples a second since training began."""
        return self.num_examples / max(time.monotonic() - self._started, 1e-9)

    def differences(self) -> list[str]:
        """Each arm's mean difference from the baseline over the pairs that are complete."""
        baseline, parts = self._scores.get(self._baseline, {}), []
        for arm, scores in self._scores.items():
            seeds = scores.keys() & baseline.keys()
            if arm != self._baseline and seeds:
                difference = float(np.mean([scores[seed] - baseline[seed] for seed in seeds]))
                parts.append(f"{arm} {self._metric.format_signed(difference)} (n={len(seeds)})")
        return parts


def print_comparison(
    comparison: Mapping[str, Any], metrics: Sequence[Metric] | None = None
) -> None:
    """The tables of scores and differences, and each verdict in a sentence.

    Args:
        comparison: the content of `comparison.json`.
        metrics: columns of scores, the primary metric first [default: those of the reports].
    """
    metrics = metrics or shown_metrics(comparison)
    metric, console = metrics[0], Console()
    title = "mean ± standard deviation over seeds"
    print_table(console, title, arm_rows(comparison, metrics), 2)
    entries = comparison["comparisons"]
    if entries:
        title = f"{metric.title}: difference from {comparison['baseline']}, {unit(metric)}"
        print_table(console, title, comparison_rows(entries, metric), 3)
    if secondary := secondary_rows(comparison):
        print_table(console, "secondary metrics: unadjusted, no verdict", secondary, 3)
    for entry in entries:
        console.print(entry["verdict"]["words"], soft_wrap=True, markup=False, highlight=False)


def print_table(
    console: Console, title: str, rows: Sequence[Mapping[str, str]], num_kept: int
) -> None:
    """As many columns as fit, from the left; only names of arms are ever folded.

    Args:
        console: where to.
        title: above the table.
        rows: of equal keys, the first of which is the arm.
        num_kept: columns besides the arm that are shown however narrow the console is.
    """
    arm, *others = rows[0]
    widths = {name: _column_width(name, [row[name] for row in rows]) for name in others}
    arm_width = max(len(line) for row in rows for line in row[arm].splitlines())
    shown = list(others)
    while len(shown) > num_kept and _total(widths, shown, min(arm_width, 16)) > console.width:
        shown.pop()
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(arm, overflow="fold", min_width=min(arm_width, 16))
    for name in shown:
        heading = "\n".join(textwrap.wrap(name, widths[name]))
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(row[name]) for name in (arm, *shown)))
    console.print(Text(title, style="bold"))
    console.print(table)


def _column_width(name: str, cells: Sequence[str]) -> int:
    return max(map(len, [*name.split(), *cells]))


def _total(widths: Mapping[str, int], shown: Sequence[str], arm_width: int) -> int:
    return arm_width + sum(widths[name] + 3 for name in shown)
