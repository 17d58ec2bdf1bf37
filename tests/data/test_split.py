"""One seed's examples: disjoint, stratified, of the wanted counts, decided by the seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cwjax.config import DataConfig
from cwjax.data.dataset import Dataset
from cwjax.data.imbalance import counts_of_same_shares, long_tailed_counts
from cwjax.data.split import Split, split_dataset, stratified_cut
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


def validation_counts(dataset: Dataset, split: Split) -> list[int]:
    labels = dataset.labels[split.validation_indices]
    return np.bincount(labels, minlength=dataset.num_classes).tolist()


def test_validation_is_as_imbalanced_as_training(dataset: Dataset) -> None:
    # Of 10, 12 and 20 validation examples; training has 90, 28 and 9 of each class.
    split = split_dataset(dataset, DataConfig(imbalance_factor=10), seed=1)
    assert split.validation_counts.tolist() == [10, 3, 1]
    assert validation_counts(dataset, split) == [10, 3, 1]
    rare = split_dataset(dataset, DataConfig(imbalance_factor=90), seed=1)
    assert rare.class_counts.tolist() == [90, 9, 1]
    assert validation_counts(dataset, rare) == [10, 1, 1]  # at least one of every class


def test_larger_factors_validate_on_subsets(dataset: Dataset) -> None:
    whole, mild, strong = (
        set(split_dataset(dataset, data, seed=1).validation_indices.tolist())
        for data in (NONE, DataConfig(imbalance_factor=2), DataConfig(imbalance_factor=20))
    )
    assert strong < mild < whole


@given(seed=st.integers(0, 2**32 - 1), factor=st.floats(1, 90), permute=st.booleans())
def test_splits_are_disjoint_and_their_counts_true(
    make_dataset: MakeDataset, seed: int, factor: float, permute: bool
) -> None:
    labels = np.repeat([0, 1, 2], [100, 120, 200])
    data = DataConfig(imbalance="long_tailed", imbalance_factor=factor, permute_classes=permute)
    dataset = make_dataset(labels)
    split = split_dataset(dataset, data, seed)
    together = np.concatenate([split.train_indices, split.validation_indices, split.test_indices])
    assert len(np.unique(together)) == len(together)
    assert (np.diff(split.validation_indices) > 0).all()
    assert validation_counts(dataset, split) == split.validation_counts.tolist()
    assert split.validation_counts.min() >= 1


@given(pairs=st.lists(st.tuples(st.integers(1, 500), st.integers(0, 60)), min_size=1, max_size=9))
def test_counts_of_same_shares(pairs: list[tuple[int, int]]) -> None:
    counts, available = (np.array(each) for each in zip(*pairs, strict=True))
    assume(available.any())
    drawn = counts_of_same_shares(counts, available)
    assert drawn.dtype == np.int64
    assert (drawn <= available).all()
    assert ((drawn == 0) == (available == 0)).all()
    some = available > 0
    scale = min(Fraction(int(a), int(n)) for n, a in pairs if a)
    exact = np.array([max(1, math.floor(scale * n + Fraction(1, 2))) for n in counts.tolist()])
    assert drawn[some].tolist() == exact[some].tolist()
    assert (drawn[some] == available[some]).any()  # as many as there are


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
    dataset = make_dataset(np.repeat([0, 1], [4, 5]))
    for data in (NONE, DataConfig(imbalance="step", imbalance_factor=2)):
        split = split_dataset(dataset, data, seed=0)
        assert split.class_counts.tolist() == ([4, 4] if data is NONE else [4, 2])
        assert split.validation_counts.tolist() == [0, 1]


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
    assert split.validation_counts.tolist() == [40, 26, 17, 11, 7, 4, 3, 2, 1, 1]
    assert split_dataset(digits, NOTEBOOK, seed=0).weight_counts.tolist() == [400] * 10
