"""All settings of an experiment, as frozen dataclasses that check themselves. Imports no JAX.

What decides the numbers (`DataConfig`, `TrainConfig`, `AnalysisConfig`) is written to `config.json`
and compared when a directory is continued; how the machine is used (`RuntimeConfig`) may change
from one call to the next.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from cwjax.errors import ConfigError


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _require_choices(config: Any) -> None:
    """Every field with a closed list of values has one of them, whoever made the config."""
    for name, hint in get_type_hints(type(config)).items():
        choices = [value for part in (hint, *get_args(hint)) for value in _literal_values(part)]
        value = getattr(config, name)
        if choices and value is not None:
            flag = "--" + name.replace("_", "-")
            _require(value in choices, f"{flag} is {value!r}: choose one of {', '.join(choices)}")


def _literal_values(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) is Literal else ()


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which examples a run sees."""

    dataset: str = "mnist5k"
    """mnist5k (embedded), mnist, fashion_mnist, idx:DIR or npz:FILE."""
    data_dir: Path | None = None
    """Prepared TensorFlow Datasets [default: $TFDS_DATA_DIR or ~/tensorflow_datasets]."""
    imbalance: Literal["none", "long_tailed", "step"] = "long_tailed"
    """Profile that the training split is subsampled to; the test split stays as it is."""
    imbalance_factor: float = 50.0
    """Examples of the largest class per example of the smallest, at least 1."""
    permute_classes: bool = False
    """Let each seed choose which class is head and which is tail."""
    protocol: Literal["cwjax", "notebook"] = "cwjax"
    """cwjax: stratified validation cut by the seed; notebook: the last 10% in file order, class
    weights from the whole training file (needs --imbalance none)."""

    def __post_init__(self) -> None:
        _require_choices(self)
        _require(
            math.isfinite(self.imbalance_factor) and self.imbalance_factor >= 1,
            f"--imbalance-factor is {self.imbalance_factor}: give a finite number of at least 1",
        )
        _require(
            self.protocol == "cwjax" or self.imbalance == "none",
            f"--protocol notebook trains on the whole file: give --imbalance none, "
            f"not {self.imbalance}",
        )
        _require(
            not self.permute_classes or self.imbalance != "none",
            "--permute-classes has no effect without an imbalance: give --imbalance long_tailed or "
            "step, or leave it out",
        )

    def name(self) -> str:
        """The data set as part of a directory's name: its kind, or its file's name."""
        kind, _, place = self.dataset.partition(":")
        return re.sub(r"[^\w.]+", "_", Path(place).stem, flags=re.ASCII)[:80] if place else kind

    def profile(self) -> str:
        """The imbalance in a word, e.g. `long_tailed-50`."""
        if self.imbalance == "none":
            return self.imbalance
        return f"{self.imbalance}-{self.imbalance_factor:g}"


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How one run is trained."""

    num_epochs: int = 12
    """Passes over the training split."""
    batch_size: int = 56
    """Examples a step; the last, smaller batch of an epoch is used too."""
    learning_rate: float = 1e-3
    """Of RMSprop (decay 0.9, epsilon 1e-7 inside the square root: Keras 3's defaults)."""
    reduction: Literal["batch", "weights"] = "batch"
    """Weighted losses are summed and divided by the batch's size (Keras) or by the sum of its
    weights (PyTorch)."""
    weight_normalization: Literal["examples", "classes"] = "examples"
    """Class weights average 1 over the training examples (scikit-learn) or over the classes
    (the long-tail papers)."""
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    """Of matrix products on accelerators; parameters and sums stay float32. CPU: float32 only."""

    def __post_init__(self) -> None:
        _require_choices(self)
        _require(
            self.num_epochs >= 1,
            f"--num-epochs is {self.num_epochs}: give an integer of at least 1",
        )
        _require(
            self.batch_size >= 1,
            f"--batch-size is {self.batch_size}: give an integer of at least 1",
        )
        _require(
            math.isfinite(self.learning_rate) and self.learning_rate > 0,
            f"--learning-rate is {self.learning_rate}: give a finite number above 0",
        )


@dataclass(frozen=True, kw_only=True)
class AnalysisConfig:
    """How arms are compared; fixed before the first run."""

    metric: str = "balanced_accuracy"
    """Primary metric, e.g. accuracy, macro_f1, worst_class_recall, loss (a wrong name lists all):
    the one that gets a verdict; the others are shown as secondary."""
    smallest_effect: float | None = None
    """Smallest difference of the primary metric that would matter to you, as a fraction
    (0.01 = one percentage point); without it nothing is said about equivalence or size."""
    confidence: float = 0.95
    """Confidence of the intervals; 1 minus it is the error rate of the family of comparisons."""
    diverged: Literal["drop-pair", "worst-score"] | None = None
    """What to do with a seed of which a run diverged [default: refuse a verdict]."""

    def __post_init__(self) -> None:
        from cwjax.analysis.metrics import METRICS  # needs NumPy, --help does not
        from cwjax.analysis.rules import rules_for

        _require_choices(self)
        _require(
            self.metric in METRICS,
            f"--metric is {self.metric!r}: choose one of {', '.join(METRICS)}",
        )
        rules_for(self, self.metric)


@dataclass(frozen=True, kw_only=True)
class DesignConfig:
    """What is trained and compared, whatever the data: a comparison and a sweep share it."""

    train: TrainConfig = field(default_factory=TrainConfig)
    analysis: AnalysisConfig = field(default_factory=AnalysisConfig)
    arms: tuple[str, ...] = ("uniform", "balanced")
    """Schemes with their settings, e.g. focal:gamma=1,2 (two arms); all: every scheme
    (python -m experiments.compare --list-arms)."""
    baseline: str = "uniform"
    """The arm that the others are compared with; trained whether listed in --arms or not."""
    num_seeds: int = 10
    """Runs of each arm: seeds 0 to num_seeds - 1."""
    seeds: tuple[int, ...] | None = None
    """The seeds themselves, instead of --num-seeds."""
    null_control: bool = False
    """Train the baseline again under other random keys: a difference seen there is noise."""

    def __post_init__(self) -> None:
        from cwjax.methods.arms import parse_arms  # arms.py itself raises ConfigError

        _require(
            self.num_seeds >= 1, f"--num-seeds is {self.num_seeds}: give an integer of at least 1"
        )
        repeated = sorted({s for s in self.all_seeds if self.all_seeds.count(s) > 1})
        _require(not repeated, f"--seeds repeats {repeated}: give each seed once")
        for seed in self.all_seeds:
            _require(0 <= seed < 2**32, f"--seeds has {seed}: give integers from 0 to 2**32 - 1")
        _require(len(self.all_seeds) >= 1, "--seeds is empty: give at least one seed")
        baseline = parse_arms([self.baseline])
        _require(
            len(baseline) == 1, f"--baseline {self.baseline} names {len(baseline)} arms: give one"
        )
        arms = [str(arm) for arm in parse_arms(self.arms)]
        # Canonical names from here on: `focal:gamma=2` and `focal` are the same arm.
        object.__setattr__(self, "baseline", str(baseline[0]))
        ordered = [self.baseline, *(arm for arm in arms if arm != self.baseline)]
        object.__setattr__(self, "arms", tuple(ordered))

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds of every arm, in the order in which they are trained."""
        return tuple(range(self.num_seeds)) if self.seeds is None else self.seeds

    def settings(self) -> dict[str, Any]:
        """What must be equal for two calls to share a directory: all but arms, seeds and places."""
        return {
            "train": dataclasses.asdict(self.train),
            "analysis": dataclasses.asdict(self.analysis),
            "baseline": self.baseline,
        }


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig(DesignConfig):
    """One comparison: one data set, several arms, the same seeds for each."""

    data: DataConfig = field(default_factory=DataConfig)

    def settings(self) -> dict[str, Any]:
        """What must be equal for two calls to share a directory: all but arms, seeds and places."""
        data = dataclasses.asdict(self.data)
        del data["data_dir"]  # the fingerprint tells data sets apart, not their place
        kind, colon, place = self.data.dataset.partition(":")
        data["dataset"] = kind + colon + Path(place).name
        return {"data": data, **super().settings()}

    def directory_name(self) -> str:
        """`<dataset>-<profile>-<hash of the settings>`, the default below `results/`."""
        return f"{self.data.name()}-{self.data.profile()}-{short_hash(self.settings())}"


def short_hash(content: Any) -> str:
    """Eight hexadecimal digits that tell settings apart."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """How this machine is used; has no part in what is compared."""

    platform: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """Device kind; auto takes the best one that JAX finds."""
    max_parallel_runs: int | None = None
    """Runs trained side by side [default: CPU cores; on accelerators what their memory holds, up to
    32 a device]. On accelerators a directory keeps the number that it began with."""
    compile_cache: bool = True
    """Compiled programs are kept in the user's cache directory ($CWJAX_CACHE), so that the next
    start takes a second; with --no-compile-cache they are not."""
    allow_environment_change: bool = False
    """Continue a directory that was begun under other versions or on another device kind; the
    change is recorded."""

    def __post_init__(self) -> None:
        _require_choices(self)
        _require(
            self.max_parallel_runs is None or self.max_parallel_runs >= 1,
            f"--max-parallel-runs is {self.max_parallel_runs}: give an integer of at least 1",
        )


def available_cores() -> int:
    """CPU cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
