"""Every file of a study's directory as a dataclass, to bytes and back.

Whatever is read is checked against the types here, and a file of
another shape is a `ConfigError` that names the file and the field.

A field that is added later needs a default, so that older directories still read; a change of
meaning raises `SCHEMA_VERSION` and needs a migration in `read_study`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import BinaryIO, Literal, TypeVar

import msgspec
import numpy as np

from cwjax.analysis.metrics import METRICS
from cwjax.arms.arm import NULL_CONTROL, SCHEMES, Arm, Best, Kind, control_name, find_scheme
from cwjax.arms.custom_weights import CustomWeights
from cwjax.config import AnalysisConfig, DataConfig, TrainConfig
from cwjax.errors import ConfigError, one_line
from cwjax.training.runs import RunKey

SCHEMA_VERSION = "2.dev2"
"""The format of every file of a directory. Directories of development versions are refused."""

Status = Literal["ok", "diverged"]

Content = TypeVar("Content")


@dataclass(frozen=True)
class StoredArm:
    """An arm with all its settings; `name` is canonical, for people and file names."""

    name: str
    scheme: str
    kind: Kind
    values: dict[str, float | None] = field(default_factory=dict)
    """Settings that are numbers; None where one is chosen on validation, or is the study's."""
    weights: dict[str, StoredArm] = field(default_factory=dict)
    """Settings that are class-weight schemes."""
    files: dict[str, StoredWeights] = field(default_factory=dict)
    """Settings that are files of class weights."""
    own_rule: str | None = None
    """SHA-256 (hex) of the source of a scheme that is not cwjax's own."""
    candidates: tuple[StoredArm, ...] = ()
    """What each run of a tuned arm is chosen from; its tuned settings are in these alone."""

    @property
    def tried(self) -> dict[str, tuple[float, ...]]:
        """The values of each tuned setting, in the grid's order."""
        names = [name for each in self.candidates[:1] for name in each.values]
        values = {
            name: tuple(dict.fromkeys(each.values[name] for each in self.candidates))
            for name in names
            if name not in self.values
        }
        return {name: tuple(v for v in each if v is not None) for name, each in values.items()}


@dataclass(frozen=True)
class StoredWeights:
    """The contents of a file of class weights."""

    stem: str
    class_weights: dict[str, float]


@dataclass(frozen=True)
class StoredEstimator:
    """An estimator of scikit-learn's kind."""

    kind: str
    """Its class, with the module."""
    parameters: dict[str, str]
    """Of it and of those inside it, as Python writes them."""


@dataclass(frozen=True)
class CodeIdentity:
    """The code that trained."""

    version: str
    commit: str | None = None
    """The commit of the checkout that it was run from; None for an installed package."""
    dirty: bool | None = None
    """Whether that checkout had changes that were not committed."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What a run's bits depend on besides its settings."""

    versions: dict[str, str]
    """Python and the packages that compute, each with its version."""
    platform: str
    device_kind: str
    cpu_threads: int | None = None
    """Size of the thread pool of XLA on CPU."""
    jax_flags: dict[str, bool | str] = field(default_factory=dict)
    """JAX's flags that decide numbers and differ from their defaults."""


@dataclass(frozen=True, kw_only=True)
class StoredDataset:
    """What is known of a data set without reading it."""

    name: str
    fingerprint: str
    num_train: int
    num_test: int
    input_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What its reader converted, skipped or noticed."""


@dataclass(frozen=True, kw_only=True)
class StoredCell:
    """One data set with one imbalance."""

    data: DataConfig
    """Its place without directories."""
    dataset: StoredDataset
    class_counts: dict[int, tuple[int, ...]]
    """Training examples of each class `[num_classes]`, by seed."""
    equal_arms: dict[str, str]
    """Arms that equal an earlier one on every seed: name -> the earlier one's name."""
    split_sizes: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Test examples, and training examples before they were made imbalanced, by seed; empty where
    all seeds share one test split."""
    validation_counts: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Validation examples of each class `[num_classes]`, by seed."""
    width: int | None = None
    """Runs side by side in one program; None on CPU, or before the first run."""

    def num_test(self, seed: int) -> int:
        """How many test examples a seed is judged on."""
        drawn = self.split_sizes.get(seed)
        return self.dataset.num_test if drawn is None else drawn[0]


