"""`examples.npz`: what a report shows of the data set, so that it can be drawn again without it.

Written once, before the first run, and a function of the data set alone: the same data give the
same bytes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cwjax.data.dataset import Dataset
from cwjax.errors import ConfigError

EXAMPLES = "examples.npz"
"""Its name."""

SAMPLES_PER_CLASS = 6
"""Training images of each class that are kept."""

MAX_TEST_BYTES = 10_000_000
"""Of kept test images before compression: all 10,000 of MNIST; of larger sets an even sample."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Labels and a few images of a data set."""

    test_labels: np.ndarray  # int32 [num_test]
    test_images: np.ndarray  # uint8 [num_kept, height, width, channels]
    test_indices: np.ndarray  # int32 [num_kept], of test_images in the test split, ascending
    samples: np.ndarray  # uint8 [num_samples, height, width, channels], training images
    sample_labels: np.ndarray  # int32 [num_samples], ascending


def pick_examples(dataset: Dataset) -> Examples:
    """Evenly spaced images of the training file, class by class, and of the test split."""
    samples = np.concatenate(
        [
            _evenly(np.flatnonzero(dataset.train_labels == label), SAMPLES_PER_CLASS)
            for label in range(dataset.num_classes)
        ]
    )
    num_kept = max(1, MAX_TEST_BYTES // dataset.test_images[0].nbytes)
    kept = _evenly(np.arange(len(dataset.test_labels), dtype=np.int32), num_kept)
    return Examples(
        test_labels=dataset.test_labels,
        test_images=dataset.test_images[kept],
        test_indices=kept,
        samples=dataset.train_images[samples],
        sample_labels=dataset.train_labels[samples],
    )


def _evenly(items: np.ndarray, number: int) -> np.ndarray:
    """At most `number` of the items, the first and the last among them, in their order."""
    places = np.linspace(0, len(items) - 1, min(number, len(items)))
    return items[places.round().astype(int)]


def to_bytes(examples: Examples) -> bytes:
    """The content of the file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **vars(examples))
    return buffer.getvalue()


def read_examples(path: Path) -> Examples:
    """Reads the file back.

    Raises:
        ConfigError: it is missing or damaged.
    """
    mend = "give the command that trained the directory again, it writes the file anew"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return Examples(**{name: archive[name] for name in archive.files})
    except FileNotFoundError:
        raise ConfigError(f"{path.name} is missing: {mend}") from None
    except Exception as error:  # np.load and zipfile each have errors of their own
        raise ConfigError(
            f"{path.name} is damaged ({type(error).__name__}): remove it and {mend}"
        ) from error
