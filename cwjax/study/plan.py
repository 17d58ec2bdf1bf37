"""From settings to runs: all that is checked and counted before anything compiles. No JAX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cwjax.analysis.looks import LookPlan, default_looks
from cwjax.analysis.metrics import METRICS, find_metric, score
from cwjax.analysis.rules import rules_for
from cwjax.arms.arm import NULL_CONTROL, UNIFORM, Arm, ArmContext, control_name, find_scheme
from cwjax.arms.grammar import arm_row, parse_arms, total_epochs
from cwjax.arms.row import row_bytes
from cwjax.arms.weights_only import check_arm, check_post_hoc_arm
from cwjax.config import AnalysisConfig, DataConfig, DesignConfig, StudyConfig, TrainConfig
from cwjax.data.dataset import Dataset
from cwjax.data.sources import ReadOptions, load_dataset
from cwjax.data.split import Split, split_dataset
from cwjax.errors import ConfigError
from cwjax.models.estimators import Estimators, find_estimators, is_estimator
from cwjax.models.registry import check_input, find_model
from cwjax.training.augment import check_augmentation, find_augmentation
from cwjax.training.optim import find_optimizer, find_schedule
from cwjax.training.runs import Run, RunKey


@dataclass(frozen=True)
class Design:
    """What every cell of a study trains and how it is judged; the arms are parsed.

    Attributes:
        arms: the baseline first.
        seeds: of every arm.
        null_control: whether the baseline is trained again under other random keys.
        train: how every run is trained.
        analysis: how arms are compared.
        looks: numbers of seeds at which results are read, if that is planned.
        estimators: what is trained in the place of the network that `train` names.
    """

    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    null_control: bool
    train: TrainConfig
    analysis: AnalysisConfig
    looks: tuple[int, ...] = ()
    estimators: Estimators | None = None

    @property
    def baseline(self) -> Arm:
        """The arm that the others are compared with."""
        return self.arms[0]

    @property
    def trained(self) -> dict[str, Arm]:
        """Every arm that is trained, by name: a tuned one is not, its candidates are."""
        arms = [arm for arm in self.arms if arm.kind != "post_hoc"]
        return {str(each): each for arm in arms for each in arm.candidates or (arm,)}

    @property
    def controls(self) -> dict[str, Arm]:
        """What the A/A control is trained as: the baseline, or its candidates; by name."""
        if not self.null_control:
            return {}
        candidates = {control_name(str(arm)): arm for arm in self.baseline.candidates}
        return candidates or {NULL_CONTROL: self.baseline}

    @property
    def tuned(self) -> dict[str, Arm]:
        """Every tuned arm by name, the A/A control of a tuned baseline included."""
        tuned = {str(arm): arm for arm in self.arms if arm.candidates}
        if self.null_control and self.baseline.candidates:
            tuned[NULL_CONTROL] = self.baseline
        return tuned

    @property
    def post_hoc_parent(self) -> Arm | None:
        """The arm that post-hoc arms are computed from: the first that is uniform, maybe tuned."""
        return next(
            (
                arm
                for arm in self.arms
                if arm == UNIFORM or (arm.scheme == UNIFORM.scheme and arm.candidates)
            ),
            None,
        )


@dataclass(frozen=True, eq=False)
class Cell:
    """One data set with one imbalance, split for every seed."""

    name: str
    data: DataConfig
    dataset: Dataset
    splits: Mapping[int, Split]


@dataclass(frozen=True, eq=False)
class Plan:
    """A study, checked and laid out."""

    design: Design
    cells: Mapping[str, Cell]

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Every run that is trained, or equals one that is; pairs complete early."""
        return tuple(
            run
            for cell in self.cells.values()
            for seed in self.design.seeds
            for run in self._runs_of_seed(cell, seed)
        )

    def _runs_of_seed(self, cell: Cell, seed: int) -> list[Run]:
        # Seeds lie below 2**32, so the controls' stream is no other seed's. Data stay the seed's.
        return [
            self._run(cell, name, arm, seed, key_seed=key_seed)
            for arms, key_seed in (
                (self.design.trained, seed),
                (self.design.controls, seed + 2**32),
            )
            for name, arm in arms.items()
        ]

    def _run(self, cell: Cell, name: str, arm: Arm, seed: int, *, key_seed: int) -> Run:
        train, split, dataset = self.design.train, cell.splits[seed], cell.dataset
        context = ArmContext(
            class_counts=split.class_counts,
            weight_counts=split.weight_counts,
            class_names=dataset.class_names,
            num_epochs=train.num_epochs,
            normalization=train.weight_normalization,
            weight_decay=train.weight_decay,
            batch_size=train.batch_size,
        )
        num_epochs = total_epochs(arm, train.num_epochs, context.steps_per_epoch)
        first_stage_epochs = train.num_epochs if arm.kind == "two_stage" else num_epochs
        row = arm_row(arm, context)._replace(
            input_fill=split.scaling.fill,
            input_mean=split.scaling.mean,
            input_scale=split.scaling.scale,
        )
        return Run(
            key=RunKey(cell.name, name, seed),
            key_seed=key_seed,
            row=row,
            train_indices=split.train_indices,
            validation_indices=split.validation_indices,
            test_indices=split.test_indices,
            first_stage_epochs=0 if self.design.estimators else first_stage_epochs,
            num_epochs=0 if self.design.estimators else num_epochs,
        )

    @cached_property
    def sources(self) -> Mapping[RunKey, tuple[RunKey, ...]]:
        """For every run of the study the runs that it is made from, which stand before it.

        Empty where it is trained. An arm whose row equals an earlier one's on a seed (a twin) is
        made from that one's run, a tuned arm from those of its candidates, a post-hoc arm from the
        run of `Design.post_hoc_parent`; twins and tuned runs are sources themselves.
        """
        first: dict[tuple[object, ...], RunKey] = {}
        sources: dict[RunKey, tuple[RunKey, ...]] = {}
        estimators = self.design.estimators or Estimators()
        for run in self.runs:
            own = None if estimators.weighted else run.key.arm
            same = run.key.cell, run.key_seed, run.num_epochs, row_bytes(run.row), own
            source = first.setdefault(same, run.key)
            sources[run.key] = (source,) if source != run.key else ()
        made: dict[str, list[str]] = {}
        for name, arm in self.design.tuned.items():
            named = control_name if name == NULL_CONTROL else str
            made[name] = [named(str(candidate)) for candidate in arm.candidates]
        for arm in self.design.arms:
            if arm.kind == "post_hoc":
                made[str(arm)] = [str(self.design.post_hoc_parent)]
        for name, arms in made.items():
            for cell in self.cells:
                for seed in self.design.seeds:
                    keys = tuple(RunKey(cell, each, seed) for each in arms)
                    sources[RunKey(cell, name, seed)] = keys
        return sources

    def roots(self, key: RunKey) -> tuple[RunKey, ...]:
        """The runs whose training answers a run in the end; itself where it is trained."""
        sources = self.sources[key]
        return tuple(dict.fromkeys(r for s in sources for r in self.roots(s))) or (key,)

    @cached_property
    def trained_runs(self) -> tuple[Run, ...]:
        """The runs that training itself must answer: of equal arms one."""
        return tuple(run for run in self.runs if not self.sources[run.key])

    def equal_arms(self, cell: str) -> dict[str, str]:
        """Arms of a cell that equal an earlier one on every seed: name -> the earlier one's."""
        first: dict[tuple[tuple[RunKey, ...], ...], str] = {}
        equals = {}
        for name in (str(arm) for arm in self.design.arms if arm.kind != "post_hoc"):
            runs = tuple(self.roots(RunKey(cell, name, seed)) for seed in self.design.seeds)
            if (earlier := first.setdefault(runs, name)) != name:
                equals[name] = earlier
        return equals


