"""Groups stay on one side of every split; seeds may draw their own test splits; standardisation."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cwjax.config import DataConfig, SourceConfig, StudyConfig, TrainConfig
from cwjax.data.dataset import Column, Dataset
from cwjax.data.scaling import feature_scaling
from cwjax.data.sources import ReadOptions, load_dataset
from cwjax.data.split import group_cut, split_dataset, with_held_out_test
from cwjax.errors import ConfigError, DataError
from cwjax.store.directory import StudyDirectory
from cwjax.study.plan import lay_out, make_plan, parse_design
from cwjax.study.run import Finished, RunStored, run

RNG = np.random.default_rng(0)
NUM_EXAMPLES = 600
LABELS = np.repeat(np.arange(3, dtype=np.int32), (400, 150, 50))
GROUPS = RNG.permutation(np.arange(NUM_EXAMPLES) // 5).astype(np.int32)
FEATURES = RNG.normal(size=(NUM_EXAMPLES, 4)).astype(np.float32)
NAMES = ("a", "b", "c")
AS_IT_IS = DataConfig(imbalance="none")
PER_SEED = DataConfig(imbalance="none", test_split="per-seed")


def features(groups: np.ndarray | None = None) -> Dataset:
    return with_held_out_test("made", FEATURES, LABELS, NAMES, groups=groups)


def sides(dataset: Dataset, config: DataConfig, seed: int) -> list[np.ndarray]:
    split = split_dataset(dataset, config, seed)
    return [split.train_indices, split.validation_indices, split.test_indices]


@pytest.mark.parametrize("config", [AS_IT_IS, PER_SEED, DataConfig(imbalance_factor=4)])
def test_a_group_is_on_one_side(config: DataConfig) -> None:
    dataset = features(GROUPS)
    assert dataset.groups is not None
    for seed in range(5):
        parts = sides(dataset, config, seed)
        assert len(np.unique(np.concatenate(parts))) == sum(map(len, parts))
        groups = [set(dataset.groups[part].tolist()) for part in parts]
        assert sum(map(len, groups)) == len(set.union(*groups))


def test_cuts_of_groups_are_nearly_stratified_and_differ_by_seed() -> None:
    drawn = set()
    for seed in range(10):
        kept, cut = group_cut(LABELS, GROUPS, 0.2, np.random.default_rng(seed), "made")
        shares = np.bincount(LABELS[cut]) / np.bincount(LABELS)
        assert np.abs(shares - 0.2).max() < 0.05
        assert np.array_equal(np.sort([*kept, *cut]), np.arange(NUM_EXAMPLES))
        drawn.add(cut.tobytes())
    assert len(drawn) == 10


def test_every_class_keeps_a_group_to_train_on() -> None:
    labels = np.repeat(np.arange(4), 10)
    groups = np.where(labels == 3, 100, np.arange(40) // 2)  # one group has all of class 3
    for seed in range(20):
        kept, _ = group_cut(labels, groups, 0.2, np.random.default_rng(seed), "made")
        assert set(labels[kept].tolist()) == {0, 1, 2, 3}
    with pytest.raises(DataError, match="made: of its 2 groups none can be held out"):
        group_cut(labels, labels // 2, 0.2, np.random.default_rng(0), "made")


def test_groups_that_stand_in_both_files() -> None:
    dataset = dataclasses.replace(features(), groups=GROUPS)
    with pytest.raises(DataError, match=r"groups have examples in the training file and in the"):
        split_dataset(dataset, AS_IT_IS, seed=0)
    sides(dataset, PER_SEED, seed=0)  # drawn anew, it is right
    with pytest.raises(DataError, match="groups have shape"):
        dataclasses.replace(features(), groups=GROUPS[1:])
    notebook = DataConfig(imbalance="none", protocol="notebook")
    with pytest.raises(DataError, match="would part groups: use --protocol cwjax"):
        split_dataset(features(GROUPS), notebook, seed=0)


def test_seeds_draw_their_own_test_splits() -> None:
    dataset = features()
    tests = [split_dataset(dataset, PER_SEED, seed).test_indices for seed in range(8)]
    assert len({test.tobytes() for test in tests}) == 8
    for test in tests:
        assert np.bincount(dataset.labels[test]).tolist() == [80, 30, 10]
    assert np.array_equal(tests[0], split_dataset(dataset, PER_SEED, seed=0).test_indices)
    fixed = [split_dataset(dataset, AS_IT_IS, seed).test_indices for seed in (0, 1)]
    assert np.array_equal(fixed[0], fixed[1])
    assert np.array_equal(fixed[0], np.arange(480, 600))
    with pytest.raises(ConfigError, match="leave out --test-split per-seed"):
        DataConfig(imbalance="none", protocol="notebook", test_split="per-seed")


@pytest.mark.parametrize("keys", [("images", "labels"), ("x_train", "y_train")])
def test_groups_of_arrays_in_a_file(keys: tuple[str, str], tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (60, 4, 4), dtype=np.uint8)
    arrays = {keys[0]: images, keys[1]: np.arange(60) % 2, "writer": GROUPS[:60]}
    file, settings = tmp_path / "mine.npz", SourceConfig(group_column="writer")
    options = ReadOptions(source=settings)
    np.savez(file, **arrays)
    dataset = load_dataset(f"npz:{file}", options)
    assert dataset.groups is not None
    assert not set(dataset.groups[: dataset.num_train]) & set(dataset.groups[dataset.num_train :])
    test = ("x_test", "y_test") if keys[0] == "x_train" else ("test_images", "test_labels")
    arrays |= {test[0]: images[:9] ^ 1, test[1]: np.arange(9) % 2}
    np.savez(file, **arrays)
    with pytest.raises(DataError, match="missing: test_writer"):
        load_dataset(f"npz:{file}", options)
    np.savez(file, **arrays, test_writer=np.arange(8))
    with pytest.raises(DataError, match=r"test_writer has shape \(8,\) for 9"):
        load_dataset(f"npz:{file}", options)
    np.savez(file, **arrays, test_writer=np.arange(1000, 1009))
    groups = load_dataset(f"npz:{file}", options).groups
    assert groups is not None
    assert len(set(groups)) == len(set(GROUPS[:60])) + 9
    with pytest.raises(DataError, match="unknown: test_writer, writer"):
        load_dataset(f"npz:{file}")


@pytest.mark.fault(88)
@pytest.mark.parametrize("config", [AS_IT_IS, PER_SEED])
def test_class_too_small_for_a_hold_out(config: DataConfig) -> None:
    labels = LABELS.copy()
    labels[labels == 2] = 1
    labels[-1] = 2
    message = "class 'c' has 1 example, a test split cannot be held out of it: give at least 2"
    with pytest.raises(DataError, match=message):
        split_dataset(with_held_out_test("made", FEATURES, labels, NAMES), config, seed=0)
    own = Dataset.from_splits("own", (FEATURES, labels), (FEATURES[:9] + 1, labels[:9]), NAMES)
    split_dataset(own, AS_IT_IS, seed=0)  # nothing is held out
    with pytest.raises(DataError, match=message):
        split_dataset(own, PER_SEED, seed=0)


@pytest.mark.fault(88)
def test_hold_out_that_lacks_a_class(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (22, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "mine.npz", images=images, labels=[*range(2)] * 10 + [2, 2])
    with pytest.warns(UserWarning, match=r"test split that is held out has no example of '2'"):
        dataset = load_dataset(f"npz:{tmp_path / 'mine.npz'}")
    assert np.bincount(dataset.test_labels, minlength=3).tolist() == [2, 2, 0]


def table(num_rows: int = 100) -> Dataset:
    """Numbers with holes, one that never changes, one that is never there, and two levels."""
    numbers = RNG.normal(5, 3, (num_rows, 2))
    numbers[RNG.random((num_rows, 2)) < 0.2] = np.nan
    constant, absent = np.full((num_rows, 1), 0.1), np.full((num_rows, 1), np.nan)
    levels = np.eye(2)[np.arange(num_rows) % 2]
    values = np.concatenate([numbers, constant, absent, levels], axis=1).astype(np.float32)
    columns = (*(Column(name) for name in "wxyz"), Column("yes", "q"), Column("no", "q"))
    labels = (np.arange(num_rows) % 3).astype(np.int32)
    return with_held_out_test("table", values, labels, NAMES, columns=columns)


def test_standardisation_is_scikit_learns_on_the_rows_of_the_run() -> None:
    dataset = table()
    pipeline = ColumnTransformer(
        [
            (
                "numbers",
                make_pipeline(
                    SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()
                ),
                [0, 1, 2, 3],
            )
        ],
        remainder="passthrough",
    )
    for seed in range(3):
        split = split_dataset(dataset, AS_IT_IS, seed)
        fill, mean, scale = split.scaling
        inputs = dataset.inputs.astype(np.float64)
        found = (np.where(np.isnan(inputs), fill, inputs) - mean) / scale
        expected = pipeline.fit(inputs[split.train_indices]).transform(inputs)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_array_equal(found[:, 4:], inputs[:, 4:])  # levels as they are


def test_standardisation_looks_at_training_rows_alone() -> None:
    dataset = table()
    split = split_dataset(dataset, AS_IT_IS, seed=0)
    inputs = dataset.inputs.copy()
    inputs[split.test_indices], inputs[split.validation_indices] = 99.0, -99.0
    other = dataclasses.replace(dataset, inputs=inputs)
    for one, two in zip(split.scaling, feature_scaling(other, split.train_indices), strict=True):
        assert np.array_equal(one, two)


def test_images_are_not_standardised(tiny_dataset: Dataset) -> None:
    scaling = split_dataset(tiny_dataset, AS_IT_IS, seed=0).scaling
    assert [len(each) for each in scaling] == [0, 0, 0]


def test_rows_of_runs_carry_the_standardisation(monkeypatch: pytest.MonkeyPatch) -> None:
    import jax

    from cwjax.study import plan as plans
    from cwjax.training.step import preprocess

    monkeypatch.setattr(plans, "check_input", lambda *_: None)
    dataset = table()
    config = StudyConfig(num_seeds=2, data=(AS_IT_IS,), train=TrainConfig(batch_size=8))
    plan = lay_out(parse_design(config), config.data, {AS_IT_IS.dataset: dataset})
    for each in plan.runs:
        scaling = feature_scaling(dataset, each.train_indices)
        assert np.array_equal(each.row.input_mean, scaling.mean)
        seen = jax.jit(preprocess)(dataset.inputs[each.train_indices], each.row)
        numbers = np.asarray(seen)[:, :2]
        np.testing.assert_allclose(numbers.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(numbers.std(axis=0), 1, atol=1e-5)
        assert np.isfinite(seen).all()


def test_features_that_are_damaged() -> None:
    bad = FEATURES.copy()
    bad[1, 2] = np.inf
    with pytest.raises(DataError, match=r"made: train\[\d+\], feature 2, is inf, as are 0 others"):
        with_held_out_test("made", bad, LABELS, NAMES)
    values = table().inputs.copy()
    values[3, 4] = np.nan  # a level cannot be missing
    with pytest.raises(DataError, match=r"train\[3\], q=yes, is nan"):
        dataclasses.replace(table(), inputs=values)


def test_the_fingerprint_knows_groups_and_columns() -> None:
    plain = features()
    fingerprints = {
        plain.fingerprint,
        dataclasses.replace(plain, groups=GROUPS).fingerprint,
        dataclasses.replace(plain, columns=tuple(map(Column, "wxyz"))).fingerprint,
        dataclasses.replace(plain, columns=(*map(Column, "wxy"), Column("z", "kind"))).fingerprint,
    }
    assert len(fingerprints) == 4
    assert dataclasses.replace(plain, notes=("said",)).fingerprint == plain.fingerprint


def test_two_cells_cannot_read_one_file_in_two_ways() -> None:
    ways = [SourceConfig(label_column=name) for name in ("a", "b")]
    with pytest.raises(ConfigError, match=r"--dataset table:x.csv is read in two ways"):
        StudyConfig(
            data=(
                DataConfig(dataset="table:x.csv", imbalance="none", source=ways[0]),
                DataConfig(dataset="table:x.csv", source=ways[1]),
            )
        )


@pytest.mark.slow
def test_a_study_whose_seeds_draw_their_own_test_splits(
    tiny_config: StudyConfig, tmp_path: Path, no_report: None
) -> None:
    (data,) = tiny_config.data
    config = dataclasses.replace(
        tiny_config, data=(dataclasses.replace(data, test_split="per-seed"),), num_seeds=2
    )
    events = list(run(config, tmp_path / "out"))
    plan = make_plan(config)
    (cell,) = plan.cells.values()
    directory = StudyDirectory(tmp_path / "out")
    records = [directory.read_run(e.key) for e in events if isinstance(e, RunStored)]
    assert len(records) == 4
    for record in records:
        indices = cell.splits[record.key.seed].test_indices
        assert np.array_equal(record.test_indices, indices)
        expected = np.bincount(cell.dataset.labels[indices])
        assert np.array_equal(record.confusion_matrix.sum(axis=1), expected)
    (finished,) = [event for event in events if isinstance(event, Finished)]
    for comparison in finished.comparison.comparisons:
        assert comparison.verdict is not None
        assert comparison.new_test_sets is None
    before = {file.name: file.read_bytes() for file in tmp_path.rglob("*.npz")}
    list(run(config, tmp_path / "out"))  # nothing is left to do
    assert {file.name: file.read_bytes() for file in tmp_path.rglob("*.npz")} == before


@pytest.mark.slow
def test_runs_on_a_fixed_test_split_store_no_indices(
    tiny_config: StudyConfig, tmp_path: Path, no_report: None
) -> None:
    config = dataclasses.replace(tiny_config, num_seeds=1)
    stored = [e.key for e in run(config, tmp_path / "out") if isinstance(e, RunStored)]
    assert StudyDirectory(tmp_path / "out").read_run(stored[0]).test_indices is None


@pytest.mark.parametrize("place", ["folder:/a/photos/", "table:/a/b.csv", "tfds:x/y:1.0.0"])
def test_settings_are_recorded_without_directories(place: str) -> None:
    source = SourceConfig(test_file="/a/test.csv", group_file="/a/groups.csv")
    data = DataConfig(dataset=place, source=source).without_directory()
    assert data.dataset in ("folder:photos", "table:b.csv", "tfds:x/y:1.0.0")
    assert (data.source.test_file, data.source.group_file) == ("test.csv", "groups.csv")


def test_flags_of_a_source() -> None:
    source = SourceConfig(label_column="y", grey=True, drop_columns=("a", "b"))
    assert source.flags() == ["--grey", "--label-column", "y", "--drop-columns", "a", "b"]
    assert SourceConfig().flags() == []
