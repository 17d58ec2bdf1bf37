"""From settings to runs: all that is checked and counted before anything compiles. No JAX."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cwjax.analysis.metrics import score
from cwjax.config import DesignConfig, ExperimentConfig
from cwjax.data.dataset import Dataset
from cwjax.data.sources import load_dataset
from cwjax.data.split import Split, split_dataset
from cwjax.errors import ConfigError
from cwjax.methods.arm_row import ArmRow, row_bytes
from cwjax.methods.arms import arm_row, parse_arm, total_epochs
from cwjax.methods.registry import Arm, ArmContext

NULL_CONTROL = "null_control"
"""Name of the A/A arm: the baseline again, under other random keys."""

MIN_IMAGE_SIDE = 18
"""The CNN's: 18 -> 16 -> 8 -> 6 -> 3 -> 1, the last convolution still has one position."""

POST_HOC_PARENT = "uniform"
"""The arm whose stored runs every post-hoc arm is computed from."""


@dataclass(frozen=True, eq=False)
class Run:
    """One arm on one seed, ready to train."""

    cell: str  # of a sweep; "" in a comparison of its own
    arm: str
    seed: int
    key_seed: int  # what training draws from: the seed, or another one for the A/A control
    row: ArmRow
    train_indices: np.ndarray  # int32 [num_train], into the training file
    validation_indices: np.ndarray  # int32 [num_validation], into the training file
    first_stage_epochs: int
    num_epochs: int  # of all stages together


@dataclass(frozen=True, eq=False)
class Plan:
    """An experiment, checked and laid out."""

    config: ExperimentConfig
    dataset: Dataset
    splits: dict[int, Split]  # by seed
    cell: str = ""  # name among the cells of a sweep

    @cached_property
    def arms(self) -> tuple[Arm, ...]:
        """Every arm but the A/A control, baseline first."""
        return tuple(parse_arm(name) for name in self.config.arms)

    @property
    def arm_names(self) -> tuple[str, ...]:
        """Every arm with its own scores, baseline first, the A/A control last."""
        return arm_names(self.config)

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Every trained run, seed by seed, so that pairs complete early."""
        runs = []
        for seed, split in self.splits.items():
            runs += [
                self._run(str(arm), arm, seed, split, key_seed=seed)
                for arm in self.arms
                if arm.kind != "post_hoc"
            ]
            if self.config.null_control:
                baseline = parse_arm(self.config.baseline)
                # Seeds lie below 2**32, so this stream is no other seed's. The data stay the
                # seed's.
                other = seed + 2**32
                runs.append(self._run(NULL_CONTROL, baseline, seed, split, key_seed=other))
        return tuple(runs)

    def _run(self, name: str, arm: Arm, seed: int, split: Split, *, key_seed: int) -> Run:
        num_epochs = self.config.train.num_epochs
        context = ArmContext(
            class_counts=split.class_counts,
            weight_counts=split.weight_counts,
            class_names=self.dataset.class_names,
            num_epochs=num_epochs,
            normalization=self.config.train.weight_normalization,
        )
        return Run(
            cell=self.cell,
            arm=name,
            seed=seed,
            key_seed=key_seed,
            row=arm_row(arm, context),
            train_indices=split.train_indices,
            validation_indices=split.validation_indices,
            first_stage_epochs=num_epochs,
            num_epochs=total_epochs(arm, num_epochs),
        )

    @cached_property
    def twins(self) -> dict[tuple[str, int], str]:
        """For every trained (arm, seed) the first arm of an equal row: only that one is trained."""
        first: dict[tuple[object, ...], str] = {}
        return {
            (run.arm, run.seed): first.setdefault(
                (run.key_seed, run.num_epochs, row_bytes(run.row)), run.arm
            )
            for run in self.runs
        }

    @property
    def trained_runs(self) -> tuple[Run, ...]:
        """The runs that training itself must answer: of equal arms one."""
        return tuple(run for run in self.runs if self.twins[run.arm, run.seed] == run.arm)

    @property
    def equal_arms(self) -> dict[str, str]:
        """Arms that equal an earlier one on every seed: name -> the earlier one's name."""
        equals = {}
        for arm in self.arms:
            if arm.kind != "post_hoc":
                firsts = {self.twins[str(arm), seed] for seed in self.splits}
                if len(firsts) == 1 and firsts != {str(arm)}:
                    equals[str(arm)] = firsts.pop()
        return equals


def arm_names(config: DesignConfig) -> tuple[str, ...]:
    """Every arm with its own scores, baseline first, the A/A control last."""
    return (*config.arms, *([NULL_CONTROL] if config.null_control else []))


def make_plan(config: ExperimentConfig, cell: str = "") -> Plan:
    """Loads the data, cuts and subsamples it for every seed, and lays out the runs.

    Args:
        config: the experiment.
        cell: its name among the cells of a sweep.

    Raises:
        ConfigError, DataError: anything that would make a run impossible or meaningless.
    """
    if any(parse_arm(arm).kind == "post_hoc" for arm in config.arms):
        if POST_HOC_PARENT not in config.arms:
            raise ConfigError(
                f"post-hoc arms are computed from the runs of {POST_HOC_PARENT}: add it to --arms"
            )
        if parse_arm(config.baseline).kind == "post_hoc":
            raise ConfigError(f"--baseline {config.baseline} is not trained: give a trained arm")
    dataset = load_dataset(config.data.dataset, config.data.data_dir)
    metric = config.analysis.metric
    if min(dataset.image_shape[:2]) < MIN_IMAGE_SIDE:
        height, width, _ = dataset.image_shape
        raise ConfigError(
            f"{dataset.name}: images are {height} x {width}, the CNN needs at least "
            f"{MIN_IMAGE_SIDE} x {MIN_IMAGE_SIDE}: enlarge them"
        )
    splits = {seed: split_dataset(dataset, config.data, seed) for seed in config.all_seeds}
    for seed, split in splits.items():
        if config.train.batch_size > len(split.train_indices):
            raise ConfigError(
                f"--batch-size is {config.train.batch_size}, but seed {seed} trains on "
                f"{len(split.train_indices)} examples: give a smaller batch"
            )
        no_logits = np.zeros((len(dataset.test_labels), dataset.num_classes))
        if np.isnan(score(metric, no_logits, dataset.test_labels, split.class_counts)):
            raise ConfigError(
                f"--metric {metric} is undefined with the classes of seed {seed}, which "
                f"have {', '.join(map(str, split.class_counts))} training examples: choose another"
            )
    plan = Plan(config, dataset, splits, cell)
    _ = plan.runs  # every arm's row is made and checked here
    return plan
