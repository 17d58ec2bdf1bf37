"""One seed's examples: disjoint, stratified, of the wanted counts, decided by the seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwjax.config import DataConfig
from cwjax.data.dataset import Dataset
from cwjax.data.imbalance import long_tailed_counts
from cwjax.data.split import split_dataset, stratified_cut
from cwjax.errors import ConfigError, DataError

MakeDataset = Callable[..., Dataset]
NONE = DataConfig(imbalance="none")
NOTEBOOK = DataConfig(imbalance="none", protocol="notebook")


@pytest.fixture
def dataset(make_dataset: MakeDataset) -> Dataset:
    """Three classes of 100, 120 and 200 examples."""
    return make_dataset(np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [100, 120, 200])))


@given(
    counts=st.lists(st.integers(1, 60), min_size=2, max_size=8),
    fraction=st.sampled_from([0.1, 0.2, 0.3]),
    seed=st.integers(0, 2**32 - 1),
)
def test_stratified_cut_parts_every_class(counts: list[int], fraction: float, seed: int) -> None:
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))
    kept, cut = stratified_cut(labels, fraction, np.random.default_rng(seed))
    assert kept.dtype == cut.dtype == np.int32
    assert (np.diff(kept) > 0).all()
    assert (np.diff(cut) > 0).all()
    assert sorted([*kept, *cut]) == list(range(len(labels)))
    sizes = np.bincount(labels[cut], minlength=len(counts))
    assert (np.abs(sizes - fraction * np.array(counts)) <= 0.5 + 1e-9).all()
    assert (np.bincount(labels[kept], minlength=len(counts)) >= 1).all()


def test_without_imbalance_all_of_the_rest_is_trained_on(dataset: Dataset) -> None:
    split = split_dataset(dataset, NONE, seed=0)
    assert split.class_counts.tolist() == [90, 108, 180]
    assert split.weight_counts.tolist() == [90, 108, 180]
    validation = dataset.train_labels[split.validation_indices]
    assert np.bincount(validation).tolist() == [10, 12, 20]
    together = np.concatenate([split.train_indices, split.validation_indices])
    assert np.array_equal(np.sort(together), np.arange(420))


@pytest.mark.parametrize(
    ("imbalance", "expected"), [("long_tailed", [90, 28, 9]), ("step", [90, 90, 9])]
)
def test_profile_starts_from_the_smallest_class_after_the_cut(
    dataset: Dataset, imbalance: str, expected: list[int]
) -> None:
    config = DataConfig(imbalance=imbalance, imbalance_factor=10)  # type: ignore[arg-type]
    split = split_dataset(dataset, config, seed=3)
    assert split.class_counts.dtype == np.int64
    assert split.class_counts.tolist() == expected
    assert split.weight_counts.tolist() == expected
    counted = np.bincount(dataset.train_labels[split.train_indices])
    assert counted.tolist() == expected
    assert split.train_indices.dtype == split.validation_indices.dtype == np.int32
    assert (np.diff(split.train_indices) > 0).all()
    assert not set(split.train_indices) & set(split.validation_indices)


def test_seed_decides_the_split(dataset: Dataset) -> None:
    config = DataConfig(imbalance_factor=10)
    first, again, other = (split_dataset(dataset, config, seed) for seed in (5, 5, 6))
    assert np.array_equal(first.train_indices, again.train_indices)
    assert np.array_equal(first.validation_indices, again.validation_indices)
    assert not np.array_equal(first.train_indices, other.train_indices)
    assert not np.array_equal(first.validation_indices, other.validation_indices)


def test_validation_does_not_depend_on_the_imbalance(dataset: Dataset) -> None:
    splits = [
        split_dataset(dataset, DataConfig(imbalance_factor=factor), seed=1) for factor in (2, 20)
    ]
    splits.append(split_dataset(dataset, NONE, seed=1))
    for split in splits[1:]:
        assert np.array_equal(split.validation_indices, splits[0].validation_indices)
    assert set(splits[1].train_indices) < set(splits[0].train_indices)


def test_permuted_classes(dataset: Dataset) -> None:
    config = DataConfig(imbalance_factor=10, permute_classes=True)
    counts = [tuple(split_dataset(dataset, config, seed).class_counts) for seed in range(40)]
    assert {tuple(sorted(each)) for each in counts} == {(9, 28, 90)}
    assert len(set(counts)) == 6  # every order of three classes
    assert counts[0] == tuple(split_dataset(dataset, config, seed=0).class_counts)


@pytest.mark.fault(37)
def test_imbalance_that_empties_a_class(dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match=r"--imbalance-factor is 91: .* give at most 90"):
        split_dataset(dataset, DataConfig(imbalance_factor=91), seed=0)


@pytest.mark.fault(40)
def test_too_few_examples_for_a_validation_split(make_dataset: MakeDataset) -> None:
    with pytest.raises(DataError, match="made: no class has the 5 training examples"):
        split_dataset(make_dataset(np.repeat([0, 1], 4)), NONE, seed=0)
    split = split_dataset(make_dataset(np.repeat([0, 1], [4, 5])), NONE, seed=0)
    assert split.class_counts.tolist() == [4, 4]


def test_notebook_protocol_takes_the_end_of_the_file(make_dataset: MakeDataset) -> None:
    labels = np.array([0, 1] * 40 + [0] * 20)
    split = split_dataset(make_dataset(labels), NOTEBOOK, seed=0)
    assert split.train_indices.tolist() == list(range(90))
    assert split.validation_indices.tolist() == list(range(90, 100))
    assert split.class_counts.tolist() == [50, 40]
    assert split.weight_counts.tolist() == [60, 40]
    assert split.train_indices.dtype == split.validation_indices.dtype == np.int32
    assert split.class_counts.dtype == split.weight_counts.dtype == np.int64


def test_notebook_protocol_ignores_the_seed(dataset: Dataset) -> None:
    first, other = (split_dataset(dataset, NOTEBOOK, seed) for seed in (0, 1))
    assert np.array_equal(first.validation_indices, other.validation_indices)


@pytest.mark.fault(37)
def test_notebook_protocol_on_a_file_sorted_by_class(make_dataset: MakeDataset) -> None:
    with pytest.raises(DataError, match=r"made: all examples of class 1 \('class 1'\) are in the"):
        split_dataset(make_dataset(np.repeat([0, 1], [95, 5])), NOTEBOOK, seed=0)


def test_default_of_the_embedded_digits() -> None:
    from cwjax.data.sources import load_dataset

    digits = load_dataset("mnist5k")
    split = split_dataset(digits, DataConfig(imbalance_factor=50), seed=0)
    assert split.class_counts.tolist() == long_tailed_counts(360, 10, 50).tolist()
    assert len(split.validation_indices) == 400
    assert split_dataset(digits, NOTEBOOK, seed=0).weight_counts.tolist() == [400] * 10
