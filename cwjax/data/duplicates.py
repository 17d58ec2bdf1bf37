"""Examples that are equal by content: a test example that was trained on measures memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cwjax.data.dataset import WARNING, Dataset


@dataclass(frozen=True)
class Duplicates:
    """How many examples a data set holds more than once.

    Attributes:
        train: examples of the training file that equal an earlier one of it.
        test: the same of the test split.
        across: examples of the test split that are also in the training file.
        contradicting: examples that equal one of another class.
    """

    train: int
    test: int
    across: int
    contradicting: int


def find_duplicates(dataset: Dataset) -> Duplicates:
    """Counts equal examples, by a 64-bit hash of their bytes.

    Args:
        dataset: any; half a second per GB.
    """
    hashes = np.array([hash(example.tobytes()) for example in dataset.inputs])
    train, test = hashes[: dataset.num_train], hashes[dataset.num_train :]
    _, contents = np.unique(hashes, return_inverse=True)
    pairs = np.unique(np.stack([contents, dataset.labels]), axis=1)
    contradictory = np.bincount(pairs[0]) > 1
    return Duplicates(
        train=len(train) - len(np.unique(train)),
        test=len(test) - len(np.unique(test)),
        across=int(np.isin(test, train).sum()),
        contradicting=int(contradictory[contents].sum()),
    )


def with_overlap_note(dataset: Dataset) -> Dataset:
    """The data set, with a note where test examples are in the training file too."""
    num_known = find_duplicates(dataset).across
    if not num_known:
        return dataset
    note = (
        f"{WARNING}{num_known:,} of {len(dataset.test_labels):,} test examples are in the training "
        "file too, by content: scores on them measure memory"
    )
    return replace(dataset, notes=(*dataset.notes, note))
