"""Embeddings in .npz and .parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cwjax.config import SourceConfig
from cwjax.data.dataset import Dataset
from cwjax.data.sources import ReadOptions, load_dataset
from cwjax.errors import DataError

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(30, 5)).astype(np.float32)
LABELS = np.arange(30) % 3


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.npz"


def load(file: Path, **settings: Any) -> Dataset:
    return load_dataset(f"features:{file}", ReadOptions(source=SourceConfig(**settings)))


def rows(dataset: Dataset) -> set[tuple[bytes, int]]:
    pairs = zip(dataset.inputs, dataset.labels, strict=True)
    return {(row.tobytes(), int(label)) for row, label in pairs}


def test_npz_without_a_test_split(file: Path) -> None:
    np.savez(file, features=FEATURES.astype(np.float64), labels=LABELS)
    dataset = load(file)
    assert (dataset.name, dataset.num_train, dataset.input_shape) == ("mine", 24, (5,))
    assert dataset.inputs.dtype == np.float32
    assert rows(dataset) == {(x.tobytes(), int(y)) for x, y in zip(FEATURES, LABELS, strict=True)}
    assert [str(column) for column in dataset.columns[:2]] == ["feature 0", "feature 1"]
    assert load(file).fingerprint == dataset.fingerprint  # from the cache


def test_npz_with_all_that_it_may_have(file: Path) -> None:
    np.savez(
        file,
        features=FEATURES,
        labels=np.array(["b", "a", "c"])[LABELS],
        test_features=FEATURES[:6] + 1,
        test_labels=np.array(["b", "a", "c"])[LABELS[:6]],
        feature_names=np.array(list("vwxyz")),
        writer=np.arange(30),
        test_writer=np.arange(30, 36),
    )
    dataset = load(file, group_column="writer")
    assert dataset.class_names == ("a", "b", "c")
    assert dataset.train_labels[:3].tolist() == [1, 0, 2]
    assert (dataset.num_train, len(dataset.test_labels)) == (30, 6)
    assert [str(column) for column in dataset.columns] == list("vwxyz")
    assert dataset.groups is not None
    assert len(set(dataset.groups.tolist())) == 36
    cached = load(file, group_column="writer")
    assert (cached.columns, cached.fingerprint) == (dataset.columns, dataset.fingerprint)


def test_parquet_of_lists_and_of_columns(tmp_path: Path) -> None:
    nested = pd.DataFrame({"vector": list(FEATURES), "label": LABELS})
    nested.to_parquet(tmp_path / "nested.parquet")
    wide = pd.DataFrame(FEATURES, columns=list("vwxyz")).assign(
        kind=LABELS, scene=np.arange(30) // 2
    )
    wide.to_parquet(tmp_path / "wide.parquet")
    first = load(tmp_path / "nested.parquet")
    second = load(tmp_path / "wide.parquet", label_column="kind", group_column="scene")
    assert rows(first) == rows(second)
    assert [str(column) for column in second.columns] == list("vwxyz")
    assert second.groups is not None
    wide.iloc[:6].assign(scene=99, v=0.5).to_parquet(tmp_path / "test.parquet")
    third = load(
        tmp_path / "wide.parquet",
        label_column="kind",
        group_column="scene",
        test_file=str(tmp_path / "test.parquet"),
    )
    assert (third.num_train, len(third.test_labels)) == (30, 6)


@pytest.mark.fault(85)
@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"features": np.where(np.arange(5) == 3, np.nan, FEATURES)},
            r"features\[0, 3\] is nan, no",
        ),
        (
            {"features": np.where(np.arange(5) == 3, np.inf, FEATURES)},
            r"\[0, 3\] is inf, no finite",
        ),
        (
            {"features": FEATURES.astype(np.float64) * 1e300},
            r"features\[0, 0\] is .*more than float",
        ),
        (
            {"test_features": FEATURES[:6, :4], "test_labels": LABELS[:6]},
            r"train_features are \(5,\) and test_features \(4,\) \(width\): give them one shape",
        ),
        ({"features": FEATURES[0]}, r"labels has shape \(30,\) for features \(5,\)"),
        ({"features": FEATURES[..., None]}, r"features is float32 \(30, 5, 1\), expected numbers"),
        ({"features": FEATURES.astype(str)}, "features is <U32.*expected numbers"),
        ({"labels": LABELS[:9]}, r"labels has shape \(9,\) for features \(30, 5\): give one per"),
        ({"labels": LABELS + 1}, "labels start at 1"),
        ({"labels": LABELS / 2}, r"labels is float64 .*: index 1 is 0.5"),
        ({"images": FEATURES}, "unknown: images; give features, labels"),
        ({"test_features": FEATURES}, "missing: test_labels"),
        ({"feature_names": np.array(["a"])}, "there are 1 columns for 5 features"),
    ],
)
def test_unusable_arrays(file: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(file, **({"features": FEATURES, "labels": LABELS} | arrays))
    with pytest.raises(DataError, match=message) as caught:
        load(file)
    assert "mine" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.fault(85)
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"vector": [*FEATURES[:29], FEATURES[29, :4]]},
            r"vector\[29\] has 4 numbers, the first has",
        ),
        ({"vector": [*FEATURES[:29], None]}, r"vector\[29\] is missing"),
        ({"x": FEATURES[:, 0], "word": ["a"] * 30}, "column 'word' holds no numbers.*give table:"),
        ({"x": np.where(LABELS == 1, np.nan, 1.0)}, r"features\[1, 0\] is nan"),
        ({"x": FEATURES[:, 0], "label": None}, "labels are missing"),
    ],
)
def test_unusable_columns(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    file = tmp_path / "mine.parquet"
    pd.DataFrame({"label": LABELS} | columns).to_parquet(file)
    with pytest.raises(DataError, match=message):
        load(file)


def test_files_that_are_none(tmp_path: Path, file: Path) -> None:
    with pytest.raises(DataError, match="no such file: give features:FILE"):
        load(file)
    (tmp_path / "mine.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"give features:FILE an .npz or a .parquet file"):
        load(tmp_path / "mine.csv")
    np.savez(file, features=FEATURES, labels=LABELS)
    with pytest.raises(DataError, match=r"--test-file x.npz: put test_features"):
        load(file, test_file="x.npz")
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(DataError, match=r"not a whole .npz file"):
        load(file)
    pd.DataFrame({"x": [1.0]}).to_parquet(tmp_path / "mine.parquet")
    with pytest.raises(DataError, match="has no column 'label': give --label-column; it has x"):
        load(tmp_path / "mine.parquet")