@dataclass(frozen=True)
class Failure:
    """A run that ended in an error."""

    run: RunKey
    reason: str


@dataclass(frozen=True)
class StoredJudging:
    """A judging of a study without planned looks that could have established something."""

    look: int
    """How many there were, this one included."""
    alpha: float
    """What its adjusted p is held against."""
    seeds: tuple[int, ...]
    """All seeds that were ever judged, ascending."""


@dataclass(frozen=True, kw_only=True)
class StudyFile:
    """`study.json`: what a study is."""

    schema_version: str = SCHEMA_VERSION
    train: TrainConfig
    analysis: AnalysisConfig
    baseline: str
    arms: tuple[StoredArm, ...]
    seeds: tuple[int, ...]
    null_control: bool
    cells: dict[str, StoredCell]
    environment: Environment
    environment_changes: tuple[str, ...] = ()
    """Each as `field: old, now new`, allowed by the user."""
    code: tuple[CodeIdentity, ...] = ()
    """Every code that trained here, in order."""
    failures: tuple[Failure, ...] = ()
    looks: tuple[int, ...] = ()
    """Numbers of seeds at which results are read, if that was planned."""
    judgings: tuple[StoredJudging, ...] = ()
    """When a study without planned looks was judged; each time is stricter than the one before."""
    estimators: dict[str, StoredEstimator] = field(default_factory=dict)
    """What is trained in the place of a network: by arm, or the one of all arms by the model."""
    own_model: str | None = None
    """SHA-256 (hex) of the file of a model that is not cwjax's own."""

    @cached_property
    def failed(self) -> frozenset[RunKey]:
        """The runs that cannot come: they failed, or would have been answered by one that did."""
        return frozenset(failure.run for failure in self.failures)

    @property
    def arm_names(self) -> tuple[str, ...]:
        """Every arm with scores of its own, baseline first, the A/A control last."""
        control = (NULL_CONTROL,) if self.null_control else ()
        return (*(arm.name for arm in self.arms), *control)

    @property
    def candidates(self) -> dict[str, tuple[str, ...]]:
        """Tuned arm -> what each of its runs is chosen from; the names need not be of arms."""
        found = {
            arm.name: tuple(each.name for each in arm.candidates)
            for arm in self.arms
            if arm.candidates
        }
        if self.null_control and self.baseline in found:
            found[NULL_CONTROL] = tuple(map(control_name, found[self.baseline]))
        return found

    @property
    def run_names(self) -> tuple[str, ...]:
        """Every arm, then every candidate that is none."""
        candidates = (name for names in self.candidates.values() for name in names)
        return tuple(dict.fromkeys([*self.arm_names, *candidates]))

    @property
    def run_keys(self) -> list[RunKey]:
        """Every run, trained or not, cell by cell and seed by seed."""
        names = self.run_names
        return [
            RunKey(cell, name, seed) for cell in self.cells for seed in self.seeds for name in names
        ]


@dataclass(frozen=True, eq=False, kw_only=True)
class RunRecord:
    """One finished run: `runs/<cell>/<arm>-<seed>.npz`."""

    key: RunKey
    status: Status
    scores: dict[str, float]
    """Every metric on the test split; NaN where undefined or diverged."""
    chosen: dict[str, float]
    """Settings that were chosen on validation."""
    class_scores: dict[str, np.ndarray]
    """Each `[num_classes]`."""
    history: dict[str, np.ndarray]
    """Each `[num_epochs]`; empty for a post-hoc arm."""
    confusion_matrix: np.ndarray
    """int64 `[num_classes, num_classes]`, rows are true classes."""
    test_logits: np.ndarray
    """float32 `[num_test, num_classes]`"""
    validation_logits: np.ndarray
    """float32 `[num_validation, num_classes]`"""
    class_counts: np.ndarray
    """int64 `[num_classes]`, of the training split."""
    class_weights: np.ndarray
    """float32 `[num_classes]`, as trained with."""
    head_kernel: np.ndarray
    """float32 `[num_features, num_classes]`"""
    head_bias: np.ndarray
    """float32 `[num_classes]`"""
    test_indices: np.ndarray | None = None
    """int32 `[num_test]`, into the data set's examples, ascending; None: its own test split."""
    test_labels: np.ndarray | None = None
    """int32 `[num_test]`, where `test_indices` are there."""
    validation_labels: np.ndarray | None = None
    """int32 `[num_validation]`; None in runs that were stored before labels were."""
    logit_prior: np.ndarray | None = None
    """float64 `[num_classes]`: see `arms.logit_prior`; None where there is none."""
    stage_steps: tuple[int, ...] = ()
    """Optimiser steps of each stage of training; none where it was not trained in steps."""


