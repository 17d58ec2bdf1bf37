"""Names of any kind are shown as text, read back as they are, and never become paths."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn_runs import make_dataset, write_study

from cwjax.arms.custom_weights import WeightFile
from cwjax.data.sources import load_dataset
from cwjax.store.directory import StudyDirectory
from cwjax.study.derive import derive

NAMES = ("<script>alert(1)</script>", "é", "a,b", "line\nend", "../../up", "x" * 300)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose classes and data set have such names."""
    directory = tmp_path_factory.mktemp("parent") / "results"
    effects = {"uniform": 0.0, "balanced": 0.9}
    write_study(directory, effects, 3, dataset=make_dataset(NAMES, name=NAMES[0]))
    derive(StudyDirectory(directory))
    return directory


@pytest.mark.fault(63)
def test_class_names_come_from_a_file_as_they_are(tmp_path: Path) -> None:
    labels = np.arange(60) % len(NAMES)
    images = np.random.default_rng(0).integers(0, 256, (60, 18, 18), np.uint8)
    np.savez(tmp_path / "mine.npz", images=images, labels=labels, class_names=np.array(NAMES))
    for _ in range(2):  # the second time from the cache
        assert load_dataset(f"npz:{tmp_path}/mine.npz").class_names == NAMES


@pytest.mark.fault(63)
def test_tables_and_settings_hold_them_as_they_are(directory: Path) -> None:
    (cell,) = StudyDirectory(directory).known_study().cells.values()
    assert (cell.dataset.name, cell.dataset.class_names) == (NAMES[0], NAMES)
    table = pd.read_parquet(directory / "class_scores.parquet")
    assert tuple(table.class_name.unique()) == NAMES


@pytest.mark.fault(63)
def test_reports_show_them_as_text(directory: Path) -> None:
    page = (directory / "report.html").read_text("utf-8")
    assert not re.search(r"<script|<SCRIPT", page)
    shown = html.unescape(page)
    for name in NAMES:
        assert name in shown
    markdown = (directory / "report.md").read_text("utf-8")
    assert not re.search(r"(?<!\\)<script", markdown)
    for figure in (directory / "figures").iterdir():
        assert "<script" not in figure.read_text("utf-8")


@pytest.mark.fault(63, 64)
def test_no_file_is_named_after_them(directory: Path) -> None:
    assert [path.name for path in directory.parent.iterdir()] == ["results"]
    for path in directory.rglob("*"):
        assert re.fullmatch(r"\.?[a-z0-9_.-]{1,100}", path.name)


@pytest.mark.fault(63)
def test_class_weights_are_given_by_them(tmp_path: Path) -> None:
    weights = {name: float(number) for number, name in enumerate(NAMES, start=1)}
    (tmp_path / "mine.json").write_text(json.dumps(weights), "utf-8")
    read = WeightFile().read(f"{tmp_path}/mine.json")
    assert read.for_classes(NAMES).tolist() == [1, 2, 3, 4, 5, 6]
