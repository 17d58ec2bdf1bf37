"""Which examples one seed trains and validates on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cwjax.config import DataConfig
from cwjax.data.dataset import WARNING, Column, Dataset, Inputs, count_classes
from cwjax.data.imbalance import counts_of_same_shares, profile_counts, subsample
from cwjax.data.scaling import Scaling, feature_scaling
from cwjax.errors import DataError
from cwjax.randomness import Purpose, rng

VALIDATION_FRACTION = 0.1
TEST_FRACTION = 0.2

_FIXED_TEST_SEED = 0

Indices = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Split:
    """The training, validation and test examples of one seed.

    Attributes:
        train_indices: int32 `[num_train]`, ascending, into the data set's examples.
        validation_indices: int32 `[num_validation]`, ascending, disjoint from train_indices.
        test_indices: int32 `[num_test]`, ascending, disjoint from both.
        class_counts: int64 `[num_classes]`, counted in train_indices.
        validation_counts: int64 `[num_classes]`, counted in validation_indices; 0 of a class that
            has too few examples to validate on, which the validation scores leave out.
        weight_counts: int64 `[num_classes]`, the counts that class weights are computed from:
            class_counts, or those of the whole training file in the notebook's protocol.
        scaling: how features are standardised; empty for images.
        num_before_profile: training examples before they were made imbalanced.
    """

    train_indices: npt.NDArray[np.int32]
    validation_indices: npt.NDArray[np.int32]
    test_indices: npt.NDArray[np.int32]
    class_counts: npt.NDArray[np.int64]
    validation_counts: npt.NDArray[np.int64]
    weight_counts: npt.NDArray[np.int64]
    scaling: Scaling
    num_before_profile: int


def split_dataset(dataset: Dataset, data_config: DataConfig, seed: int) -> Split:
    """Cut off the test and validation splits and make the rest as imbalanced as the settings ask.

    The validation split gets the training split's class shares: who has imbalanced data has no
    balanced examples to choose settings on either.

    Raises:
        ConfigError: the profile leaves a class without a training example.
        DataError: no validation example, or none to train on of a class; a group of examples that
            would stand on both sides of a split.
    """
    train, test = _test_split(dataset, data_config, seed)
    if data_config.protocol == "notebook":
        return _notebook_split(dataset)
    kept, cut = _cut(dataset, train, VALIDATION_FRACTION, rng(seed, Purpose.VALIDATION))
    train, validation = train[kept], train[cut]
    if not len(validation):
        raise DataError(
            f"{dataset.name}: no class has the 5 training examples that put one in the validation "
            "split: give more examples"
        )
    num_before_profile, num_classes = len(train), dataset.num_classes
    if data_config.imbalance != "none":
        train = train[_imbalanced(dataset.labels[train], num_classes, data_config, seed)]
    class_counts = count_classes(dataset.labels[train], num_classes)
    validation_counts = count_classes(dataset.labels[validation], num_classes)
    if data_config.imbalance != "none":
        validation_counts = counts_of_same_shares(class_counts, validation_counts)
        generator = rng(seed, Purpose.VALIDATION_SUBSAMPLE)
        kept = subsample(dataset.labels[validation], validation_counts, generator)
        validation = validation[kept]
    return Split(
        train,
        validation,
        test,
        class_counts,
        validation_counts,
        class_counts,
        feature_scaling(dataset, train),
        num_before_profile,
    )


def _test_split(dataset: Dataset, data_config: DataConfig, seed: int) -> tuple[Indices, Indices]:
    """What training may use, and the test split."""
    indices = np.arange(len(dataset.labels), dtype=np.int32)
    if data_config.test_split == "fixed":
        train, test = indices[: dataset.num_train], indices[dataset.num_train :]
        if dataset.groups is not None:
            shared = np.intersect1d(dataset.groups[train], dataset.groups[test])
            if len(shared):
                raise DataError(
                    f"{dataset.name}: {len(shared)} groups have examples in the training file and "
                    "in the test split: give --test-split per-seed, or other files"
                )
        return train, test
    check_hold_out(dataset.name, dataset.labels, dataset.class_names)
    return _cut(dataset, indices, TEST_FRACTION, rng(seed, Purpose.TEST_SPLIT))


def _cut(
    dataset: Dataset, indices: Indices, fraction: float, generator: np.random.Generator
) -> tuple[Indices, Indices]:
    """A stratified cut, of whole groups where the data has them; places in `indices`."""
    labels = dataset.labels[indices]
    if dataset.groups is None:
        return stratified_cut(labels, fraction, generator)
    return group_cut(labels, dataset.groups[indices], fraction, generator, dataset.name)


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
    if dataset.groups is not None:
        raise DataError(
            f"{dataset.name}: the notebook protocol cuts by the file's order and would part "
            "groups: use --protocol cwjax"
        )
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
        np.arange(len(labels), len(dataset.labels), dtype=np.int32),
        class_counts,
        count_classes(labels[num_train:], num_classes),
        count_classes(labels, num_classes),
        feature_scaling(dataset, indices[:num_train]),
        num_train,
    )


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


def group_cut(
    labels: npt.NDArray[np.integer],
    groups: npt.NDArray[np.integer],
    fraction: float,
    generator: np.random.Generator,
    name: str,
) -> tuple[Indices, Indices]:
    """Draw whole groups, so that of each class about a fraction is cut off.

    Groups are taken in random order, each if it brings the classes' shares nearer to the fraction
    and leaves every class an example. (scikit-learn's `StratifiedGroupKFold` may hold out the only
    group of a class, and takes a second for 2,000 groups.)

    Args:
        labels: `[num_examples]`.
        groups: `[num_examples]`.
        fraction: the share that is to be cut off.
        generator: the source of the draw.
        name: of the data set, for the message.

    Returns:
        What is kept and what is cut off, int32 indices into labels, ascending.

    Raises:
        DataError: no group can be cut off.
    """
    _, members = np.unique(groups, return_inverse=True)
    _, classes = np.unique(labels, return_inverse=True)
    counts = np.zeros((members.max() + 1, classes.max() + 1))
    np.add.at(counts, (members, classes), 1)
    total, cut = counts.sum(axis=0), np.zeros(counts.shape[1])
    is_cut = np.zeros(len(counts), dtype=bool)
    distance = float(np.abs(cut / total - fraction).sum())
    for group in generator.permutation(len(counts)):
        larger = cut + counts[group]
        nearer = float(np.abs(larger / total - fraction).sum())
        if nearer < distance and (larger < total).all():
            cut, distance, is_cut[group] = larger, nearer, True
    if not is_cut.any():
        raise DataError(
            f"{name}: of its {len(counts)} groups none can be held out without leaving a class "
            "untrained or taking far too many examples: give smaller groups, or more"
        )
    held_out = is_cut[members]
    return np.flatnonzero(~held_out).astype(np.int32), np.flatnonzero(held_out).astype(np.int32)


def check_hold_out(
    name: str, labels: npt.NDArray[np.integer], class_names: tuple[str, ...]
) -> None:
    """Checks that every class can be held out of and still be trained.

    Raises:
        DataError: naming a class with a single example.
    """
    single = np.flatnonzero(count_classes(labels, len(class_names)) == 1)
    if len(single):
        raise DataError(
            f"{name}: class {class_names[single[0]]!r} has 1 example, a test split cannot be held "
            "out of it: give at least 2, give a test split, or leave the class out"
        )


def with_held_out_test(
    name: str,
    inputs: Inputs,
    labels: npt.NDArray[np.int32],
    class_names: tuple[str, ...],
    *,
    columns: tuple[Column, ...] = (),
    groups: npt.NDArray[np.int32] | None = None,
    notes: tuple[str, ...] = (),
) -> Dataset:
    """A data set without a test split of its own: a stratified fifth, always the same, is held out.

    Args:
        name: for tables and messages.
        inputs: of all examples.
        labels: `[num_examples]`.
        class_names: one name per class.
        columns: see `Dataset`.
        groups: see `Dataset`; the fifth is then of whole groups.
        notes: see `Dataset`; one is added that says what was done.

    Raises:
        DataError: a class too small for it, or see `Dataset`.
    """
    check_hold_out(name, labels, class_names)
    generator = np.random.default_rng(_FIXED_TEST_SEED)
    if groups is None:
        kept, held_out = stratified_cut(labels, TEST_FRACTION, generator)
    else:
        kept, held_out = group_cut(labels, groups, TEST_FRACTION, generator, name)
    if len(held_out) < 2 <= len(labels):
        raise DataError(
            f"{name}: has {len(labels)} examples, too few to hold a test split out of them: give "
            "more, or a test split"
        )
    order = np.concatenate([kept, held_out])
    said = (
        f"no test split of its own: {len(held_out):,} of {len(order):,} examples, always the same"
    )
    absent = np.flatnonzero(count_classes(labels[held_out], len(class_names)) == 0)
    lacking = ", ".join(repr(class_names[label]) for label in absent)
    return Dataset(
        name,
        inputs[order],
        labels[order],
        len(kept),
        class_names,
        columns,
        None if groups is None else groups[order],
        (
            *notes,
            f"{said}, are held out as one",
            *(
                [f"{WARNING}the test split that is held out has no example of {lacking}"]
                * bool(lacking)
            ),
        ),
        is_test_held_out=True,
    )


def dataset_of_splits(
    name: str,
    splits: Sequence[tuple[Inputs, npt.NDArray[np.int32]]],
    class_names: tuple[str, ...],
    **further: Any,
) -> Dataset:
    """A data set of a training file and a test split, or of one file that a test split is cut from.

    Args:
        name: for tables and messages.
        splits: inputs and labels of the training file and, if there is one, of the test split.
        class_names: one name per class.
        **further: columns, groups and notes of `Dataset`, over all examples.

    Raises:
        DataError: see `with_held_out_test` and `Dataset.from_splits`.
    """
    if len(splits) == 1:
        return with_held_out_test(name, *splits[0], class_names, **further)
    train, test = splits
    return Dataset.from_splits(name, train, test, class_names, **further)