@dataclass(frozen=True, kw_only=True)
class RunHeader:
    """What a run's file says of it besides arrays."""

    schema_version: str = SCHEMA_VERSION
    key: RunKey
    status: Status
    scores: dict[str, float | None]
    chosen: dict[str, float]
    stage_steps: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ModelHeader:
    """What the file of a kept model says besides arrays: `models/<cell>/<arm>-<seed>.npz`."""

    schema_version: str = SCHEMA_VERSION
    key: RunKey
    made_from: RunKey | None = None
    """The run whose network it has, where it was not trained: that of an equal arm, or the one that
    a post-hoc arm is computed from."""
    columns: tuple[str, ...] = ()
    """One name per feature; none for images."""
    is_adjusted: bool = False
    """Its logits are computed from those of `made_from`: with the arrays of an `Adjustment`, or
    where there are none by a scheme that does not say how."""


@dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """`model.json` of an exported model: all that its arrays do not say."""

    schema_version: str = SCHEMA_VERSION
    cwjax: str
    """The version that exported it."""
    run: RunKey
    dataset: StoredDataset
    columns: tuple[str, ...]
    """One name per feature; none for images."""
    model: str
    """As `--model` takes it; of a file of one's own the file beside this one."""
    own_model: str | None
    """SHA-256 (hex) of the source of a model that is not cwjax's own."""
    precision: str
    cpu_threads: int | None
    chosen: dict[str, float]
    """Settings that were chosen on validation."""
    temperature: float | None
    """What logits are divided by for probabilities; None where validation has no labels."""
    logit_prior: tuple[float, ...] | None
    """Which class prior the logits carry; None where there is none."""
    class_counts: tuple[int, ...]
    """Training examples of each class."""
    test_scores: dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class CheckpointHeader:
    """What a checkpoint says of its runs besides arrays."""

    schema_version: str = SCHEMA_VERSION
    train: TrainConfig
    data: DataConfig
    dataset: str
    """Fingerprint."""
    width: int | None
    runs: tuple[RunKey, ...]
    epoch: int
    step: int
    histories: tuple[tuple[dict[str, float | None], ...], ...]
    """For each run, a row for every finished epoch; null is NaN."""


def store_arm(arm: Arm) -> StoredArm:
    """The arm as it is written down."""
    settings = dict(arm.settings)
    return StoredArm(
        name=str(arm),
        scheme=arm.scheme,
        kind=arm.kind,
        values={
            name: value
            for name, value in settings.items()
            if not isinstance(value, Arm | CustomWeights | Best)
        },
        weights={
            name: store_arm(value) for name, value in settings.items() if isinstance(value, Arm)
        },
        files={
            name: StoredWeights(value.stem, dict(value.items))
            for name, value in settings.items()
            if isinstance(value, CustomWeights)
        },
        own_rule=SCHEMES[arm.scheme].own_rule,
        candidates=tuple(map(store_arm, arm.candidates)),
    )