def parse_design(config: StudyConfig, estimators: Estimators | None = None) -> Design:
    """Reads the arms and checks every name; loads no data.

    Args:
        config: the study.
        estimators: checked already; without them `--model` says what is trained.

    Raises:
        ConfigError: arms, metric, model or optimiser that cannot be used; one line that says why.
    """
    train, analysis = config.train, config.analysis
    if is_estimator(train.model):
        estimators = estimators or find_estimators(train.model)
        _check_estimator_settings(train)
        if config.tune:
            raise ConfigError(
                "--tune varies learning rates, which an estimator does not have: name the arms to "
                "tune, e.g. inverse_power:gamma=best(0.25,0.5,1)"
            )
    else:
        find_model(train.model)
    find_optimizer(train.optimizer)
    find_schedule(train.schedule)
    find_augmentation(train.augment)
    find_metric(analysis.metric)
    rules_for(analysis, analysis.metric)
    looks: tuple[int, ...] = ()
    if config.max_seeds is not None:
        looks = config.looks or default_looks(config.max_seeds, analysis.confidence)
        LookPlan(looks, analysis.confidence, analysis.smallest_effect)  # checks them
    arms = design_arms(config)
    if looks and len(arms) == 1:
        raise ConfigError(
            f"--max-seeds has nothing to decide about {arms[0]} alone: give another arm, or "
            "--num-seeds"
        )
    design = Design(
        arms=arms,
        seeds=config.all_seeds,
        null_control=config.null_control,
        train=train,
        analysis=analysis,
        looks=looks,
        estimators=estimators,
    )
    check_post_hoc(design)
    return design


