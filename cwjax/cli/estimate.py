"""What a study costs on this machine (`--dry-run`): counted where possible, the speed measured."""

from __future__ import annotations

import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cwjax.cli.progress import print_plan
from cwjax.config import RuntimeConfig, available_cores
from cwjax.report import words
from cwjax.store.contents import read_headers
from cwjax.store.directory import StudyDirectory
from cwjax.store.schema import StudyFile
from cwjax.study.judge import progress
from cwjax.study.manifest import describe
from cwjax.study.plan import Plan
from cwjax.study.run import configured_device, joined, runs_to_train
from cwjax.training.runs import Run, RunFinished, RunsFailed, StepsFinished

if TYPE_CHECKING:  # JAX takes seconds to import, and what is wrong is told without
    from cwjax.training.local import Engine

MEASURED_SECONDS = 8
"""How long training is measured, on all data sets together, once everything is compiled."""


def print_estimate(plan: Plan, path: Path, runtime: RuntimeConfig) -> None:
    """Prints the number of runs, and the time and memory that they take here.

    Args:
        plan: what is asked for.
        path: of the directory; what it holds already is counted, and nothing is written.
        runtime: how to use the machine.

    Raises:
        ConfigError: the directory holds another study, or a setting that does not fit the machine.
    """
    device = configured_device(plan, path, runtime)
    directory = StudyDirectory(path)
    plan, study = joined(plan, directory, describe(plan, device), runtime)
    print_plan(plan, study, path)
    missing = [key for key in study.run_keys if not directory.has_run(key)]
    runs = runs_to_train(plan, directory, study)
    print(_count_line(study, len(missing), len(runs)))
    if study.looks:
        state = progress(study, read_headers(directory, study))
        after = words.count(len(state.expected), "run")
        print(f"results are read after {after}; what follows is the most")
    if not runs:
        return
    num_examples = sum(run.num_examples for run in runs)
    over = "runs" if plan.design.estimators else "epochs"
    print(f"{num_examples:,} training examples over all {over}")
    bytes_of = {name: _run_file_bytes(plan, name) for name in plan.cells}
    num_bytes = sum(bytes_of[key.cell] for key in missing)
    if runtime.keep_models:
        runs_of = Counter(run.key.cell for run in runs)  # the networks of a cell are alike
        of_cell = {run.key.cell: run for run in runs}
        num_bytes += sum(runs_of[cell] * _model_bytes(plan, run) for cell, run in of_cell.items())
    megabytes = num_bytes / 1e6
    print(f"about {megabytes:,.{0 if megabytes > 9 else 1}f} MB of files")
    works = _works(plan, study, runs)
    seconds = sum(work.num_examples / _measured_rate(work, runtime) for work in works)
    speed = f"{num_examples / seconds:,.0f} examples/s measured here"
    print(f"about {words.duration(seconds)}, at {speed}")
    print(f"about {_peak_memory_gib():.1f} GiB of memory")


def _count_line(study: StudyFile, num_missing: int, num_trained: int) -> str:
    num_runs, num_failed = len(study.run_keys), len(study.failed)
    parts = [f"{num_trained:,} to train"]
    if num_computed := num_missing - num_trained - num_failed:
        parts.append(f"{num_computed:,} computed from trained ones")
    if num_finished := num_runs - num_missing:
        parts.append(f"{num_finished:,} finished")
    if num_failed:
        parts.append(f"{num_failed:,} failed before (--retry-failed trains them again)")
    num_candidates = (
        len(study.cells) * len(study.seeds) * (len(study.run_names) - len(study.arm_names))
    )
    if num_candidates:
        parts.append(f"{num_candidates:,} of them candidates of tuned arms")
    cells, runs = words.count(len(study.cells), "cell"), words.count(num_runs, "run")
    return f"{cells}, {runs}: {', '.join(parts)}"