def restore_arm(stored: StoredArm) -> Arm:
    """The arm that was written down.

    Raises:
        ConfigError: its scheme is not registered here, or is another one now.
    """
    try:
        scheme = find_scheme(stored.scheme)
    except ConfigError:
        raise ConfigError(
            f"the directory has the arm {stored.name!r}, whose scheme is not known here: "
            "give --schemes FILE with it"
        ) from None
    settings = {
        **stored.values,
        **{name: restore_arm(arm) for name, arm in stored.weights.items()},
        **{
            name: CustomWeights(file.stem, tuple(sorted(file.class_weights.items())))
            for name, file in stored.files.items()
        },
        **{name: Best(values) for name, values in stored.tried.items()},
    }
    names = [setting.name for setting in scheme.settings]
    arm = Arm(stored.scheme, tuple((name, settings.get(name)) for name in names))
    if settings.keys() != set(names) or store_arm(arm) != stored:
        raise ConfigError(
            f"the directory's arm {stored.name!r} was written with another scheme "
            f"{stored.scheme!r} than the one here: give another --out"
        )
    return arm


def to_json(content: object) -> bytes:
    """A dataclass as JSON for people: indented, NaN as null."""
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def from_json(content: bytes, kind: type[Content], name: str) -> Content:
    """The dataclass that a JSON text holds.

    Args:
        content: the text.
        kind: the dataclass.
        name: of the file, for the message.

    Raises:
        ConfigError: it is no JSON, or of another shape.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{name} is damaged ({one_line(error)})") from error


def read_study(content: bytes, name: str) -> StudyFile:
    """`study.json` as it was read.

    Raises:
        ConfigError: it is damaged, or of another schema version.
    """
    check_version(from_json(content, _Versioned, name).schema_version, name)
    study = from_json(content, StudyFile, name)
    _check_study(study, name)
    return study


def _check_study(study: StudyFile, name: str) -> None:
    """Checks what types cannot say.

    Raises:
        ConfigError: naming the first field that does not fit the others.
    """
    arms, seeds = study.arm_names, study.seeds
    _require(bool(study.arms) and study.arms[0].name == study.baseline, name, "baseline")
    _require(len(set(arms)) == len(arms), name, "arms", "one is there twice")
    _require(bool(seeds) and len(set(seeds)) == len(seeds), name, "seeds", "none, or one twice")
    _require(all(0 <= seed < 2**32 for seed in seeds), name, "seeds", "one is no seed")
    _require(bool(study.cells), name, "cells", "there is none")
    for cell, stored in study.cells.items():
        place, classes = f"cells.{cell!a}", stored.dataset.class_names
        _require(cell == stored.data.name(), name, place, "its data have another name")
        _require(len(classes) >= 2 and len(set(classes)) == len(classes), name, f"{place}.dataset")
        sizes = (stored.dataset.num_train, stored.dataset.num_test, *stored.dataset.input_shape)
        _require(min(sizes) >= 1, name, f"{place}.dataset", "a size is below 1")
        _require(stored.class_counts.keys() == set(seeds), name, f"{place}.class_counts")
        _require(stored.validation_counts.keys() <= set(seeds), name, f"{place}.validation_counts")
        for which in ("class_counts", "validation_counts"):
            for counts in getattr(stored, which).values():
                fits = len(counts) == len(classes) and min(counts) >= 0
                _require(fits, name, f"{place}.{which}", "not one count per class")
        own_splits = set(seeds) if stored.data.test_split == "per-seed" else set()
        _require(stored.split_sizes.keys() == own_splits, name, f"{place}.split_sizes")
        _require(min(map(min, stored.split_sizes.values()), default=1) >= 1, name,
                 f"{place}.split_sizes", "a size is below 1")  # fmt: skip
        equal = {*stored.equal_arms, *stored.equal_arms.values()}
        _require(equal <= set(arms), name, f"{place}.equal_arms", "one is no arm of this study")
        _require(stored.width is None or stored.width >= 1, name, f"{place}.width")
    strange = study.failed - set(study.run_keys) if study.failures else ()
    _require(not strange, name, "failures", "one is of no run of this study")


def _require(condition: bool, name: str, field: str, reason: str = "does not fit the rest") -> None:
    if not condition:
        raise ConfigError(f"{name} is damaged ({field}: {reason})")


def read_exported(content: bytes, name: str) -> ExportedModel:
    """`model.json` of an exported model.

    Raises:
        ConfigError: it is damaged, or of another schema version.
    """
    check_version(from_json(content, _Versioned, name).schema_version, name)
    return from_json(content, ExportedModel, name)


@dataclass(frozen=True)
class _Versioned:
    schema_version: str | int


def check_version(found: str | int, name: str) -> None:
    """Refuses a file of another schema version.

    Raises:
        ConfigError: naming both versions.
    """
    if found != SCHEMA_VERSION:
        raise ConfigError(
            f"{name} has schema version {found}, this cwjax reads {SCHEMA_VERSION}: use the cwjax "
            "that wrote it, or give another --out"
        )


_ARRAYS = (
    "confusion_matrix",
    "test_logits",
    "validation_logits",
    "class_counts",
    "class_weights",
    "head_kernel",
    "head_bias",
)
_OPTIONAL = ("test_indices", "test_labels", "validation_labels", "logit_prior")
_GROUPS = ("class_scores", "history")
_CLASS_SCORES = {"recall", "precision", "f1", "n_train", "n_test"}
_HEADER = "header"


def run_to_bytes(record: RunRecord) -> bytes:
    """A run's file."""
    header = RunHeader(
        key=record.key,
        status=record.status,
        scores=defined_scores(record),
        chosen=record.chosen,
        stage_steps=record.stage_steps,
    )
    arrays = {
        **{f"{group}/{name}": a for group in _GROUPS for name, a in getattr(record, group).items()},
        **{name: getattr(record, name) for name in _ARRAYS},
    }
    there = {name: getattr(record, name) for name in _OPTIONAL}
    arrays |= {name: array for name, array in there.items() if array is not None}
    return to_npz(header, arrays)


