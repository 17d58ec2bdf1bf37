"""Which examples one seed trains and validates on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cwjax.config import DataConfig
from cwjax.data.dataset import Dataset, count_classes
from cwjax.data.imbalance import profile_counts, subsample
from cwjax.errors import DataError
from cwjax.randomness import Purpose, rng

VALIDATION_FRACTION = 0.1


@dataclass(frozen=True, eq=False)
class Split:
    """The training, validation and test examples of one seed.

    Attributes:
        train_indices: int32 `[num_train]`, ascending, into the data set's examples.
        validation_indices: int32 `[num_validation]`, ascending, disjoint from train_indices.
        test_indices: int32 `[num_test]`, ascending, disjoint from both.
        class_counts: int64 `[num_classes]`, counted in train_indices.
        weight_counts: int64 `[num_classes]`, the counts that class weights are computed from:
            class_counts, or those of the whole training file in the notebook's protocol.
    """

    train_indices: npt.NDArray[np.int32]
    validation_indices: npt.NDArray[np.int32]
    test_indices: npt.NDArray[np.int32]
    class_counts: npt.NDArray[np.int64]
    weight_counts: npt.NDArray[np.int64]


def split_dataset(dataset: Dataset, data_config: DataConfig, seed: int) -> Split:
    """Cut off the validation split and make the rest as imbalanced as the settings ask.

    Raises:
        ConfigError: the profile leaves a class without a training example.
        DataError: no validation example, or none to train on of a class.
    """
    if data_config.protocol == "notebook":
        return _notebook_split(dataset)
    labels = dataset.train_labels
    train, validation = stratified_cut(labels, VALIDATION_FRACTION, rng(seed, Purpose.VALIDATION))
    if not len(validation):
        raise DataError(
            f"{dataset.name}: no class has the 5 training examples that put one in the validation "
            "split: give more examples"
        )
    if data_config.imbalance != "none":
        train = train[_imbalanced(labels[train], dataset.num_classes, data_config, seed)]
    class_counts = count_classes(labels[train], dataset.num_classes)
    return Split(train, validation, _test_indices(dataset), class_counts, class_counts)


def _imbalanced(
    labels: npt.NDArray[np.int32], num_classes: int, data_config: DataConfig, seed: int
) -> npt.NDArray[np.int32]:
    """Indices into labels that follow the profile, whose n_max is the smallest class of labels."""
    n_max = int(count_classes(labels, num_classes).min())
    class_counts = profile_counts(
        data_config.imbalance, n_max, num_classes, data_config.imbalance_factor
    )
    if data_config.permute_classes:
        class_counts = rng(seed, Purpose.CLASS_ORDER).permutation(class_counts)
    return subsample(labels, class_counts, rng(seed, Purpose.SUBSAMPLE))


def _notebook_split(dataset: Dataset) -> Split:
    """The last tenth of the file for validation; weights from the counts of the whole file.

    The notebook passes Keras `validation_split=0.1` and scikit-learn all of the training labels.
    """
    labels, num_classes = dataset.train_labels, dataset.num_classes
    num_train = math.floor(len(labels) * (1.0 - VALIDATION_FRACTION))  # as Keras rounds it
    indices = np.arange(len(labels), dtype=np.int32)
    class_counts = count_classes(labels[:num_train], num_classes)
    if class_counts.min() == 0:
        label = int(class_counts.argmin())
        raise DataError(
            f"{dataset.name}: all examples of class {label} ({dataset.class_names[label]!r}) are "
            "in the last tenth of the training file, which the notebook protocol validates on: "
            "shuffle the file or use --protocol cwjax"
        )
    return Split(
        indices[:num_train],
        indices[num_train:],
        _test_indices(dataset),
        class_counts,
        count_classes(labels, num_classes),
    )


def _test_indices(dataset: Dataset) -> npt.NDArray[np.int32]:
    """The data set's own test split."""
    return np.arange(dataset.num_train, len(dataset.labels), dtype=np.int32)


def stratified_cut(
    labels: npt.NDArray[np.integer], fraction: float, generator: np.random.Generator
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Draw a fraction of each class without replacement.

    Args:
        labels: `[num_examples]`.
        fraction: the share that is cut off, below ½, rounded to whole examples of each class
            (halves up), so that no class loses its last example.
        generator: the source of the draw.

    Returns:
        What is kept and what is cut off, int32 indices into labels, ascending.
    """
    is_cut = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        size = math.floor(fraction * len(members) + 0.5)
        is_cut[generator.permutation(members)[:size]] = True
    return np.flatnonzero(~is_cut).astype(np.int32), np.flatnonzero(is_cut).astype(np.int32)
