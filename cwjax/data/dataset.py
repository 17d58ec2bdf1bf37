"""The data set: arrays that are checked once, with a fingerprint of their contents.

Everything downstream relies on the checks made here. JAX in particular clamps an index that is out
of range instead of failing, so a wrong label would train silently.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from cwjax.errors import ConfigError

_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


class DataError(ConfigError):
    """Data that cannot be used; the message is one line naming the file or field, and the mend."""


def one_line(error: Exception) -> str:
    """Name an error of another library within a message of one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


@dataclass(frozen=True, eq=False)
class Dataset:
    """A labelled image data set with its training and test split, checked when it is made.

    Attributes:
        name: for tables and messages; no part of the fingerprint.
        train_images: uint8 `[num_train, height, width, channels]`, read-only.
        train_labels: int32 `[num_train]`, each in 0 .. num_classes - 1, every class present.
        test_images: uint8 `[num_test, height, width, channels]`, read-only.
        test_labels: int32 `[num_test]`; a class may be absent.
        class_names: one name a class, in the order of the labels.

    Raises:
        DataError: if any of this does not hold, with the place of the first offender.
    """

    name: str
    train_images: npt.NDArray[np.uint8]
    train_labels: npt.NDArray[np.int32]
    test_images: npt.NDArray[np.uint8]
    test_labels: npt.NDArray[np.int32]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_examples(f"{self.name}: train", self.train_images, self.train_labels)
        _check_examples(f"{self.name}: test", self.test_images, self.test_labels)
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise DataError(
                f"{self.name}: train_images are {self.train_images.shape[1:]} and test_images "
                f"{self.test_images.shape[1:]} (height, width, channels): give them one shape"
            )
        _check_class_names(self.name, self.class_names)
        check_labels(f"{self.name}: train_labels", self.train_labels, self.num_classes)
        check_labels(f"{self.name}: test_labels", self.test_labels, self.num_classes)
        absent = np.flatnonzero(count_classes(self.train_labels, self.num_classes) == 0)
        if len(absent):
            raise DataError(
                f"{self.name}: class {absent[0]} ({self.class_names[absent[0]]!r}) has no training "
                "example: leave the class out or add examples"
            )
        for field in _ARRAYS:  # the fingerprint is computed once, so the arrays must not change
            view = getattr(self, field).view()
            view.flags.writeable = False
            object.__setattr__(self, field, view)

    @property
    def num_classes(self) -> int:
        """K, the number of classes."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)` of every image."""
        _, height, width, channels = self.train_images.shape
        return height, width, channels

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over dtype, shape and bytes of the four arrays, and the class names."""
        digest = hashlib.sha256()
        for field in _ARRAYS:
            array = getattr(self, field)
            digest.update(f"{field} {array.dtype.name} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
        digest.update(json.dumps(self.class_names).encode())
        return digest.hexdigest()


def _check_examples(
    field: str, images: npt.NDArray[np.generic], labels: npt.NDArray[np.generic]
) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape[1:]:
        raise DataError(
            f"{field}_images are {images.dtype} {images.shape}, expected uint8 "
            "(examples, height, width, channels)"
        )
    if labels.dtype != np.int32:
        raise DataError(f"{field}_labels are {labels.dtype}, expected int32")
    if len(images) != len(labels):
        raise DataError(
            f"{field}_images has {len(images)} images and {field}_labels {len(labels)} labels: "
            "give one label an image"
        )
    if len(labels) < 2:
        raise DataError(f"{field}_labels has {len(labels)} examples: give at least 2")


def _check_class_names(name: str, class_names: tuple[str, ...]) -> None:
    if len(class_names) < 2:
        raise DataError(f"{name}: there is {len(class_names)} class: give at least 2")
    repeated = sorted({each for each in class_names if class_names.count(each) > 1})
    if repeated:
        raise DataError(f"{name}: class_names repeats {repeated}: give each class its own name")


def check_labels(field: str, labels: npt.NDArray[np.generic], num_classes: int) -> None:
    """Check the labels of some examples.

    Args:
        field: file and array, for the message.
        labels: `[num_examples]`, of any integer type.
        num_classes: labels go from 0 to this less one.

    Raises:
        DataError: another shape or type, or a label out of range; with its index and their number.
    """
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"{field} is {labels.dtype} {labels.shape}, expected integers (examples,)"
            + _first_fraction(labels)
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))  # type: ignore[operator]
    if len(wrong):
        raise DataError(
            f"{field}[{wrong[0]}] is {labels[wrong[0]]}, expected 0 to {num_classes - 1} for "
            f"{num_classes} classes; {len(wrong)} of {len(labels)} labels are out of range"
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
