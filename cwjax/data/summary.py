"""What a data set is, before anything is trained: counts, columns, the smallest test class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cwjax.data.dataset import Dataset, count_classes
from cwjax.data.duplicates import Duplicates, find_duplicates


@dataclass(frozen=True)
class NumberSummary:
    """A column of numbers, over all examples; None where all are missing."""

    name: str
    num_missing: int
    mean: float | None
    std: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class CategorySummary:
    """A column of categories, over all examples."""

    name: str
    num_levels: int
    most_frequent: str
    share: float
    """Share of the examples that have the most frequent level."""


@dataclass(frozen=True, eq=False)
class Summary:
    """The facts of a data set.

    Attributes:
        train_counts: `[num_classes]`, examples of each class in the training file.
        test_counts: `[num_classes]`, the same of the test split.
        duplicates: see `find_duplicates`.
        numbers: of the columns of features; empty for images.
        categories: the same.
    """

    train_counts: npt.NDArray[np.int64]
    test_counts: npt.NDArray[np.int64]
    duplicates: Duplicates
    numbers: tuple[NumberSummary, ...]
    categories: tuple[CategorySummary, ...]

    @property
    def imbalance_factor(self) -> float:
        """Training examples of the largest class per example of the smallest."""
        return float(self.train_counts.max() / self.train_counts.min())

    @property
    def smallest_test_class(self) -> int:
        """The class with the fewest test examples among those that have some."""
        present = np.where(self.test_counts > 0, self.test_counts, np.iinfo(np.int64).max)
        return int(present.argmin())


def summarise(dataset: Dataset) -> Summary:
    """Counts everything; about a second per GB.

    Args:
        dataset: any.
    """
    levels: dict[str, list[int]] = {}
    numbers = []
    for place, column in enumerate(dataset.columns):
        if column.category is None:
            numbers.append(_number(column.name, dataset.inputs[:, place]))
        else:
            levels.setdefault(column.category, []).append(place)
    return Summary(
        dataset.train_counts,
        count_classes(dataset.test_labels, dataset.num_classes),
        find_duplicates(dataset),
        tuple(numbers),
        tuple(_category(dataset, name, places) for name, places in levels.items()),
    )


def _number(name: str, values: npt.NDArray[np.generic]) -> NumberSummary:
    known = values[~np.isnan(values.astype(np.float32))].astype(np.float64)
    missing = len(values) - len(known)
    if not len(known):
        return NumberSummary(name, missing, None, None, None, None)
    return NumberSummary(
        name,
        missing,
        float(known.mean()),
        float(known.std()),
        float(known.min()),
        float(known.max()),
    )


def _category(dataset: Dataset, name: str, places: list[int]) -> CategorySummary:
    shares = dataset.inputs[:, places].mean(axis=0, dtype=np.float64)
    first = int(shares.argmax())
    return CategorySummary(
        name, len(places), dataset.columns[places[first]].name, float(shares[first])
    )
