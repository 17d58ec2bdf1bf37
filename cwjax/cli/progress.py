"""What a terminal shows of a study: the plan, a progress bar, the failures, the result."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TypeAlias

import numpy as np
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from cwjax.analysis.metrics import METRICS
from cwjax.analysis.pairing import family_size
from cwjax.errors import one_line
from cwjax.report import terminal, words
from cwjax.store.schema import StudyFile
from cwjax.study.judge import study_pairings
from cwjax.study.plan import Cell, Plan
from cwjax.study.run import Event, Finished, LookTaken, Planned, RunStored
from cwjax.training.runs import (
    ClusterStatus,
    EpochFinished,
    EpochScored,
    RunsFailed,
    RunsLost,
    StepsFinished,
)

LINE_SECONDS = 10
"""Without a terminal, a line of progress at most this often."""

NOTEBOOK_SECONDS = 0.5
"""A notebook's bar is drawn at most this often."""


def print_plan(plan: Plan, study: StudyFile, directory: Path) -> None:
    """Whether the seeds can be enough, and what is about to be trained.

    Args:
        plan: what the directory holds already included.
        study: the content of its `study.json`.
        directory: of the results.
    """
    note = words.seeds_note(
        family_size(study_pairings(study)), len(study.seeds), study.analysis.confidence
    )
    if note:
        terminal.say(note)
    cells, batch_size = list(plan.cells.values()), plan.design.train.batch_size
    short = words.stages_note(
        {
            run.key.arm: [n * (len(run.train_indices) // batch_size) for n in run.stages]
            for run in plan.runs
        }
    )
    if short:
        terminal.say(f"note: {short}")
    if len(cells) == 1:
        terminal.say(_about_cell(cells[0]))
    else:
        terminal.say(f"{len(cells)} cells: {', '.join(plan.cells)}")
    seeds = words.count(len(study.seeds), "seed")
    if study.looks:
        seeds = f"up to {seeds}, results read at {words.listed_numbers(study.looks)}"
    terminal.say(f"arms: {', '.join(study.arm_names)}; {seeds}; results: {directory}")
    if tuning := words.tuning_note([len(names) for names in study.candidates.values()]):
        terminal.say(tuning)
    sys.stdout.flush()


def _about_cell(cell: Cell) -> str:
    split = next(iter(cell.splits.values()))
    counts, num_test = split.class_counts, len(split.test_indices)
    anew = " that each seed draws anew" * (cell.data.test_split == "per-seed")
    by_seed = {seed: each.validation_counts.tolist() for seed, each in cell.splits.items()}
    not_validated = words.not_validated(cell.dataset.class_names, by_seed)
    return (
        f"{cell.dataset.name}: {counts.sum():,} training examples, {counts.min():,} to "
        f"{counts.max():,} per class; {num_test:,} test examples{anew}"
        + (f"; validation scores {not_validated}" if not_validated else "")
    )


def follow(events: Iterable[Event], directory: Path, *, quiet: bool) -> Finished:
    """Shows what happens until the study is finished.

    Args:
        events: of `study.run.run_plan`.
        directory: of the results.
        quiet: show nothing but failed runs.

    Returns:
        The last event.
    """
    remaining = iter(events)
    planned = next(remaining)
    assert isinstance(planned, Planned)
    if not quiet:
        print_plan(planned.plan, planned.study, directory)
    tracker = _Tracker(planned)
    with _display(tracker, quiet=quiet) as (say, draw):
        for event in remaining:
            tracker.update(event)
            for line in tracker.lines(event, quiet=quiet):
                say(line)
            draw(isinstance(event, Finished))
            if isinstance(event, Finished):
                return event
    raise AssertionError("a study ends with a Finished event")


_Display: TypeAlias = tuple[Callable[[str], None], Callable[[bool], None]]
"""What says a line, and what draws how far the study is: called after every event, with whether it
is the last."""


def _display(tracker: _Tracker, *, quiet: bool) -> AbstractContextManager[_Display]:
    if not quiet and Console().is_jupyter:
        return nullcontext(_in_notebook(tracker))
    if not quiet and sys.stderr.isatty():
        return _in_bar(tracker)
    return nullcontext(_in_lines(tracker, quiet=quiet))


@contextmanager
def _in_bar(tracker: _Tracker) -> Iterator[_Display]:
    with _Bar(tracker) as bar:
        task = bar.add_task("training", total=tracker.total_examples or 1)

        def draw(_: bool) -> None:
            bar.update(task, total=tracker.total_examples or 1, completed=tracker.num_examples)

        yield lambda line: bar.console.print(Text(line), soft_wrap=True), draw


class _Bar(Progress):
    """The bar; below it counts, and the mean differences so far. Long lines are wrapped."""

    def __init__(self, tracker: _Tracker) -> None:
        self._tracker = tracker
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f}%"),
            console=Console(stderr=True),
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield Text(self._tracker.counts())
        if differences := self._tracker.differences():
            yield Text(differences)


def _in_notebook(tracker: _Tracker) -> _Display:
    """Below a notebook's cell. rich's own bar needs ipywidgets there."""
    from IPython.display import HTML, display

    def bar() -> HTML:
        done, total = tracker.num_examples, tracker.total_examples or 1
        lines = [tracker.counts(), tracker.differences()]
        text = "<br>".join(html.escape(line) for line in lines if line)
        return HTML(f'<progress value="{done}" max="{total}"></progress><br>{text}')

    shown, drawn = display(bar(), display_id=True), time.monotonic()

    def draw(is_last: bool) -> None:
        nonlocal drawn
        if is_last or time.monotonic() - drawn > NOTEBOOK_SECONDS:
            drawn = time.monotonic()
            shown.update(bar())

    return terminal.say, draw


def _in_lines(tracker: _Tracker, *, quiet: bool) -> _Display:
    """On standard error; nothing but what is said if `quiet`."""
    drawn = time.monotonic()

    def say(line: str) -> None:
        terminal.say(line, sys.stderr)

    def draw(_: bool) -> None:
        nonlocal drawn
        if not quiet and time.monotonic() - drawn > LINE_SECONDS:
            drawn = time.monotonic()
            say(", ".join(filter(None, (tracker.counts(), tracker.differences()))))

    return say, draw


class _Tracker:
    """Counts events; knows examples per second and the running mean difference of each arm."""

    def __init__(self, planned: Planned) -> None:
        design = planned.plan.design
        self._planned = planned
        self._many_cells = len(planned.plan.cells) > 1
        self._baseline = str(design.baseline)
        self._metric = METRICS[design.analysis.metric]
        self._scores: dict[str, dict[str, dict[int, float]]] = {}  # cell -> arm -> seed -> score
        self._cell = ""  # of the run that was stored last
        self._num_runs = self._num_failed = self._num_lost = self._num_epochs = 0
        self._cluster: ClusterStatus | None = None
        self._started = time.monotonic()
        self.num_examples = 0

    def update(self, event: Event) -> None:
        """Takes one event into account."""
        match event:
            case Planned():  # after a look: the work up to the next one
                self._planned = event
                self._started, self._num_epochs, self.num_examples = time.monotonic(), 0, 0
            case StepsFinished(num_examples=num_examples):
                self.num_examples += num_examples
            case EpochFinished() | EpochScored():
                self._num_epochs += 1
            case RunsLost(num_examples=num_examples, num_epochs=num_epochs):
                self._num_lost += len(event.runs)
                self._num_epochs -= num_epochs
                self.num_examples -= num_examples
            case ClusterStatus():
                self._cluster = event
            case RunsFailed(runs=runs):
                self._num_failed += len(runs)
            case RunStored(key=key, status=status, scores=scores):
                self._num_runs += 1
                self._cell = key.cell
                score = scores[self._metric.name]
                arms = self._planned.study.arm_names  # candidates of tuned ones are none
                if status == "ok" and score is not None and key.arm in arms:
                    by_arm = self._scores.setdefault(key.cell, {})
                    by_arm.setdefault(key.arm, {})[key.seed] = score

    @property
    def total_examples(self) -> int:
        """Examples of the work that is planned."""
        return self._planned.num_examples

    def lines(self, event: Event, *, quiet: bool = False) -> list[str]:
        """What is said of an event: that a run failed and, unless `quiet`, more."""
        match event:
            case RunsFailed(runs, error):
                failures = [(run.key.cell, f"{run.key}: {one_line(error)}") for run in runs]
                return [
                    words.failure_line(cell, failure, many_cells=self._many_cells)
                    for cell, failure in failures
                ]
            case LookTaken(look, going_on) if not quiet:
                return [words.look_sentence(look, going_on)]
            case RunsLost(node, runs) if not quiet:
                return [words.lost_line(node, len(runs))]
        return []

    def counts(self) -> str:
        """Runs, failures, epochs, speed, time left."""
        parts = [f"run {self._num_runs}/{self._planned.num_expected}"]
        if self._num_failed:
            parts.append(f"{self._num_failed} failed")
        if self._num_lost:
            parts.append(f"{self._num_lost} lost and taken up again")
        if self._cluster is not None:
            training = words.count(self._cluster.num_runs, "run")
            parts.append(f"{training} on {words.count(self._cluster.num_workers, 'worker')}")
        if self._planned.num_epochs:  # an estimator has none
            parts.append(f"epoch {self._num_epochs}/{self._planned.num_epochs}")
        rate = self.num_examples / max(time.monotonic() - self._started, 1e-9)
        parts.append(f"{rate:,.0f} examples/s")
        if 0 < self.num_examples < self._planned.num_examples:
            left = (self._planned.num_examples - self.num_examples) / rate
            parts.append(f"{words.duration(left)} left")
        return ", ".join(parts)

    def differences(self) -> str:
        """Mean difference of each arm from the baseline over the complete pairs of a cell.

        The cell is that of the run that was stored last.
        """
        by_arm = self._scores.get(self._cell, {})
        baseline, parts = by_arm.get(self._baseline, {}), []
        for arm, scores in by_arm.items():
            seeds = scores.keys() & baseline.keys()
            if arm != self._baseline and seeds:
                difference = float(np.mean([scores[seed] - baseline[seed] for seed in seeds]))
                parts.append(f"{arm} {words.signed(self._metric, difference)} (n={len(seeds)})")
        cell = f"{self._cell}: " if self._many_cells and parts else ""
        return words.visible(cell + ", ".join(parts))


def conclude(finished: Finished, directory: Path, *, quiet: bool) -> int:
    """Shows the result.

    Args:
        finished: the last event.
        directory: of the results.
        quiet: show nothing but failed runs.

    Returns:
        The exit code: 1 where a run failed or none ended well.
    """
    comparison = finished.comparison
    if not quiet:
        terminal.print_comparison(comparison)
        terminal.say(f"files: {directory}")
    return terminal.print_failures(comparison)
