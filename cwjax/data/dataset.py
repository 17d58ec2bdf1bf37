"""The data set: arrays that are checked once, with a fingerprint of their contents.

Everything downstream relies on the checks made here. JAX in particular clamps an index that is out
of range instead of failing, so a wrong label would train silently.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from cwjax.errors import DataError

Inputs = npt.NDArray[np.uint8 | np.float32]
"""uint8 images `[n, height, width, channels]` or float32 features `[n, num_features]`."""


WARNING = "warning: "
"""What a note begins with that the user is told at every start."""


@dataclass(frozen=True)
class Column:
    """One feature.

    It is a number, which may be missing (NaN) and which each run standardises with the rows that it
    trains on; or a level of a category, 1 where a row has it and else 0.

    Attributes:
        name: of the number, or of the level alone.
        category: the column of which it is a level; None for a number.
    """

    name: str
    category: str | None = None

    @property
    def is_numeric(self) -> bool:
        """Whether it is a number."""
        return self.category is None

    def __str__(self) -> str:
        return self.name if self.category is None else f"{self.category}={self.name}"


@dataclass(frozen=True, eq=False)
class Dataset:
    """A labelled data set: all examples in one array, those for training first.

    Attributes:
        name: for tables and messages; no part of the fingerprint.
        inputs: uint8 images `[num_examples, height, width, channels]` or float32 features
            `[num_examples, num_features]`, read-only.
        labels: integers `[num_examples]`, kept as int32, each in 0 .. num_classes - 1; every class
            is among the training examples, a class may be absent from the test split.
        num_train: size of the training file, which comes first; the rest is the test split.
        class_names: one name per class, in the order of the labels.
        columns: what the features are, one entry each; empty for images.
        groups: int32 `[num_examples]` or None: examples of one group (a patient, a writer, a scene)
            never stand on both sides of a split.
        notes: what the reader converted, skipped or noticed, in sentences for the report; no part
            of the fingerprint.
        is_test_held_out: whether the test split was cut from one file, not given; no part of the
            fingerprint either.

    Raises:
        DataError: if any of this does not hold, with the place of the first offender.
    """

    name: str
    inputs: Inputs
    labels: npt.NDArray[np.int32]
    num_train: int
    class_names: tuple[str, ...]
    columns: tuple[Column, ...] = ()
    groups: npt.NDArray[np.int32] | None = None
    notes: tuple[str, ...] = ()
    is_test_held_out: bool = False

    def __post_init__(self) -> None:
        _check_class_names(self.name, self.class_names)
        if self.is_features and not self.columns:
            names = tuple(Column(f"feature {index}") for index in range(self.inputs.shape[1]))
            object.__setattr__(self, "columns", names)
        _check_features(self.name, self.inputs, self.columns, self.num_train)
        if self.groups is not None and self.groups.shape != self.labels.shape:
            raise DataError(
                f"{self.name}: groups have shape {self.groups.shape} for {len(self.labels)} "
                "examples: give one group per example"
            )
        for split, inputs, labels in (
            ("train", self.train_inputs, self.train_labels),
            ("test", self.test_inputs, self.test_labels),
        ):
            _check_examples(f"{self.name}: {split}", inputs, labels)
            check_labels(f"{self.name}: {split}_labels", labels, self.num_classes)
        absent = np.flatnonzero(self.train_counts == 0)
        if len(absent):
            raise DataError(
                f"{self.name}: class {absent[0]} ({self.class_names[absent[0]]!r}) has no training "
                "example: leave the class out or add examples"
            )
        object.__setattr__(self, "labels", self.labels.astype(np.int32, copy=False))
        for field in ("inputs", "labels"):  # the fingerprint is computed once
            view = getattr(self, field).view()
            view.flags.writeable = False
            object.__setattr__(self, field, view)

    @classmethod
    def from_splits(
        cls,
        name: str,
        train: tuple[Inputs, npt.NDArray[np.int32]],
        test: tuple[Inputs, npt.NDArray[np.int32]],
        class_names: tuple[str, ...],
        **further: Any,
    ) -> Dataset:
        """Puts a training and a test split, each inputs and labels, into one data set.

        Args:
            name: for tables and messages.
            train: inputs and labels.
            test: the same.
            class_names: one name per class.
            **further: the other fields of `Dataset`, over all examples.

        Raises:
            DataError: see `Dataset`; also inputs of different shapes.
        """
        for split, (inputs, labels) in (("train", train), ("test", test)):
            _check_examples(f"{name}: {split}", inputs, labels)
        if train[0].shape[1:] != test[0].shape[1:]:
            kind, shape = (
                ("images", "height, width, channels")
                if train[0].ndim == 4
                else ("features", "width")
            )
            raise DataError(
                f"{name}: train_{kind} are {train[0].shape[1:]} and test_{kind} "
                f"{test[0].shape[1:]} ({shape}): give them one shape"
            )
        inputs = np.concatenate([train[0], test[0]])
        labels = np.concatenate([train[1], test[1]])
        return cls(name, inputs, labels, len(train[1]), class_names, **further)

    def warn(self, stacklevel: int) -> None:
        """Warns of what the user is told at every start; `stacklevel` counts from the caller."""
        for note in self.notes:
            if note.startswith(WARNING):
                text = f"{self.name}: {note.removeprefix(WARNING)}"
                warnings.warn(text, stacklevel=stacklevel + 1)

    @property
    def num_classes(self) -> int:
        """K, the number of classes."""
        return len(self.class_names)

    @property
    def is_features(self) -> bool:
        """Whether the inputs are features, not images."""
        return self.inputs.dtype == np.float32

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example: `(height, width, channels)` or `(num_features,)`."""
        return self.inputs.shape[1:]

    @property
    def train_inputs(self) -> Inputs:
        """The inputs of the training file, `[num_train, ...]`."""
        return self.inputs[: self.num_train]

    @property
    def train_labels(self) -> npt.NDArray[np.int32]:
        """The labels of the training file, `[num_train]`."""
        return self.labels[: self.num_train]

    @property
    def test_inputs(self) -> Inputs:
        """The inputs of the test split, `[num_test, ...]`."""
        return self.inputs[self.num_train :]

    @property
    def test_labels(self) -> npt.NDArray[np.int32]:
        """The labels of the test split, `[num_test]`."""
        return self.labels[self.num_train :]

    @cached_property
    def train_counts(self) -> npt.NDArray[np.int64]:
        """Examples of each class in the training file, `[num_classes]`."""
        return count_classes(self.train_labels, self.num_classes)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the arrays' types, shapes and bytes, the split, the class names."""
        digest = hashlib.sha256()
        for field in ("inputs", "labels", "groups"):
            array = getattr(self, field)
            if array is None:
                continue
            digest.update(f"{field} {array.dtype.name} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
        digest.update(json.dumps([self.num_train, self.class_names]).encode())
        if self.columns:
            digest.update(json.dumps([asdict(column) for column in self.columns]).encode())
        return digest.hexdigest()


def _check_examples(
    field: str, inputs: npt.NDArray[np.generic], labels: npt.NDArray[np.generic]
) -> None:
    dimensions = {np.dtype(np.uint8): 4, np.dtype(np.float32): 2}.get(inputs.dtype)
    if inputs.ndim != dimensions or 0 in inputs.shape[1:]:
        raise DataError(
            f"{field}_images are {inputs.dtype} {inputs.shape}, expected uint8 "
            "(examples, height, width, channels), or features as float32 (examples, features)"
        )
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(
            f"{field}_labels is {labels.dtype} {labels.shape}, expected integers (examples,)"
        )
    if len(inputs) != len(labels):
        raise DataError(
            f"{field}_images has {len(inputs)} images and {field}_labels {len(labels)} labels: "
            "give one label per image"
        )
    if len(labels) < 2:
        raise DataError(f"{field}_labels has {len(labels)} examples: give at least 2")


def _check_features(name: str, inputs: Inputs, columns: tuple[Column, ...], num_train: int) -> None:
    num_features = inputs.shape[1] if inputs.dtype == np.float32 else 0
    if len(columns) != num_features:
        raise DataError(f"{name}: there are {len(columns)} columns for {num_features} features")
    if not columns or np.isfinite(inputs.sum()):  # the sum is NaN or infinite if a feature is
        return
    may_miss = np.array([column.is_numeric for column in columns])
    wrong = ~np.isfinite(inputs)
    wrong[:, may_miss] &= ~np.isnan(inputs[:, may_miss])
    places = np.argwhere(wrong)
    if len(places):
        row, column = places[0]
        split, index = ("train", row) if row < num_train else ("test", row - num_train)
        raise DataError(
            f"{name}: {split}[{index}], {columns[column]}, is {inputs[row, column]}, as are "
            f"{len(places) - 1} others: give finite numbers"
        )


def _check_class_names(name: str, class_names: tuple[str, ...]) -> None:
    if len(class_names) < 2:
        raise DataError(f"{name}: there is {len(class_names)} class: give at least 2")
    repeated = [each for each, count in Counter(class_names).items() if count > 1]
    if repeated:
        raise DataError(f"{name}: class_names repeats {repeated}: give each class its own name")
    for each in class_names:
        try:
            each.encode()
        except UnicodeEncodeError as error:  # a lone surrogate: no file could hold the name
            raise DataError(
                f"{name}: class name {each!a} is no valid text ({error.reason}): rename the class"
            ) from None


def check_labels(field: str, labels: npt.NDArray[np.generic], num_classes: int) -> None:
    """Check the labels of some examples.

    Args:
        field: file and array, for the message.
        labels: `[num_examples]`, of any integer type.
        num_classes: labels go from 0 to this less one.

    Raises:
        DataError: another shape or type, or a label out of range; with its index and their number.
    """
    if labels.ndim != 1 or labels.dtype.kind not in "iu":  # NumPy's timedelta64 is an integer, too
        raise DataError(
            f"{field} is {labels.dtype} {labels.shape}, expected integers (examples,)"
            + _first_fraction(labels)
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))  # type: ignore[operator]
    if len(wrong):
        start_at_1 = labels.min() == 1 and labels.max() == num_classes
        raise DataError(
            f"{field}[{wrong[0]}] is {labels[wrong[0]]}, expected 0 to {num_classes - 1} for "
            f"{num_classes} classes; "
            + (
                "labels start at 1: subtract 1 from all"
                if start_at_1
                else f"{len(wrong)} of {len(labels)} labels are out of range"
            )
        )


def _first_fraction(labels: npt.NDArray[np.generic]) -> str:
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.floating):
        return ""
    fractions = np.flatnonzero(labels != np.floor(labels))
    if not len(fractions):
        return ": store whole numbers as integers"
    return f": index {fractions[0]} is {labels[fractions[0]]}"


def numbered_classes(train_labels: npt.NDArray[np.generic]) -> tuple[str, ...]:
    """Names `"0", "1", …` for data without names: one for each different training label.

    Labels with a gap, or that start at 1, then fail `check_labels` at their largest label.
    """
    return tuple(str(label) for label in range(len(np.unique(train_labels))))


def count_classes(labels: npt.NDArray[np.integer], num_classes: int) -> npt.NDArray[np.int64]:
    """Count the examples of each class: int64 `[num_classes]`."""
    return np.bincount(labels, minlength=num_classes).astype(np.int64)