def _run_file_bytes(plan: Plan, cell: str) -> int:
    """The size of a run's file: nearly all of it is logits, float32 for every class."""
    dataset, splits = plan.cells[cell].dataset, plan.cells[cell].splits
    num_validation = len(next(iter(splits.values())).validation_indices)
    return 4 * (len(dataset.test_labels) + num_validation) * dataset.num_classes


def _model_bytes(plan: Plan, run: Run) -> int:
    """The size of a kept network."""
    import jax

    from cwjax.training.local import make_run_programs
    from cwjax.training.step import kept_arrays

    programs = make_run_programs(plan.cells[run.key.cell].dataset, plan.design.train)
    state = jax.eval_shape(programs.initial_state, np.zeros(2, np.uint32), run.row)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in kept_arrays(state).values())


@dataclass(frozen=True, eq=False)
class _Work:
    """The runs of one data set: they share their compiled programs."""

    plan: Plan
    runs: list[Run]
    width: int | None
    """As recorded; None where none is."""
    share: float
    """The part of `MEASURED_SECONDS` that is spent on it."""

    @property
    def num_examples(self) -> int:
        return sum(run.num_examples for run in self.runs)


def _works(plan: Plan, study: StudyFile, runs: Sequence[Run]) -> list[_Work]:
    by_dataset: dict[str, list[Run]] = {}
    for run in runs:
        by_dataset.setdefault(plan.cells[run.key.cell].dataset.fingerprint, []).append(run)
    return [
        _Work(plan, own, study.cells[own[0].key.cell].width, 1 / len(by_dataset))
        for own in by_dataset.values()
    ]


def _measured_rate(work: _Work, runtime: RuntimeConfig) -> float:
    """Training examples per second of this machine, all its devices together."""
    if work.plan.design.estimators is not None:
        return _estimator_rate(work, runtime)
    from cwjax.training.lanes import default_lanes
    from cwjax.training.local import Engine, make_run_programs
    from cwjax.training.width import fitting_width

    config, dataset = work.plan.design.train, work.plan.cells[work.runs[0].key.cell].dataset
    programs = make_run_programs(dataset, config)
    width = work.width or fitting_width(
        work.runs[0], dataset, programs, config, runtime.max_parallel_runs
    )
    lanes = default_lanes(width)[: runtime.max_parallel_runs]
    engine = Engine(dataset, programs, config, lanes)
    with closing(_steps(engine, work.runs)) as steps:
        for _ in range(2 * engine.num_lanes):  # each compiles before its first
            next(steps)
        start, num_examples = time.monotonic(), 0
        for finished in steps:
            num_examples += finished
            if time.monotonic() - start > MEASURED_SECONDS * work.share:
                break
    return num_examples / (time.monotonic() - start)


def _estimator_rate(work: _Work, runtime: RuntimeConfig) -> float:
    """Training examples per second of all processes together: of one fit, timed."""
    from cwjax.training.estimators import EstimatorTrainer

    datasets = {name: cell.dataset for name, cell in work.plan.cells.items()}
    assert work.plan.design.estimators is not None
    alone = EstimatorTrainer(
        datasets, work.plan.design.estimators, replace(runtime, max_parallel_runs=1)
    )
    times = []
    for event in alone.train([work.runs[0], work.runs[-1]], (), threading.Event()):
        if isinstance(event, RunsFailed):
            raise event.error
        if isinstance(event, RunFinished):
            times.append(time.monotonic())  # the first run's time is that of its process, too
    at_once = min(runtime.max_parallel_runs or available_cores(), len(work.runs))
    return at_once * work.runs[-1].num_examples / (times[1] - times[0])


def _steps(engine: Engine, runs: Sequence[Run]) -> Generator[int, None, None]:
    """Examples of each block of steps; small studies are trained again and again."""
    while True:
        with closing(engine.train(runs)) as events:
            for event in events:
                if isinstance(event, RunsFailed):
                    raise event.error
                if isinstance(event, StepsFinished):
                    yield event.num_examples


def _peak_memory_gib() -> float:
    """The largest resident memory of this process so far, in GiB."""
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
