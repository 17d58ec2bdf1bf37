"""All settings of a study, as frozen dataclasses that check themselves.

Imports no JAX, no NumPy and nothing of cwjax but its error. What decides the numbers (`DataConfig`,
`TrainConfig`, `AnalysisConfig`) is written to `study.json` and compared when a directory is
continued; how the machine is used (`RuntimeConfig`) may change from one call to the next. What
needs data or a registry (does the metric exist? do the arms parse?) is checked by
`cwjax.study.plan`.
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
from collections import Counter
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from cwjax.errors import ConfigError

Profile = Literal["none", "long_tailed", "step"]
Imbalance = Literal["auto", "none", "long_tailed", "step"]
Protocol = Literal["cwjax", "notebook", "cifar_lt"]
TestSplit = Literal["fixed", "per-seed"]
Policy = Literal["drop-pair", "worst-score"]

BALANCED_DATASETS = ("mnist5k", "mnist", "fashion_mnist")
"""Made imbalanced unless told otherwise; other data are taken as they are."""

MAX_SEEDS = 10_000
"""Seeds of one study: more would say nothing new, and a typo would train for months."""

NAMED_SOURCES = ("tfds", "sklearn")
"""Sources of which a name follows the colon, not a path."""

THREADS = "NPROC"
"""Environment variable from which XLA:CPU takes the size of its thread pool. The last bits depend
on it, so an experiment keeps the number that it began with, on any number of cores."""

CONFIDENCE_LIMITS = (0.5, 0.9999)
"""Beyond them no number of seeds that anybody trains could serve the statistics."""


def require(condition: bool, message: str) -> None:
    """Raises a `ConfigError` with the message unless the condition holds."""
    if not condition:
        raise ConfigError(message)


def require_choices(config: Any) -> None:
    """Checks that every field with a closed list of values has one of them, whoever made it."""
    for name, hint in get_type_hints(type(config)).items():
        choices = [value for part in (hint, *get_args(hint)) for value in _literal_values(part)]
        value = getattr(config, name)
        if choices and value is not None:
            flag = "--" + name.replace("_", "-")
            require(value in choices, f"{flag} is {value!r}: choose one of {', '.join(choices)}")


def _literal_values(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) is Literal else ()


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """How files of the user's own are read; a source takes the settings that concern it."""

    image_size: str | None = None
    """folder, tfds: height, or height x width, that images are resized to, e.g. 32 or 48x64
    [default: the median, made to fit into 64x64]."""
    grey: bool = False
    """folder, tfds: turn colour images into grey ones."""
    skip_bad_images: bool = False
    """folder, tfds: leave out files that cannot be read as images, instead of stopping."""
    label_column: str | None = None
    """table, features: the column of the classes [default of features: label or labels]."""
    test_file: str | None = None
    """table, features: another file of the same columns, as the test split."""
    drop_columns: tuple[str, ...] = ()
    """table: columns to leave out."""
    numeric_columns: tuple[str, ...] = ()
    """table: columns to take as numbers, whatever they look like."""
    categorical_columns: tuple[str, ...] = ()
    """table: columns to take as categories, whatever they look like."""
    group_column: str | None = None
    """table, features, npz: the column or array by which examples belong together (a patient, a
    writer, a scene): a group never stands on both sides of a split."""
    group_file: str | None = None
    """folder: a .csv file that says the same, with the columns path (below DIR) and group."""

    def __post_init__(self) -> None:
        _ = self.size

    def flags(self) -> list[str]:
        """The settings as they are typed, defaults left out."""
        words = []
        for setting in fields(self):
            value = getattr(self, setting.name)
            if value != setting.default:
                words.append("--" + setting.name.replace("_", "-"))
                words += value if isinstance(value, tuple) else [value] * (value is not True)
        return words

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of `image_size`.

        Raises:
            ConfigError: it is no such text.
        """
        if self.image_size is None:
            return None
        match = re.fullmatch(r"([1-9]\d{0,3})(?:x([1-9]\d{0,3}))?", self.image_size, re.ASCII)
        if match is None:
            raise ConfigError(
                f"--image-size is {self.image_size!r}: give a height, or height x width, in "
                "pixels below 10,000, e.g. 32 or 48x64"
            )
        return int(match[1]), int(match[2] or match[1])


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which examples the runs of one cell see."""

    dataset: str = "mnist5k"
    """Data set, by its source and, for some, its place:"""
    imbalance: Imbalance = "auto"
    """Profile that the training split is subsampled to, and the validation split to the same
    shares; the test split stays as it is. auto: long_tailed for mnist5k, mnist and fashion_mnist,
    and where a factor other than the default is given; else none."""
    imbalance_factor: float = 50.0
    """Examples of the largest class per example of the smallest, at least 1."""
    permute_classes: bool = False
    """Let each seed choose which class is head and which is tail."""
    protocol: Protocol = "cwjax"
    """cwjax: stratified validation cut by the seed; notebook: the last 10% in file order, class
    weights from the whole training file (needs --imbalance none); cifar_lt: as cwjax, and where no
    flag says otherwise training as in Cao et al. 2019 (ResNet-32, SGD, 200 epochs; docs/models.md).
    """
    test_split: TestSplit = "fixed"
    """fixed: the source's own test split or, where it has none, a stratified fifth that is always
    the same; per-seed: each seed draws its own fifth of all examples."""
    source: SourceConfig = field(default_factory=SourceConfig)

    def __post_init__(self) -> None:
        require_choices(self)
        require(
            isinstance(self.dataset, str),
            f"dataset is {type(self.dataset).__name__}, here it is the name of a source: give the "
            "data to cwjax.compare",
        )
        if self.imbalance == "auto":
            asked = self.permute_classes or self.imbalance_factor != DataConfig.imbalance_factor
            skewed = asked or self.dataset in BALANCED_DATASETS
            object.__setattr__(self, "imbalance", "long_tailed" if skewed else "none")
        require(
            self.protocol != "notebook" or self.test_split == "fixed",
            "--protocol notebook keeps the order of the file: leave out --test-split per-seed",
        )
        require(
            self.dataset.isprintable()
            and self.dataset.encode(errors="ignore").decode() == self.dataset,
            f"--dataset is {self.dataset!a}: rename the file, its name is no printable text",
        )
        require(
            math.isfinite(self.imbalance_factor) and self.imbalance_factor >= 1,
            f"--imbalance-factor is {self.imbalance_factor}: give a finite number of at least 1",
        )
        require(
            self.protocol != "notebook" or self.imbalance == "none",
            f"--protocol notebook trains on the whole file: give --imbalance none, "
            f"not {self.imbalance}",
        )
        require(
            not self.permute_classes or self.imbalance != "none",
            "--permute-classes has no effect without an imbalance: give --imbalance long_tailed or "
            "step, or leave it out",
        )

    def name(self) -> str:
        """The cell's name, and its directory's: data set and profile, `mnist5k-long_tailed-50`."""
        kind, _, place = self.dataset.partition(":")
        stem = re.sub(r"[^\w.]+", "_", Path(place).stem if place else kind, flags=re.ASCII)
        return f"{(stem or kind)[:80]}-{self.profile()}"

    def without_directory(self) -> DataConfig:
        """The same data, named without the directory that they lie in here."""
        kind, colon, place = self.dataset.partition(":")
        name = place if kind in NAMED_SOURCES else Path(place).name
        source = replace(
            self.source,
            test_file=self.source.test_file and Path(self.source.test_file).name,
            group_file=self.source.group_file and Path(self.source.group_file).name,
        )
        return replace(self, dataset=kind + colon + name, source=source)

    def profile(self) -> str:
        """The imbalance in a word, e.g. `long_tailed-50`."""
        if self.imbalance == "none":
            return self.imbalance
        return f"{self.imbalance}-{self.imbalance_factor:g}"

    @property
    def factor(self) -> float:
        """The imbalance factor that acts: 1 without an imbalance."""
        return 1.0 if self.imbalance == "none" else self.imbalance_factor


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How one run is trained."""

    model: str = "auto"
    """Model to train, with its settings as name:key=value, or FILE.py:NAME for one of your own:"""
    optimizer: str = "rmsprop"
    """Optimiser:"""
    num_epochs: int = 12
    """Passes over the training split."""
    batch_size: int = 56
    """Examples per step; the last, smaller batch of an epoch is used too."""
    learning_rate: float = 1e-3
    """Step size of the optimiser; an arm's lr= multiplies it."""
    schedule: str = "constant"
    """Learning rate over the epochs; a second stage begins it anew:"""
    warmup: float = 0.0
    """Epochs in which the learning rate rises from 0."""
    weight_decay: float = 0.0
    """Weight decay of all parameters, as PyTorch's optimiser of that name has it (adamw: beside
    the gradient, the others in it); an arm's weight_decay= takes its place."""
    augment: str = "none"
    """How training images are varied:"""
    reduction: Literal["batch", "weights"] = "batch"
    """Weighted losses are summed and divided by the batch's size (Keras) or by the sum of its
    weights (PyTorch)."""
    weight_normalization: Literal["examples", "classes"] = "examples"
    """Class weights average 1 over the training examples (scikit-learn) or over the classes
    (the long-tail papers)."""
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    """Precision of matrix products on accelerators; parameters and sums stay float32. CPU: float32
    only."""

    @classmethod
    def of_networks(cls) -> tuple[str, ...]:
        """The settings that mean nothing to an estimator."""
        names = (each.name for each in fields(cls))
        return tuple(name for name in names if name not in ("model", "weight_normalization"))

    def __post_init__(self) -> None:
        require_choices(self)
        require(
            self.num_epochs >= 1,
            f"--num-epochs is {self.num_epochs}: give an integer of at least 1",
        )
        require(
            self.batch_size >= 1,
            f"--batch-size is {self.batch_size}: give an integer of at least 1",
        )
        require(
            math.isfinite(self.learning_rate) and self.learning_rate > 0,
            f"--learning-rate is {self.learning_rate}: give a finite number above 0",
        )
        require(
            math.isfinite(self.warmup) and self.warmup >= 0,
            f"--warmup is {self.warmup:g}: give a finite number of epochs of at least 0",
        )
        require(
            math.isfinite(self.weight_decay) and self.weight_decay >= 0,
            f"--weight-decay is {self.weight_decay}: give a finite number of at least 0",
        )

    def without_directory(self) -> TrainConfig:
        """The same, a model of the user's own named without the directory that it lies in here."""
        file, colon, name = self.model.rpartition(":")
        own = file.endswith(".py")
        return replace(self, model=Path(file).name + colon + name) if own else self