def design_arms(config: DesignConfig) -> tuple[Arm, ...]:
    """The arms of a study, the baseline first.

    Raises:
        ConfigError: they cannot be read, or the baseline is none.
    """
    baseline = parse_arms([config.baseline], tune=config.tune)
    if len(baseline) != 1:
        raise ConfigError(
            f"--baseline {config.baseline} names {len(baseline)} arms: give a single one"
        )
    arms = parse_arms(config.arms, tune=config.tune)
    tuned = tuple(arm for arm in arms if arm.candidates and arm.scheme == UNIFORM.scheme)
    if baseline == (UNIFORM,) and UNIFORM not in arms and len(tuned) == 1:
        baseline = tuned
    arms = (*baseline, *(arm for arm in arms if arm != baseline[0]))
    if config.equal_length_baseline:
        arms = tuple(dict.fromkeys([*arms, _equal_length_baseline(arms)]))
    return arms


def _equal_length_baseline(arms: Sequence[Arm]) -> Arm:
    """The uniform arm that trains as long as the longest of these.

    Raises:
        ConfigError: none trains longer than the others.
    """
    longer = [
        dict(each.settings)
        for arm in arms
        if arm.kind == "two_stage"
        for each in arm.candidates or (arm,)
    ]
    if not longer:
        raise ConfigError(
            "--equal-length-baseline has no arm of two stages to equal: give one in --arms, or "
            "leave it out"
        )
    lengths = ("epochs", "min_steps")
    most = {name: max(settings.get(name, 0) for settings in longer) for name in lengths}
    return find_scheme("long_uniform").arm(most)


def _check_estimator_settings(train: TrainConfig) -> None:
    """Refuses settings of networks that would do nothing.

    Raises:
        ConfigError: naming the first.
    """
    for name in TrainConfig.of_networks():
        if getattr(train, name) != getattr(TrainConfig(), name):
            raise ConfigError(
                f"--{name.replace('_', '-')} is of networks and has no effect with --model "
                f"{train.model}: leave it out"
            )


def check_post_hoc(design: Design) -> None:
    """Checks that post-hoc arms have the runs that they are computed from.

    Raises:
        ConfigError: they have not, or one is the baseline.
    """
    if any(arm.kind == "post_hoc" for arm in design.arms):
        if design.post_hoc_parent is None:
            raise ConfigError(
                f"post-hoc arms are computed from the runs of {UNIFORM}: add it to --arms"
            )
        if design.baseline.kind == "post_hoc":
            raise ConfigError(f"--baseline {design.baseline} is not trained: give a trained arm")


