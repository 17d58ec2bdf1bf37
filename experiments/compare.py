"""Trains several arms on the same seeds and says which differences are more than luck.

python -m experiments.compare
python -m experiments.compare --arms uniform balanced logit_adjusted:tau=0.5,1 --num-seeds 12
python -m experiments.compare --dataset mnist --imbalance none --protocol notebook

The first trains uniform and balanced class weights on long-tailed digits over ten seeds, in about
a minute on two CPU cores. The same command with the same --out continues where it stopped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from cwjax.config import ExperimentConfig, RuntimeConfig
from experiments import command_line


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Flags of `compare`: the experiment, the machine, and where the results go."""

    experiment: ExperimentConfig = field(default_factory=ExperimentConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    out: Path | None = None
    """Directory of the results, new or to be continued [default: results/<settings>]."""
    quiet: bool = False
    """Print nothing but errors."""
    tensorboard: bool = False
    """Write a TensorBoard run for every arm and seed to <out>/tensorboard (pip install
    'cwjax[tensorboard]')."""
    list_arms: bool = False
    """Print every scheme with its formula, settings and paper, and stop."""


def main() -> int:
    """The script; returns its exit code."""
    flags = command_line.parse(Flags, __doc__)
    from experiments import display  # rich is not needed to say that a flag is wrong

    if flags.list_arms:
        display.print_arms()
        return 0

    from cwjax.events import Planned
    from cwjax.experiment import run_plan
    from cwjax.plan import make_plan
    from cwjax.results import tensorboard
    from cwjax.results.store import check_directory

    if flags.tensorboard:
        tensorboard.require_tensorboard()
    directory = flags.out or Path("results") / flags.experiment.directory_name()
    check_directory(directory)
    plan = make_plan(flags.experiment)
    with command_line.saved_on_signals(run_plan(plan, directory, flags.runtime)) as events:
        if flags.tensorboard:
            events = tensorboard.written(events, directory)
        planned = next(events)  # the directory's own arms and seeds included
        assert isinstance(planned, Planned)
        if not flags.quiet:
            display.print_plan(planned.plans[0], directory)
        comparison = display.follow(chain([planned], events), planned.plans[0], flags.quiet)
    if not flags.quiet:
        display.print_comparison(comparison)
        print(f"files: {directory}")
    return 0 if comparison["num_ok_runs"] else 1


if __name__ == "__main__":
    command_line.run_main(main)