CIFAR_LT = TrainConfig(
    model="resnet32",
    optimizer="sgd:momentum=0.9",
    num_epochs=200,
    batch_size=128,
    learning_rate=0.1,
    schedule="step:at=0.8,0.9:factor=0.01",
    warmup=5.0,
    weight_decay=2e-4,
    augment="crop_flip",
    reduction="weights",
    weight_normalization="classes",
)
"""Training in Cao et al. 2019, "Learning Imbalanced Datasets with Label-Distribution-Aware Margin
Loss"; docs/models.md says what differs from their code."""


def default_training(protocol: Protocol) -> TrainConfig:
    """The training settings of a protocol, where none are given."""
    return CIFAR_LT if protocol == "cifar_lt" else TrainConfig()


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
    diverged: Policy | None = None
    """What to do with a seed of which a run diverged [default: refuse a verdict]."""

    def __post_init__(self) -> None:
        require_choices(self)
        effect, (low, high) = self.smallest_effect, CONFIDENCE_LIMITS
        require(
            effect is None or (math.isfinite(effect) and effect > 0),
            f"--smallest-effect is {effect}: give a finite number above 0",
        )
        require(
            low <= self.confidence <= high,
            f"--confidence is {self.confidence}: give a number from {low} to {high}",
        )


@dataclass(frozen=True, kw_only=True)
class DesignConfig:
    """What is trained and compared in every cell of a study."""

    arms: tuple[str, ...] = ("uniform", "balanced")
    """Schemes with their settings, e.g. focal:gamma=1,2 (two arms) or focal:gamma=best(1,2) (one,
    tuned); standard: eight, one of each idea (uniform, balanced, inverse_power, logit_adjusted,
    ldam, class_balanced_sampling, crt, posthoc_logit_adjusted); all: every scheme (--list-arms
    shows them)."""
    baseline: str = "uniform"
    """The arm that the others are compared with; trained whether listed in --arms or not. A tuned
    uniform arm in --arms takes the place of a uniform one that is not listed."""
    num_seeds: int = 10
    """Runs of each arm: seeds 0 to num_seeds - 1."""
    seeds: tuple[int, ...] | None = None
    """The seeds themselves, instead of --num-seeds."""
    max_seeds: int | None = None
    """Train until the question is answered, up to this many seeds: results are read at planned
    looks, and an arm that is decided trains no further (instead of --num-seeds)."""
    looks: tuple[int, ...] | None = None
    """With --max-seeds: numbers of seeds at which results are read, the last of them --max-seeds
    [default: about five]."""
    null_control: bool = False
    """Train the baseline again under other random keys: a difference seen there is noise."""
    tune: bool = False
    """Tune every arm, the baseline too: nine settings of each are trained on every seed, and the
    one that is best on the seed's validation examples is compared (--list-arms shows the grids;
    NAME:best in --arms tunes one arm)."""
    equal_length_baseline: bool = False
    """Train uniform also for as long as the longest arm of two stages, as the arm long_uniform: is
    it the method, or the longer training?"""
    train: TrainConfig = field(default_factory=TrainConfig)
    analysis: AnalysisConfig = field(default_factory=AnalysisConfig)

    def __post_init__(self) -> None:
        require(
            self.max_seeds is None or self.seeds is None,
            "--max-seeds and --seeds exclude each other: give one of them",
        )
        require(
            self.looks is None or self.max_seeds is not None,
            "--looks needs --max-seeds, the last of them",
        )
        require(
            self.looks is None or self.looks[-1:] == (self.max_seeds,),
            f"--looks end at {(self.looks or (0,))[-1]}: let them end at --max-seeds, "
            f"{self.max_seeds}",
        )
        require(
            self.max_seeds is None or 1 <= self.max_seeds <= MAX_SEEDS,
            f"--max-seeds is {self.max_seeds}: give an integer from 1 to {MAX_SEEDS}",
        )
        require(
            1 <= self.num_seeds <= MAX_SEEDS,
            f"--num-seeds is {self.num_seeds}: give an integer from 1 to {MAX_SEEDS}",
        )
        seeds = self.all_seeds
        require(len(seeds) >= 1, "--seeds is empty: give at least one seed")
        require(
            len(seeds) <= MAX_SEEDS, f"--seeds has {len(seeds)} seeds: give at most {MAX_SEEDS}"
        )
        repeated = [seed for seed, count in Counter(seeds).items() if count > 1]
        require(not repeated, f"--seeds repeats {repeated}: give each seed once")
        for seed in seeds:
            require(0 <= seed < 2**32, f"--seeds has {seed}: give integers from 0 to 2**32 - 1")

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds of every arm, in the order in which they are trained."""
        number = self.max_seeds or self.num_seeds
        return tuple(range(number)) if self.seeds is None else self.seeds


@dataclass(frozen=True, kw_only=True)
class StudyConfig(DesignConfig):
    """A study: on the data of every cell the same arms and seeds, judged together.

    A comparison is a study with one cell, a sweep one with several.
    """

    data: tuple[DataConfig, ...] = (DataConfig(),)
    """One entry per cell."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.data) >= 1, "a study needs the data of at least one cell")
        require(  # not asked before: a protocol's preset has a number of epochs of its own
            self.train.warmup < self.train.num_epochs,
            f"--warmup is {self.train.warmup:g} epochs of {self.train.num_epochs}: give fewer than "
            "--num-epochs",
        )
        require(
            self.max_seeds is None or self.data[0].test_split == "fixed",
            "--max-seeds and --test-split per-seed exclude each other, since seeds that share "
            "examples cannot be judged at looks: give --num-seeds",
        )
        by_name: dict[str, DataConfig] = {}
        ways: dict[str, SourceConfig] = {}
        for data in self.data:
            require(
                ways.setdefault(data.dataset, data.source) == data.source,
                f"--dataset {data.dataset} is read in two ways: give its cells the same settings",
            )
            require(
                data.test_split == self.data[0].test_split,
                "--test-split differs between cells, which one test cannot judge: give all the "
                "same",
            )
            other = by_name.setdefault(data.name(), data)
            require(
                other is data,
                f"--dataset {other.dataset} and {data.dataset} would both be named "
                f"{data.name()}: rename one",
            )

    @property
    def cells(self) -> dict[str, DataConfig]:
        """The data of every cell by the cell's name."""
        return {data.name(): data for data in self.data}


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """How this machine is used; has no part in what is compared."""

    data_dir: Path | None = None
    """Prepared TensorFlow Datasets [default: $TFDS_DATA_DIR or ~/tensorflow_datasets]."""
    platform: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """Device kind; auto takes the best one that JAX finds."""
    max_parallel_runs: int | None = None
    """Runs trained side by side [default: CPU cores; on accelerators what their memory holds, up to
    32 per device]. On accelerators a directory keeps the number that it began with."""
    compile_cache: bool = True
    """Keep compiled programs in the user's cache directory ($CWJAX_CACHE), so that the next start
    takes a second."""
    allow_environment_change: bool = False
    """Continue a directory that was begun under other versions or on another device kind; the
    change is recorded."""
    retry_failed: bool = False
    """Train runs again that failed before; without it they stay failed."""
    keep_models: bool = False
    """Keep the trained network of every run in <out>/models, for cwjax export."""
    cluster: str | None = None
    """Train on a Ray cluster (pip install 'cwjax[cluster]'). local: on this machine, in a process
    of its own; auto: on the cluster that this machine is part of; HOST:PORT: on the one whose head
    is there (docs/clusters.md)."""

    def __post_init__(self) -> None:
        require_choices(self)
        require(
            self.cluster is None
            or re.fullmatch(r"local|auto|[^\s:/]+:\d{1,5}", self.cluster) is not None,
            f"--cluster is {self.cluster!r}: give local, auto or HOST:PORT, e.g. 10.0.0.1:6379",
        )
        require(
            self.cluster is None or importlib.util.find_spec("ray") is not None,
            "--cluster needs Ray: pip install 'cwjax[cluster]'",
        )
        require(
            self.max_parallel_runs is None or self.max_parallel_runs >= 1,
            f"--max-parallel-runs is {self.max_parallel_runs}: give an integer of at least 1",
        )


def default_threads() -> int:
    """Size of the thread pool that a new study gives XLA on CPU: $NPROC, or one per core."""
    return int(os.environ.get(THREADS) or available_cores())


def available_cores() -> int:
    """CPU cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
