"""`examples/<data set>.npz`: what a report shows of a data set, so that it can be drawn without it.

Written once, before the first run, and a function of the data set alone: the same data give the
same bytes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from cwjax.data.dataset import Dataset
from cwjax.errors import ConfigError
from cwjax.store.directory import StudyDirectory
from cwjax.store.schema import read_npz

SAMPLES_PER_CLASS = 6
"""Training images of each class that are kept."""

MAX_TEST_BYTES = 10_000_000
"""Size of the kept test images before compression: all 10,000 of MNIST; of larger sets an even
sample."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Labels and a few images of a data set."""

    test_labels: np.ndarray  # int32 [num_test]
    test_images: np.ndarray  # uint8 [num_kept, height, width, channels]
    test_indices: np.ndarray  # int32 [num_kept], of test_images in the test split, ascending
    samples: np.ndarray  # uint8 [num_samples, height, width, channels], training images
    sample_labels: np.ndarray  # int32 [num_samples], ascending

    @property
    def has_images(self) -> bool:
        """Whether the data are images; features have none to show."""
        return len(self.samples) > 0


def pick_examples(dataset: Dataset) -> Examples:
    """Evenly spaced images of the training file, class by class, and of the test split.

    Features give none.
    """
    if dataset.is_features:
        no_images, nothing = np.zeros((0, 1, 1, 1), np.uint8), np.zeros(0, np.int32)
        return Examples(dataset.test_labels, no_images, nothing, no_images, nothing)
    samples = np.concatenate(
        [
            evenly(np.flatnonzero(dataset.train_labels == label), SAMPLES_PER_CLASS)
            for label in range(dataset.num_classes)
        ]
    )
    num_kept = max(1, MAX_TEST_BYTES // dataset.test_inputs[0].nbytes)
    kept = evenly(np.arange(len(dataset.test_labels), dtype=np.int32), num_kept)
    return Examples(
        test_labels=dataset.test_labels,
        test_images=dataset.test_inputs[kept],
        test_indices=kept,
        samples=dataset.train_inputs[samples],
        sample_labels=dataset.train_labels[samples],
    )


def evenly(items: np.ndarray, number: int) -> np.ndarray:
    """At most `number` of the items, the first and the last among them, in their order."""
    places = np.linspace(0, len(items) - 1, min(number, len(items)))
    picked: np.ndarray = items[places.round().astype(int)]
    return picked


def examples_name(fingerprint: str) -> str:
    """Where the examples of the data set with this fingerprint are, below the directory."""
    return f"examples/{fingerprint[:16]}.npz"


def keep_examples(directory: StudyDirectory, dataset: Dataset) -> None:
    """Writes the file unless it is there."""
    name = examples_name(dataset.fingerprint)
    if not (directory.path / name).exists():
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **vars(pick_examples(dataset)))
        directory.write_bytes(name, buffer.getvalue())


def read_examples(directory: StudyDirectory, fingerprint: str) -> Examples:
    """Reads the file back.

    Raises:
        ConfigError: it is missing or damaged.
    """
    name = examples_name(fingerprint)
    fix = "give the command that trained the directory again, it writes the file anew"
    try:
        with (directory.path / name).open("rb") as file:
            examples = Examples(**read_npz(file, name))
    except FileNotFoundError:
        raise ConfigError(f"{name} is missing: {fix}") from None
    except (ConfigError, TypeError) as error:  # TypeError: other arrays than those of Examples
        raise ConfigError(f"{name} is damaged ({error}): remove it and {fix}") from error
    if not _fit(examples):
        raise ConfigError(f"{name} is damaged (its arrays do not fit): remove it and {fix}")
    return examples


def _fit(examples: Examples) -> bool:
    """Whether the arrays have the types and lengths that `Examples` names."""
    images = (examples.test_images, examples.samples)
    integers = (examples.test_labels, examples.test_indices, examples.sample_labels)
    return (
        all(array.dtype == np.uint8 and array.ndim == 4 for array in images)
        and all(array.dtype.kind in "iu" and array.ndim == 1 for array in integers)
        and len(examples.test_labels) > 0
        and all(array.min(initial=0) >= 0 for array in integers)
        and len(examples.test_images) == len(examples.test_indices)
        and len(examples.samples) == len(examples.sample_labels)
        and int(examples.test_indices.max(initial=0)) < len(examples.test_labels)
    )
