"""Small files in the formats of the sources, and a machine without prepared data or a cache."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cwjax.data.dataset import Dataset


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    directory = tmp_path / "cache"
    monkeypatch.setenv("CWJAX_CACHE", str(directory))
    return directory


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def original() -> dict[str, np.ndarray]:
    """40 training and 20 test images of 28 x 28 pixels, 10 classes."""
    rng = np.random.default_rng(0)
    return {
        "train_images": rng.integers(0, 256, (40, 28, 28), dtype=np.uint8),
        "train_labels": rng.permutation(np.arange(40) % 10).astype(np.uint8),
        "test_images": rng.integers(0, 256, (20, 28, 28), dtype=np.uint8),
        "test_labels": rng.permutation(np.arange(20) % 10).astype(np.uint8),
    }


def idx_bytes(array: np.ndarray) -> bytes:
    header = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def idx_directory(tmp_path: Path, original: dict[str, np.ndarray]) -> Path:
    """The four files, gzipped, under the names that MNIST's home gives them."""
    directory = tmp_path / "digits"
    directory.mkdir()
    for split, prefix in (("train", "train"), ("test", "t10k")):
        for kind, dimensions in (("images", 3), ("labels", 1)):
            content = gzip.compress(idx_bytes(original[f"{split}_{kind}"]))
            (directory / f"{prefix}-{kind}-idx{dimensions}-ubyte.gz").write_bytes(content)
    return directory


@pytest.fixture(scope="session")  # hypothesis asks for it again and again
def make_dataset() -> Callable[..., Dataset]:
    """A data set of the given training labels, whose images are their index."""

    def make(train_labels: np.ndarray, num_classes: int | None = None) -> Dataset:
        num_classes = num_classes or int(np.max(train_labels)) + 1
        train_images = np.arange(len(train_labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
        test_labels = np.arange(num_classes, dtype=np.int32)
        return Dataset.from_splits(
            "made",
            train=(train_images, np.asarray(train_labels, dtype=np.int32)),
            test=(np.zeros((num_classes, 1, 1, 1), dtype=np.uint8), test_labels),
            class_names=tuple(f"class {label}" for label in range(num_classes)),
        )

    return make
