"""From flags to a trained study: what `compare` and `sweep` share; they differ by their flags."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cwjax.cli.command_line import given_flags, saved_on_signals
from cwjax.config import (
    DataConfig,
    DesignConfig,
    RuntimeConfig,
    StudyConfig,
    TrainConfig,
    default_training,
)
from cwjax.errors import ConfigError
from cwjax.models.estimators import is_estimator

if TYPE_CHECKING:  # NumPy and pandas take a second to import, and a wrong flag is told without
    from cwjax.study.run import Event


@dataclass(frozen=True, kw_only=True)
class OutputFlags:
    """Where the results go, and what is shown."""

    out: Path | None = None
    """Directory of the results, new or to be continued [default: results/<settings>]."""
    dry_run: bool = False
    """Say how many runs there are, and how long and how much memory they take here; train none."""
    quiet: bool = False
    """Print nothing but errors."""
    tensorboard: bool = False
    """Write a TensorBoard run for every run to <out>/tensorboard (pip install
    'cwjax[tensorboard]')."""
    schemes: Path | None = None
    """Python file with schemes of your own, each decorated with @cwjax.scheme."""
    list_arms: bool = False
    """Print every scheme with its formula, settings and paper, and stop."""

    def __post_init__(self) -> None:
        for name, useless in (("--quiet", self.quiet), ("--tensorboard", self.tensorboard)):
            if self.dry_run and useless:
                raise ConfigError(f"{name} has no effect with --dry-run: leave one of them out")


@dataclass(frozen=True, kw_only=True)
class StudyFlags:
    """What both commands take besides their data."""

    design: DesignConfig = field(default_factory=DesignConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    output: OutputFlags = field(default_factory=OutputFlags)

    def __post_init__(self) -> None:
        if self.output.dry_run and self.runtime.cluster is not None:
            raise ConfigError("--cluster has no effect with --dry-run: leave one of them out")


def train(data: Sequence[DataConfig], flags: StudyFlags, arguments: Sequence[str]) -> int:
    """Trains what is missing and shows the result; returns the command's exit code.

    Args:
        data: of every cell.
        flags: the others.
        arguments: the command line, from which they were read.

    Returns:
        0, or 1 where a run failed or none ended well.

    Raises:
        ConfigError: settings, data or a directory that cannot be used.
    """
    from cwjax.arms.grammar import load_schemes

    output = flags.output
    if output.schemes is not None:
        load_schemes(output.schemes)
    if output.list_arms:
        print_arms()
        return 0
    given = given_flags(arguments)
    config = _study(data, flags.design, given)

    from cwjax.cli import progress
    from cwjax.cli.reading import reading_bar
    from cwjax.data.sources import ReadOptions
    from cwjax.store.directory import check_directory
    from cwjax.study.plan import make_estimator_plan, make_plan
    from cwjax.study.run import run_plan

    if output.tensorboard:
        from cwjax.report.tensorboard import require_tensorboard

        require_tensorboard()
    check_directory(output.out or Path("results") / directory_name(config))
    own_split = "--test-split" in given or not is_estimator(config.train.model)
    make = make_plan if own_split else make_estimator_plan
    with reading_bar(quiet=output.quiet) as reading:
        plan = make(config, ReadOptions(flags.runtime.data_dir, progress=reading))
    used = dataclasses.replace(config, data=tuple(cell.data for cell in plan.cells.values()))
    directory = output.out or Path("results") / directory_name(used)
    if output.dry_run:
        from cwjax.cli.estimate import print_estimate

        print_estimate(plan, directory, flags.runtime)
        return 0
    with saved_on_signals(run_plan(plan, directory, flags.runtime)) as events:
        shown = _written_for_tensorboard(events, directory) if output.tensorboard else events
        finished = progress.follow(shown, directory, quiet=output.quiet)
    return progress.conclude(finished, directory, quiet=output.quiet)


def _study(data: Sequence[DataConfig], design: DesignConfig, given: set[str]) -> StudyConfig:
    """The study, after refusing flags that would do nothing or something else than is meant."""
    if "--imbalance-factor" in given and all(each.imbalance == "none" for each in data):
        raise ConfigError(
            "--imbalance-factor has no effect with --imbalance none: give --imbalance long_tailed "
            "or step, or leave it out"
        )
    if is_estimator(design.train.model):
        names = (
            *TrainConfig.of_networks(), "platform", "no_compile_cache", "keep_models", "cluster",
        )  # fmt: skip
        useless = sorted(given & {"--" + name.replace("_", "-") for name in names})
        if useless:
            raise ConfigError(
                f"{useless[0]} is of networks and has no effect with --model "
                f"{design.train.model}: leave it out"
            )
    if design.seeds is not None:
        if "--num-seeds" in given and len(design.seeds) != design.num_seeds:
            raise ConfigError(
                f"--seeds names {len(design.seeds)} seeds and --num-seeds {design.num_seeds}: "
                "leave one of them out"
            )
        if len(design.seeds) == 1 and design.seeds[0] >= 2 and "--num-seeds" not in given:
            (seed,) = design.seeds
            raise ConfigError(
                f"--seeds {seed} is one seed, number {seed}: did you mean --num-seeds {seed}? "
                "(for that single seed give --num-seeds 1 as well)"
            )
    if design.max_seeds is not None and "--num-seeds" in given:
        raise ConfigError("--num-seeds and --max-seeds exclude each other: give one of them")
    settings = {each.name: getattr(design, each.name) for each in dataclasses.fields(design)}
    settings["train"] = _training(data[0], design.train, given)
    return StudyConfig(data=tuple(data), **settings)


def _training(data: DataConfig, train: TrainConfig, given: set[str]) -> TrainConfig:
    """The training settings, of which those without a flag are the protocol's."""
    default = default_training(data.protocol)
    own = {
        each.name: getattr(train, each.name)
        for each in dataclasses.fields(train)
        if "--" + each.name.replace("_", "-") in given
    }
    return dataclasses.replace(default, **own)


