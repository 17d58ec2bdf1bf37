"""Data that cannot be used, as the script meets it: refused with the file and the place."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Refused = Callable[..., str]

IMAGES = "train-images-idx3-ubyte.gz"


def cut_short(content: bytes) -> bytes:
    return content[:20_000]


def wrong_checksum(content: bytes) -> bytes:
    return content[:-8] + bytes([content[-8] ^ 0xFF]) + content[-7:]


def web_page(_: bytes) -> bytes:
    return b"<!DOCTYPE html><title>404 Not Found</title>"


def magic_of_labels(content: bytes) -> bytes:
    return gzip.compress(struct.pack(">I", 0x0801) + gzip.decompress(content)[4:])


def too_many(content: bytes) -> bytes:
    header = struct.pack(">2I", 0x0803, 2**31)
    return gzip.compress(header + gzip.decompress(content)[8:])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(
            cut_short, "asks for 31360 bytes, the file holds", marks=pytest.mark.fault(25)
        ),
        pytest.param(wrong_checksum, "CRC check failed", marks=pytest.mark.fault(26)),
        pytest.param(web_page, "not a whole gzip file", marks=pytest.mark.fault(27)),
        pytest.param(
            magic_of_labels,
            "begins with 0x00000801, expected 0x00000803",
            marks=pytest.mark.fault(28),
        ),
        pytest.param(
            too_many,
            "train_images has 2147483648 images and train_labels 40 labels",
            marks=pytest.mark.fault(29),
        ),
    ],
)
def test_idx_files(
    idx_directory: Path, refused: Refused, damage: Callable[[bytes], bytes], message: str
) -> None:
    file = idx_directory / IMAGES
    file.write_bytes(damage(file.read_bytes()))
    line = refused("--dataset", f"idx:{idx_directory}")
    assert str(idx_directory if damage is too_many else file) in line
    assert message in line


RNG = np.random.default_rng(0)
GOOD = RNG.integers(0, 256, (60, 18, 18), dtype=np.uint8)
LABELS = np.arange(60) % 3


def with_pixel(value: float) -> np.ndarray:
    images = GOOD / 255.0
    images[7, 3, 3] = value
    return images


def with_label(value: float) -> np.ndarray:
    labels = LABELS.astype(np.float64 if value % 1 else np.int64)
    labels[4] = value
    return labels


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        pytest.param(
            {"labels": LABELS[:59]}, "shape (59,) for 60 images", marks=pytest.mark.fault(31)
        ),
        pytest.param(
            {"labels": with_label(-1)}, "labels[4] is -1, expected 0", marks=pytest.mark.fault(32)
        ),
        pytest.param(
            {"labels": with_label(9)}, "labels[4] is 9, expected 0 to", marks=pytest.mark.fault(32)
        ),
        pytest.param(
            {"labels": with_label(0.5)}, "float64 (60,), expected in", marks=pytest.mark.fault(32)
        ),
        pytest.param(
            {"images": with_pixel(np.nan)},
            "1 of 19440 pixels are NaN or infinite",
            marks=pytest.mark.fault(33),
        ),
        pytest.param(
            {"images": with_pixel(-np.inf)},
            "1 of 19440 pixels are NaN or infinite",
            marks=pytest.mark.fault(33),
        ),
        pytest.param(
            {"class_names": np.array(["a", "b", "c", "d"])},
            "class 3 ('d') has no training example",
            marks=pytest.mark.fault(37),
        ),
        pytest.param({"labels": LABELS * 0}, "there is 1 class", marks=pytest.mark.fault(39)),
        pytest.param(
            {"images": GOOD[:1], "labels": LABELS[:1]},
            "give at least 2",
            marks=pytest.mark.fault(40),
        ),
        pytest.param(
            {"images": GOOD[:0], "labels": LABELS[:0]},
            "give at least 2",
            marks=pytest.mark.fault(40),
        ),
    ],
)
def test_arrays(
    tmp_path: Path, refused: Refused, arrays: dict[str, np.ndarray], message: str
) -> None:
    file = tmp_path / "mine.npz"
    content: dict[str, Any] = {"images": GOOD, "labels": LABELS} | arrays
    np.savez(file, **content)
    line = refused("--dataset", f"npz:{file}")
    assert "mine" in line
    assert message in line


class Unpickled:
    """Tells when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("an object was unpickled",)


@pytest.mark.fault(30)
def test_npz_cut_short_or_with_objects(tmp_path: Path, refused: Refused) -> None:
    file = tmp_path / "mine.npz"
    np.savez(file, images=GOOD, labels=LABELS)
    file.write_bytes(file.read_bytes()[:-500])
    assert f"{file}: not a whole .npz file" in refused("--dataset", f"npz:{file}")
    np.savez(file, images=GOOD, labels=np.array([Unpickled()] * 60, object), allow_pickle=True)
    assert f"{file}: labels: cannot be read" in refused("--dataset", f"npz:{file}")
