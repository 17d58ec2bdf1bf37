"""Arrays of a user: accepted where their meaning is certain, refused with the place otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cwjax.data.readers.npz import images_to_uint8, labels_to_int32, read_npz_dataset
from cwjax.errors import DataError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (50, 4, 3), dtype=np.uint8)
LABELS = RNG.permutation(np.arange(50) % 5)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.npz"


def test_without_a_test_split_a_fixed_fifth_of_each_class_is_held_out(file: Path) -> None:
    np.savez(file, images=IMAGES, labels=LABELS)
    dataset = read_npz_dataset(file)
    assert dataset.name == "mine"
    assert dataset.class_names == tuple("01234")
    assert dataset.input_shape == (4, 3, 1)
    assert np.bincount(dataset.train_labels).tolist() == [8] * 5
    assert np.bincount(dataset.test_labels).tolist() == [2] * 5
    pairs = {(image.tobytes(), label) for image, label in zip(IMAGES, LABELS, strict=True)}
    read = [
        *zip(dataset.train_inputs, dataset.train_labels, strict=True),
        *zip(dataset.test_inputs, dataset.test_labels, strict=True),
    ]
    assert {(image.tobytes(), label) for image, label in read} == pairs
    assert read_npz_dataset(file).fingerprint == dataset.fingerprint


def test_own_names_with_a_test_split_colours_and_class_names(file: Path) -> None:
    images = RNG.integers(0, 256, (6, 4, 3, 3), dtype=np.uint8)
    labels = np.array([0, 1, 0, 1, 1, 1], dtype=np.uint8)
    names = np.array(["<cat>", "dög,\n"])
    np.savez_compressed(
        file,
        images=images,
        labels=labels,
        test_images=images[:2],
        test_labels=labels[:2],
        class_names=names,
    )
    dataset = read_npz_dataset(file)
    assert np.array_equal(dataset.train_inputs, images)
    assert np.array_equal(dataset.train_labels, labels)
    assert np.array_equal(dataset.test_inputs, images[:2])
    assert dataset.class_names == ("<cat>", "dög,\n")


def test_keras_names(file: Path) -> None:
    np.savez(file, x_train=IMAGES, y_train=LABELS[:, None], x_test=IMAGES[:5], y_test=LABELS[:5])
    dataset = read_npz_dataset(file)
    assert np.array_equal(dataset.train_inputs[..., 0], IMAGES)
    assert np.array_equal(dataset.train_labels, LABELS)
    assert np.array_equal(dataset.test_labels, LABELS[:5])


@pytest.mark.fault(31, 32, 39, 40)
@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES}, "missing: labels; unknown: none"),
        ({"x_train": IMAGES}, "missing: y_train; unknown: none"),
        (
            {"images": IMAGES, "labels": LABELS, "weights": LABELS},
            "missing: none; unknown: weights",
        ),
        ({"images": IMAGES, "labels": LABELS, "x_train": IMAGES}, "unknown: images, labels"),
        ({"images": IMAGES, "labels": LABELS, "test_images": IMAGES}, "missing: test_labels"),
        (
            {"images": IMAGES, "labels": LABELS[:9]},
            r"labels has shape \(9,\) for 50 images: give one label",
        ),
        ({"images": IMAGES, "labels": LABELS - 1}, r"labels\[\d+\] is -1, expected 0 to 4"),
        ({"images": IMAGES, "labels": LABELS + 1}, "labels start at 1: subtract 1 from all"),
        ({"images": IMAGES, "labels": LABELS / 2}, r"labels is float64 .*: index \d+ is \d\.5"),
        ({"images": IMAGES, "labels": LABELS * 0}, "there is 1 class"),
        ({"images": IMAGES[:1], "labels": LABELS[:1] * 0}, "class .0. has 1 example, a test"),
        ({"images": IMAGES, "labels": 3}, r"labels has shape \(\) for 50 images"),
        ({"images": IMAGES[0], "labels": LABELS}, r"images has shape \(4, 3\), expected"),
        ({"images": IMAGES, "labels": LABELS, "class_names": np.arange(5)}, "class_names is int64"),
        (
            {"images": IMAGES, "labels": LABELS, "class_names": np.array(list("abcd"))},
            "class_names has 4 names, but labels has 5 different classes, 0 to 4: give one name",
        ),
        (
            {"images": IMAGES, "labels": LABELS, "test_images": IMAGES[:2], "test_labels": [0, 9]},
            r"test_labels\[1\] is 9, expected 0 to 4",
        ),
    ],
)
def test_unusable_contents(file: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(file, **arrays)
    with pytest.raises(DataError, match=message) as caught:
        read_npz_dataset(file)
    assert "mine" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.fault(30)
def test_python_objects_are_not_unpickled(file: Path) -> None:
    np.savez(file, images=IMAGES, labels=np.array([{}] * 50, dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=f"{file}: labels: cannot be read .*allow_pickle"):
        read_npz_dataset(file)


@pytest.mark.fault(30)
def test_file_cut_short_or_of_another_format(file: Path) -> None:
    np.savez(file, images=IMAGES, labels=LABELS)
    content = file.read_bytes()
    for wrong in (content[:-30], b"", b"<html>"):
        file.write_bytes(wrong)
        with pytest.raises(DataError, match=f"{file}: not a whole .npz file"):
            read_npz_dataset(file)


@pytest.mark.fault(30)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(place=st.integers(0, 10_000), value=st.integers(1, 255), packed=st.booleans())
def test_flipped_bits_are_found(file: Path, place: int, value: int, packed: bool) -> None:
    (np.savez_compressed if packed else np.savez)(file, images=IMAGES, labels=LABELS)
    content = bytearray(file.read_bytes())
    whole = read_npz_dataset(file).fingerprint
    content[place % len(content)] ^= value
    file.write_bytes(content)
    try:
        assert read_npz_dataset(file).fingerprint == whole  # bits without a meaning, such as times
    except DataError as error:
        assert str(file) in str(error)  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_that_were_pixels_give_them_back(dtype: type) -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    images = images_to_uint8("x", (pixels / 255).astype(dtype))
    assert images.dtype == np.uint8
    assert np.array_equal(images, pixels)


def test_other_integers_are_taken_as_they_are() -> None:
    pixels = np.arange(256).reshape(1, 16, 16)
    assert np.array_equal(images_to_uint8("x", pixels)[..., 0], pixels)


def one_pixel(value: float, dtype: type = np.float32) -> np.ndarray:
    images = np.zeros((2, 3, 3), dtype=dtype)
    images[1, 0, 2] = value
    return images


@pytest.mark.fault(33)
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (one_pixel(np.nan), "x: 1 of 18 pixels are NaN or infinite"),
        (one_pixel(np.inf), "x: 1 of 18 pixels are NaN or infinite"),
        (one_pixel(-0.5), "x: 1 of 18 pixels are outside 0 to 1: store pixels as uint8"),
        (one_pixel(255), "x: 1 of 18 pixels are outside 0 to 1: store pixels as uint8"),
        (one_pixel(0.5), "x: 1 of 18 pixels are no multiple of 1/255"),
        (one_pixel(256, np.int64), "x: 1 of 18 pixels are outside 0 to 255"),
        (one_pixel(-1, np.int8), "x: 1 of 18 pixels are outside 0 to 255"),
        (one_pixel(1, np.bool_), "x is bool: store pixels as uint8"),
        (one_pixel(1, np.complex64), "x is complex64: store pixels as uint8"),
    ],
)
def test_pixels_that_are_refused(images: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        images_to_uint8("x", images)


@pytest.mark.fault(32)
def test_labels_out_of_range_are_found_before_they_wrap_around() -> None:
    with pytest.raises(DataError, match=r"y\[1\] is 4294967296"):
        labels_to_int32("y", np.array([0, 2**32]), num_classes=2)
