"""The data set: arrays that are checked once, with a fingerprint of their contents.

Everything downstream relies on the checks made here. JAX in particular clamps an index that is out
of range instead of failing, so a wrong label would train silently.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from cwjax.errors import DataError


@dataclass(frozen=True, eq=False)
class Dataset:
    """A labelled data set: all examples in one array, those for training first.

    Attributes:
        name: for tables and messages; no part of the fingerprint.
        inputs: uint8 images `[num_examples, height, width, channels]`, read-only.
        labels: int32 `[num_examples]`, each in 0 .. num_classes - 1; every class is among the
            training examples, a class may be absent from the test split.
        num_train: size of the training file, which comes first; the rest is the test split.
        class_names: one name per class, in the order of the labels.

    Raises:
        DataError: if any of this does not hold, with the place of the first offender.
    """

    name: str
    inputs: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]
    num_train: int
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_class_names(self.name, self.class_names)
        for split, inputs, labels in (
            ("train", self.train_inputs, self.train_labels),
            ("test", self.test_inputs, self.test_labels),
        ):
            _check_examples(f"{self.name}: {split}", inputs, labels)
            check_labels(f"{self.name}: {split}_labels", labels, self.num_classes)
        absent = np.flatnonzero(count_classes(self.train_labels, self.num_classes) == 0)
        if len(absent):
            raise DataError(
                f"{self.name}: class {absent[0]} ({self.class_names[absent[0]]!r}) has no training "
                "example: leave the class out or add examples"
            )
        for field in ("inputs", "labels"):  # the fingerprint is computed once
            view = getattr(self, field).view()
            view.flags.writeable = False
            object.__setattr__(self, field, view)

    @classmethod
    def from_splits(
        cls,
        name: str,
        train: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]],
        test: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]],
        class_names: tuple[str, ...],
    ) -> Dataset:
        """Puts a training and a test split, each inputs and labels, into one data set.

        Raises:
            DataError: see `Dataset`; also inputs of different shapes.
        """
        for split, (inputs, labels) in (("train", train), ("test", test)):
            _check_examples(f"{name}: {split}", inputs, labels)
        if train[0].shape[1:] != test[0].shape[1:]:
            raise DataError(
                f"{name}: train_images are {train[0].shape[1:]} and test_images "
                f"{test[0].shape[1:]} (height, width, channels): give them one shape"
            )
        inputs = np.concatenate([train[0], test[0]])
        labels = np.concatenate([train[1], test[1]])
        return cls(name, inputs, labels, len(train[1]), class_names)

    @property
    def num_classes(self) -> int:
        """K, the number of classes."""
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example: `(height, width, channels)`."""
        return self.inputs.shape[1:]

    @property
    def train_inputs(self) -> npt.NDArray[np.uint8]:
        """The inputs of the training file, `[num_train, ...]`."""
        return self.inputs[: self.num_train]

    @property
    def train_labels(self) -> npt.NDArray[np.int32]:
        """The labels of the training file, `[num_train]`."""
        return self.labels[: self.num_train]

    @property
    def test_inputs(self) -> npt.NDArray[np.uint8]:
        """The inputs of the test split, `[num_test, ...]`."""
        return self.inputs[self.num_train :]

    @property
    def test_labels(self) -> npt.NDArray[np.int32]:
        """The labels of the test split, `[num_test]`."""
        return self.labels[self.num_train :]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the arrays' types, shapes and bytes, the split, the class names."""
        digest = hashlib.sha256()
        for field in ("inputs", "labels"):
            array = getattr(self, field)
            digest.update(f"{field} {array.dtype.name} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
        digest.update(json.dumps([self.num_train, self.class_names]).encode())
        return digest.hexdigest()


def _check_examples(
    field: str, inputs: npt.NDArray[np.generic], labels: npt.NDArray[np.generic]
) -> None:
    if inputs.dtype != np.uint8 or inputs.ndim != 4 or 0 in inputs.shape[1:]:
        raise DataError(
            f"{field}_images are {inputs.dtype} {inputs.shape}, expected uint8 "
            "(examples, height, width, channels)"
        )
    if labels.dtype != np.int32:
        raise DataError(f"{field}_labels are {labels.dtype}, expected int32")
    if labels.ndim != 1:
        raise DataError(f"{field}_labels is int32 {labels.shape}, expected integers (examples,)")
    if len(inputs) != len(labels):
        raise DataError(
            f"{field}_images has {len(inputs)} images and {field}_labels {len(labels)} labels: "
            "give one label per image"
        )
    if len(labels) < 2:
        raise DataError(f"{field}_labels has {len(labels)} examples: give at least 2")


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
