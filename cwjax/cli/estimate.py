"""What a sweep costs on this machine: counted where possible, the speed measured."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING

from cwjax.plan import Plan, Run, make_plan

from cwjax.cell import run_keys
from cwjax.config import RuntimeConfig
from cwjax.events import RunsFailed, StepsFinished
from cwjax.sweep.config import SweepConfig

if TYPE_CHECKING:
    from cwjax.training.engine import Engine

MEASURED_SECONDS = 8
"""Of training, after everything is compiled."""


def estimate(config: SweepConfig, runtime: RuntimeConfig, num_shares: int) -> None:
    """Prints the number of runs, and the time and memory that they take here.

    Raises:
        ConfigError, DataError: settings or data that the sweep itself would refuse.
    """
    plans = [make_plan(cell, name) for name, cell in config.cells().items()]
    runs = [run for plan in plans for run in plan.trained_runs]
    num_examples = sum(run.num_epochs * len(run.train_indices) for run in runs)
    num_stored = sum(len(run_keys(plan.config)) for plan in plans)
    print(
        f"{len(plans)} cells, {num_stored} runs: {len(runs)} to train, the others computed from "
        "them; finished ones are not left out"
    )
    print(f"{num_examples:,} training examples over all epochs")
    megabytes = sum(run_file_bytes(plan) * len(run_keys(plan.config)) for plan in plans) / 1e6
    print(f"about {megabytes:,.0f} MB of files")
    rate = measured_rate(plans[0], runtime)
    seconds = round(num_examples / rate / num_shares)
    each = f" for each of {num_shares} shares" if num_shares > 1 else ""
    print(f"about {timedelta(seconds=seconds)}{each}, at {rate:,.0f} examples/s measured here")
    print(f"about {peak_memory_gib():.1f} GiB of memory")


def run_file_bytes(plan: Plan) -> int:
    """Of one run's file: nearly all of it is logits, float32 for every class."""
    split = next(iter(plan.splits.values()))
    num_rows = len(plan.dataset.test_labels) + len(split.validation_indices)
    return 4 * num_rows * plan.dataset.num_classes


def measured_rate(plan: Plan, runtime: RuntimeConfig) -> float:
    """Training examples a second of this machine, all its devices together."""
    from cwjax.training import devices

    devices.configure(runtime, plan.config.train.precision)
    from cwjax.group import choose_width, make_engine

    engine = make_engine(plan, choose_width(plan, runtime), runtime)
    with closing(_steps(engine, plan.trained_runs)) as steps:
        for _ in range(2 * engine.num_lanes):  # each compiles before its first
            next(steps)
        start, num_examples = time.monotonic(), 0
        for finished in steps:
            num_examples += finished
            if time.monotonic() - start > MEASURED_SECONDS:
                break
    return num_examples / (time.monotonic() - start)


def _steps(engine: Engine, runs: Sequence[Run]) -> Generator[int, None, None]:
    """Examples of each block of steps; small sweeps are trained again and again."""
    while True:
        with closing(engine.train(runs)) as events:
            for event in events:
                if isinstance(event, RunsFailed):
                    raise event.error
                if isinstance(event, StepsFinished):
                    yield event.num_examples


def peak_memory_gib() -> float:
    """The largest resident memory of this process so far, in GiB."""
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