def directory_name(config: StudyConfig) -> str:
    """The default below `results/`: `<cell>-<8 hex digits>`, or `sweep-<8 hex digits>`.

    The digits are of all settings but arms, seeds and places: more of those continue a directory.
    """
    from cwjax.study.plan import design_arms

    data = [each.without_directory() for each in config.data]
    looks = (config.max_seeds, config.looks)
    train = config.train.without_directory()
    settings = repr((data, train, config.analysis, str(design_arms(config)[0]), looks))
    name = config.data[0].name() if len(config.data) == 1 else "sweep"
    return f"{name}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"


def _written_for_tensorboard(events: Iterable[Event], directory: Path) -> Iterator[Event]:
    """The same events; every run that is stored, or was before, is written on the way."""
    from cwjax.report.tensorboard import write_run
    from cwjax.store.directory import StudyDirectory
    from cwjax.study.run import RunStored

    for event in events:
        if isinstance(event, RunStored):
            write_run(StudyDirectory(directory).read_run(event.key), directory)
        yield event


_ARMS_PREFACE = """\
name:setting=default, then formula, source, what it does, and its settings. Several values make
several arms, as in tau=0.5,1; tau=best(0.5,1) makes one tuned arm: both train, and on each seed the
one that is best on the validation examples is compared. name:best tunes by the grid that stands
last, and --tune so tunes every arm, the baseline too. Four settings are the same everywhere, and
every arm that is trained takes the last two:
    weights: class weights, by a scheme of their own, e.g. weights=balanced or
        weights=effective_number(0.9999)
    drw: share of the epochs before they act, at least 0 and below 1; they act for at least 500
        steps or half of the run, whichever is less
    lr: factor of --learning-rate, e.g. lr=0.3,1,3
    weight_decay: in place of --weight-decay"""


def print_arms() -> None:
    """Every scheme with its formula, what it does, its settings and source."""
    from cwjax.arms.grammar import list_arms

    print(_ARMS_PREFACE)
    for arm in list_arms():
        print("\n" + ":".join(filter(None, (arm.name, arm.settings))))
        best = arm.grid and f"best: {arm.grid}"
        for line in filter(None, (arm.formula, arm.source, *arm.about.splitlines(), best)):
            print(f"    {line}")