def run_header(content: BinaryIO, name: str) -> RunHeader:
    """What a run's file says of it; its arrays are not read.

    Raises:
        ConfigError: the file is damaged or of another schema version.
    """
    return _run_header(read_npz(content, name, only=_HEADER), name)


def run_from_npz(content: BinaryIO, name: str) -> RunRecord:
    """A run's file as it was read.

    Raises:
        ConfigError: the file is damaged or of another schema version.
    """
    arrays = read_npz(content, name)
    header = _run_header(arrays, name)
    missing = [array for array in _ARRAYS if array not in arrays]
    if missing:
        raise ConfigError(f"{name} is damaged (it has no {', '.join(missing)})")
    groups = {
        group: {
            key.removeprefix(f"{group}/"): value
            for key, value in arrays.items()
            if key.startswith(f"{group}/")
        }
        for group in _GROUPS
    }
    record = RunRecord(
        key=header.key,
        status=header.status,
        scores={metric: _number(score) for metric, score in header.scores.items()},
        chosen=header.chosen,
        stage_steps=header.stage_steps,
        class_scores=groups["class_scores"],
        history=groups["history"],
        **{array: arrays[array] for array in _ARRAYS},
        **{array: arrays[array] for array in _OPTIONAL if array in arrays},
    )
    _check_run(record, name)
    return record


def _run_header(arrays: Mapping[str, np.ndarray], name: str) -> RunHeader:
    header = _header(arrays, RunHeader, name)
    missing = [metric for metric in METRICS if metric not in header.scores]
    _require(not missing, name, "header.scores", f"it has no {', '.join(missing)}")
    return header