def make_plan(config: StudyConfig, options: ReadOptions | None = None) -> Plan:
    """Loads the data, cuts and subsamples it for every cell and seed, and lays out the runs.

    Args:
        config: the study.
        options: where data may lie.

    Raises:
        ConfigError, DataError: anything that would make a run impossible or meaningless.
    """
    design = parse_design(config)
    return lay_out(design, config.data, load_datasets(config.data, options))


def make_estimator_plan(config: StudyConfig, options: ReadOptions | None = None) -> Plan:
    """As `make_plan`, for an estimator whose test split was not asked for."""
    design, datasets = parse_design(config), load_datasets(config.data, options)
    return lay_out(design, split_anew(config, datasets), datasets)


def split_anew(config: StudyConfig, datasets: Mapping[str, Dataset]) -> tuple[DataConfig, ...]:
    """The data of a study of estimators, each seed with a test split of its own.

    Many estimators have no randomness of their own. As it was where a data set has a test split, or
    the study's protocol or its looks need a fixed one.
    """
    data = config.data
    fixed = config.max_seeds is not None or any(each.protocol == "notebook" for each in data)
    if fixed or not all(dataset.is_test_held_out for dataset in datasets.values()):
        return data
    return tuple(replace(each, test_split="per-seed") for each in data)


def load_datasets(
    data: Sequence[DataConfig], options: ReadOptions | None = None
) -> dict[str, Dataset]:
    """Every data set once, by the name that `--dataset` gives it; errors as `load_dataset`."""
    options, sources = options or ReadOptions(), {each.dataset: each.source for each in data}
    return {
        name: load_dataset(name, replace(options, source=source))
        for name, source in sources.items()
    }


def lay_out(design: Design, data: Sequence[DataConfig], datasets: Mapping[str, Dataset]) -> Plan:
    """The plan of a design on loaded data; errors as `make_plan`."""
    cells = {}
    for each in data:
        dataset = datasets[each.dataset]
        if design.estimators is None:
            check_input(design.train.model, dataset.input_shape, dataset.name)
        check_augmentation(design.train.augment, dataset.input_shape, dataset.name)
        splits = {seed: split_dataset(dataset, each, seed) for seed in design.seeds}
        for seed, split in splits.items():
            _check_split(design, dataset, split, seed)
        cells[each.name()] = Cell(each.name(), each, dataset, splits)
    plan = Plan(design, cells)
    runs = plan.runs  # every arm's row is made and checked here
    if design.estimators is not None:
        trained = design.trained
        for run in runs:
            if run.key.arm in trained:  # the A/A control is the baseline
                check_arm(trained[run.key.arm], run.row)
        for arm in design.arms:
            if arm.kind == "post_hoc":
                check_post_hoc_arm(arm)
    return plan


def _check_split(design: Design, dataset: Dataset, split: Split, seed: int) -> None:
    batch_size, metric = design.train.batch_size, design.analysis.metric
    if design.estimators is None and batch_size > len(split.train_indices):
        raise ConfigError(
            f"--batch-size is {batch_size}, but seed {seed} trains on "
            f"{len(split.train_indices)} examples: give a smaller batch"
        )
    parts = {"": split.test_indices}
    if any(arm.candidates for arm in design.arms):
        parts[" on the validation examples, by which tuned arms are chosen,"] = (
            split.validation_indices
        )
    for where, indices in parts.items():
        labels = dataset.labels[indices]
        no_logits = np.zeros((len(labels), dataset.num_classes))
        if np.isnan(score(metric, no_logits, labels, split.class_counts)):
            raise ConfigError(
                f"--metric {metric} ({METRICS[metric].title}) is undefined{where} with the classes "
                f"of seed {seed}, which have {', '.join(map(str, split.class_counts))} training "
                "examples: choose another"
            )
