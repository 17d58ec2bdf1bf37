"""The checks that everything downstream relies on, and the fingerprint."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
import pytest

from cwjax.data.dataset import Dataset, check_labels, count_classes, numbered_classes
from cwjax.errors import DataError


def made(**changes: Any) -> Dataset:
    values: dict[str, Any] = {
        "name": "made",
        "train_images": np.arange(24, dtype=np.uint8).reshape(4, 2, 3, 1),
        "train_labels": np.array([0, 1, 1, 0], dtype=np.int32),
        "test_images": np.arange(12, dtype=np.uint8).reshape(2, 2, 3, 1),
        "test_labels": np.array([1, 1], dtype=np.int32),
        "class_names": ("cat", "dog"),
    }
    values |= changes
    return Dataset.from_splits(
        values["name"],
        (values["train_images"], values["train_labels"]),
        (values["test_images"], values["test_labels"]),
        values["class_names"],
    )


def test_properties() -> None:
    dataset = made()
    assert dataset.num_classes == 2
    assert dataset.input_shape == (2, 3, 1)


def test_arrays_cannot_be_changed_and_the_callers_still_can() -> None:
    inputs, labels = np.zeros((6, 2, 3, 1), np.uint8), np.array([0, 1, 1, 0, 1, 1], np.int32)
    dataset = Dataset("made", inputs, labels, 4, ("cat", "dog"))
    for view in (dataset.inputs, dataset.train_inputs, dataset.test_inputs):
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        dataset.train_labels[0] = 1
    inputs[0] = 1


def test_training_examples_come_first() -> None:
    dataset = made()
    assert dataset.num_train == 4
    assert dataset.inputs.shape == (6, 2, 3, 1)
    assert dataset.labels.tolist() == [0, 1, 1, 0, 1, 1]
    np.testing.assert_array_equal(dataset.train_inputs, dataset.inputs[:4])
    np.testing.assert_array_equal(dataset.test_inputs, dataset.inputs[4:])
    assert dataset.test_labels.tolist() == [1, 1]


@pytest.mark.parametrize("kind", [np.int64, np.uint8])
def test_labels_of_any_integer_type_are_the_same(kind: type) -> None:
    usual = made()
    other = made(train_labels=usual.train_labels.astype(kind))
    assert other.labels.dtype == np.int32
    assert other.fingerprint == usual.fingerprint


@pytest.mark.fault(31, 32, 37, 39, 40)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": np.zeros((4, 2, 3, 1), np.float32)}, "train_images are float32"),
        ({"train_images": np.zeros((4, 2, 3), np.uint8)}, r"train_images are uint8 \(4, 2, 3\)"),
        ({"test_images": np.zeros((2, 0, 3, 1), np.uint8)}, r"test_images are uint8 \(2, 0, 3, 1"),
        ({"train_labels": np.zeros(4)}, r"train_labels is float64 \(4,\), expected integers"),
        ({"train_labels": np.zeros(3, np.int32)}, "has 4 images and made: train_labels 3 labels"),
        ({"test_labels": np.zeros((2, 1), np.int32)}, r"test_labels is int32 \(2, 1\), expected"),
        ({"train_labels": np.array([0, 1, -1, 0], np.int32)}, r"train_labels\[2\] is -1, expected"),
        ({"train_labels": np.array([0, 2, 1, 2], np.int32)}, r"train_labels\[1\] is 2, .*; 2 of 4"),
        ({"test_labels": np.array([0, 7], np.int32)}, r"test_labels\[1\] is 7, expected 0 to 1"),
        ({"test_images": np.zeros((2, 3, 2, 1), np.uint8)}, r"\(2, 3, 1\) and .*\(3, 2, 1\)"),
        ({"class_names": ("cat", "cat")}, r"class_names repeats \['cat'\]"),
        ({"class_names": ("cat",)}, "there is 1 class: give at least 2"),
        ({"class_names": ("a", "b", "c")}, r"class 2 \('c'\) has no training example"),
        (
            {"test_images": np.zeros((1, 2, 3, 1), np.uint8), "test_labels": np.ones(1, np.int32)},
            "test_labels has 1 examples: give at least 2",
        ),
        (
            {
                "train_images": np.zeros((0, 2, 3, 1), np.uint8),
                "train_labels": np.ones(0, np.int32),
            },
            "train_labels has 0 examples",
        ),
    ],
)
def test_bad_data_is_refused_with_its_place(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        made(**changes)
    assert str(caught.value).startswith("made: ")
    assert "\n" not in str(caught.value)


@pytest.mark.fault(38)
def test_class_absent_from_the_test_split_is_allowed() -> None:
    assert made(test_labels=np.zeros(2, np.int32)).num_classes == 2


def test_fingerprint_is_the_hash_of_the_contents() -> None:
    dataset = made()
    digest = hashlib.sha256()
    for name, array in (("inputs", dataset.inputs), ("labels", dataset.labels)):
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode() + array.tobytes())
    digest.update(b'[4, ["cat", "dog"]]')
    assert dataset.fingerprint == digest.hexdigest()


def test_fingerprint_tells_contents_apart_but_not_names_and_layouts() -> None:
    dataset = made()
    assert dataclasses.replace(dataset, name="other").fingerprint == dataset.fingerprint
    strided = np.asfortranarray(dataset.inputs)
    assert dataclasses.replace(dataset, inputs=strided).fingerprint == dataset.fingerprint
    different = [
        dataclasses.replace(dataset, class_names=("dog", "cat")),
        dataclasses.replace(dataset, inputs=dataset.inputs[::-1]),
        dataclasses.replace(dataset, labels=1 - dataset.labels),
        dataclasses.replace(dataset, inputs=dataset.inputs.reshape(6, 3, 2, 1)),
        dataclasses.replace(dataset, num_train=3),
    ]
    assert len({each.fingerprint for each in [dataset, *different]}) == 6


@pytest.mark.fault(32)
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0.0, 1.5, 1.0]), r"y is float64 \(3,\), expected integers .*: index 1 is 1.5"),
        (np.array([0.0, np.nan]), "index 1 is nan"),
        (np.array([0.0, 1.0]), "store whole numbers as integers"),
        (np.array([True, False]), "y is bool"),
        (np.array(["a", "b"]), "y is <U1"),
        (np.array([0, 2**40]), r"y\[1\] is 1099511627776, expected 0 to 1 for 2 classes; 1 of 2"),
        (np.array([1, 2, 1]), r"y\[1\] is 2, .*; labels start at 1: subtract 1 from all"),
        (np.array([0, 1], "m8[s]"), r"y is timedelta64\[s\] \(2,\), expected integers"),
    ],
)
def test_labels_that_are_not_class_numbers(labels: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_labels("y", labels, num_classes=2)


def test_count_classes_counts_absent_classes_too() -> None:
    counts = count_classes(np.array([2, 0, 2]), num_classes=4)
    assert counts.dtype == np.int64
    assert counts.tolist() == [1, 0, 2, 0]


def test_numbered_classes() -> None:
    assert numbered_classes(np.array([2, 0, 1, 1])) == ("0", "1", "2")
    assert len(numbered_classes(np.array([1, 2**31 - 1]))) == 2  # not two thousand million names