def _check_run(record: RunRecord, name: str) -> None:
    """Checks that the arrays of a run fit each other.

    Raises:
        ConfigError: naming the first that does not.
    """
    num_classes = len(record.class_counts) if record.class_counts.ndim == 1 else 0
    per_class, num_epochs = (num_classes,), next(map(np.shape, record.history.values()), ())
    expected: dict[str, tuple[np.ndarray, str, tuple[int | None, ...]]] = {
        "class_counts": (record.class_counts, "iu", per_class),
        "class_weights": (record.class_weights, "f", per_class),
        "confusion_matrix": (record.confusion_matrix, "iu", (num_classes, num_classes)),
        "test_logits": (record.test_logits, "f", (None, num_classes)),
        "validation_logits": (record.validation_logits, "f", (None, num_classes)),
        "head_kernel": (record.head_kernel, "f", (None, num_classes)),
        "head_bias": (record.head_bias, "f", per_class),
        **{f"class_scores/{s}": (a, "iuf", per_class) for s, a in record.class_scores.items()},
        **{f"history/{column}": (a, "f", num_epochs) for column, a in record.history.items()},
    }
    for place, kinds, shape in (
        ("test_indices", "iu", record.test_logits.shape[:1]),
        ("test_labels", "iu", record.test_logits.shape[:1]),
        ("validation_labels", "iu", record.validation_logits.shape[:1]),
        ("logit_prior", "f", per_class),
    ):
        if (array := getattr(record, place)) is not None:
            expected[place] = (array, kinds, shape)
    for place, (array, kinds, shape) in expected.items():
        fits = array.ndim == len(shape) and all(
            size in (None, actual) for size, actual in zip(shape, array.shape, strict=True)
        )
        if array.dtype.kind not in kinds or not fits:
            _require(False, name, place, f"it is {array.dtype} {array.shape}")
    _require(record.class_scores.keys() == _CLASS_SCORES, name, "class_scores", "other columns")
    _require(len(num_epochs) == 1 or not record.history, name, "history", "not one row per epoch")
    for place in ("test_labels", "validation_labels"):
        labels = getattr(record, place)
        in_range = labels is None or (
            labels.min(initial=0) >= 0 and labels.max(initial=0) < num_classes
        )
        _require(in_range, name, place, "one is of no class")
    if record.status == "ok":
        for place in ("test_logits", "validation_logits"):
            finite = bool(np.isfinite(getattr(record, place)).all())
            _require(finite, name, place, "not finite, although the run ended well")


def model_from_npz(content: BinaryIO, name: str) -> tuple[ModelHeader, dict[str, np.ndarray]]:
    """The file of a kept model as it was read: header and arrays.

    Raises:
        ConfigError: it is damaged or of another schema version.
    """
    arrays = read_npz(content, name)
    header = _header(arrays, ModelHeader, name)
    del arrays[_HEADER]
    return header, arrays


def checkpoint_header(arrays: dict[str, np.ndarray], name: str) -> CheckpointHeader:
    """Takes the header out of a checkpoint's arrays.

    Raises:
        ConfigError: it is of another shape or schema version.
    """
    header = _header(arrays, CheckpointHeader, name)
    fits = len(header.histories) == len(header.runs) >= 1
    _require(fits, name, "header.histories", "not one per run")
    del arrays[_HEADER]
    return header


def _header(arrays: Mapping[str, np.ndarray], kind: type[Content], name: str) -> Content:
    try:
        content = str(arrays[_HEADER].item()).encode()
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{name} is damaged (it has no header: {one_line(error)})") from error
    check_version(from_json(content, _Versioned, name).schema_version, name)
    return from_json(content, kind, name)


def to_npz(header: object, arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays and a header as one .npz file."""
    buffer = io.BytesIO()
    text = np.array(msgspec.json.encode(header).decode())
    np.savez(buffer, allow_pickle=False, **{_HEADER: text}, **arrays)
    return buffer.getvalue()


def read_npz(content: BinaryIO, name: str, only: str | None = None) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, or only one of them.

    Raises:
        ConfigError: it is damaged.
    """
    try:
        with np.load(content, allow_pickle=False) as archive:
            names = archive.files if only is None else [only] if only in archive.files else []
            arrays = {array: archive[array] for array in names}
    except Exception as error:  # a damaged zip file can raise nearly anything
        raise ConfigError(f"{name} is damaged ({one_line(error)})") from error
    strange = [array for array, value in arrays.items() if not isinstance(value, np.ndarray)]
    _require(not strange, name, ascii(strange)[1:-1], "no array")
    return arrays


def defined_scores(record: RunRecord) -> dict[str, float | None]:
    """The scores of a run as JSON holds them: None where undefined."""
    return {
        name: float(score) if np.isfinite(score) else None for name, score in record.scores.items()
    }


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
