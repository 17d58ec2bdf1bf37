"""scikit-learn's own data sets."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.datasets

from cwjax.data.sources import load_dataset
from cwjax.errors import DataError


@pytest.mark.parametrize(
    ("name", "shape", "num_classes"),
    [("digits", (1797, 64), 10), ("wine", (178, 13), 3), ("breast_cancer", (569, 30), 2)],
)
def test_embedded_sets(name: str, shape: tuple[int, int], num_classes: int) -> None:
    dataset = load_dataset(f"sklearn:{name}")
    assert dataset.inputs.shape == shape
    assert (dataset.name, dataset.num_classes) == (name, num_classes)
    assert abs(len(dataset.test_labels) - 0.2 * shape[0]) < 1
    original = getattr(sklearn.datasets, f"load_{name}")()
    assert [str(column) for column in dataset.columns] == list(original.feature_names)
    expected = {
        (row.tobytes(), label)
        for row, label in zip(original.data.astype(np.float32), original.target, strict=True)
    }
    found = {(row.tobytes(), y) for row, y in zip(dataset.inputs, dataset.labels, strict=True)}
    assert found == expected
    assert load_dataset(f"sklearn:{name}").fingerprint == dataset.fingerprint


def test_other_names_are_refused() -> None:
    with pytest.raises(DataError, match=r"did you mean 'digits'.*choose sklearn:digits"):
        load_dataset("sklearn:digit")
