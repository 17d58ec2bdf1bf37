"""The store keeps whole files or none, and one process at a time."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from drawn_runs import CELL, make_dataset, make_record, write_study
from hypothesis import given
from hypothesis import strategies as st

from cwjax.errors import ConfigError
from cwjax.store import files
from cwjax.store.directory import StudyDirectory, check_directory, open_study
from cwjax.store.files import file_name, write_atomically
from cwjax.store.schema import RunRecord
from cwjax.training.runs import RunKey

UNIFORM = RunKey(CELL, "uniform", 0)


def record_of(key: RunKey) -> RunRecord:
    return make_record(make_dataset(), key, effect=0.5)


def run_files(path: Path) -> list[Path]:
    return sorted((path / "runs" / CELL).iterdir())


def test_a_run_comes_back_as_it_was(tmp_path: Path) -> None:
    key = RunKey(CELL, "focal:gamma=0.5", 3)
    record = record_of(key)
    scores = record.scores | {"recall_few": float("nan")}
    recall = np.array([0.25, np.nan, 1])
    record = dataclasses.replace(
        record,
        scores=scores,
        chosen={"tau": 0.7},
        class_scores=record.class_scores | {"recall": recall},
    )
    with open_study(tmp_path / "new") as directory:
        assert not directory.has_run(key)
        directory.write_run(record)
        back = directory.read_run(key)
        header = directory.read_run_header(key)
    for name, value in vars(record).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(back, name), value)
            assert getattr(back, name).dtype == value.dtype
    assert (back.key, back.status, back.chosen) == (key, "ok", {"tau": 0.7})
    assert back.scores == pytest.approx(scores, nan_ok=True, rel=0)
    for group in ("class_scores", "history"):
        for name, value in getattr(record, group).items():
            np.testing.assert_array_equal(getattr(back, group)[name], value)
            assert getattr(back, group)[name].dtype == value.dtype
    assert (header.key, header.status, header.chosen) == (key, "ok", {"tau": 0.7})
    assert header.scores == {n: None if np.isnan(s) else s for n, s in scores.items()}


def test_equal_runs_are_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with open_study(tmp_path / name) as directory:
            directory.write_run(record_of(UNIFORM))
    first, second = (run_files(tmp_path / name)[0].read_bytes() for name in "ab")
    assert first == second


def test_a_finished_run_is_never_written_again(tmp_path: Path) -> None:
    with open_study(tmp_path) as directory:
        directory.write_run(record_of(UNIFORM))
        with pytest.raises(FileExistsError, match="never written again"):
            directory.write_run(record_of(UNIFORM))


@pytest.mark.fault(65)
@pytest.mark.parametrize("damage", ["short", "empty", "other arm"])
def test_a_damaged_run_is_named(tmp_path: Path, damage: str) -> None:
    arm = "balanced" if damage == "other arm" else "uniform"
    with open_study(tmp_path) as directory:
        directory.write_run(record_of(RunKey(CELL, arm, 0)))
        content = run_files(tmp_path)[0].read_bytes()
        target = directory.run_path(UNIFORM)
        target.write_bytes({"short": content[:-50], "empty": b""}.get(damage, content))
        for read in (directory.read_run, directory.read_run_header):
            with pytest.raises(
                ConfigError, match=r"uniform-0\.npz .*remove it to train the run again"
            ):
                read(UNIFORM)


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "comparison.json"
    write_atomically(path, b"old")

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, call, no_space)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["comparison.json"]


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    write_study(tmp_path, {"uniform": 0.0}, seeds=(0,))
    (tmp_path / "runs" / "deeper").mkdir()
    (tmp_path / "runs" / ".tmp-1-uniform-0.npz").write_bytes(b"half")
    (tmp_path / ".tmp-1-study.json").write_bytes(b"half")
    (tmp_path / "runs" / "deeper" / ".tmp-1-slopes.svg").write_bytes(b"half")
    with open_study(tmp_path):
        assert [path.name for path in tmp_path.rglob(".tmp-*")] == []


@pytest.mark.fault(12)
def test_a_second_process_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    code = (
        "import pathlib; from cwjax.store.directory import open_study\n"
        f"with open_study(pathlib.Path({str(tmp_path)!r})): pass"
    )
    with open_study(tmp_path):
        second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"is in use by process {os.getpid()} on" in second.stderr
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.fault(11)
def test_directories_that_cannot_be_used(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(ConfigError, match="is a file: give a directory"):
        check_directory(file)
    with pytest.raises(ConfigError, match="is a file: give a directory"):
        check_directory(file / "below")
    with pytest.raises(ConfigError, match=r"holds file but no study\.json"):
        check_directory(tmp_path)
    check_directory(tmp_path / "new" / "deep")
    assert sorted(os.listdir(tmp_path)) == ["file"]


@pytest.mark.fault(64)
@given(st.text(max_size=300), st.text(max_size=300))
def test_file_names_are_portable_and_tell_arms_apart(a: str, b: str) -> None:
    assert file_name(a).isascii()
    assert not set(file_name(a)) & set('/\\:*?"<>| ')
    assert len(file_name(a)) <= 100
    if a != b:
        assert file_name(a) != file_name(b)


def test_a_holder_that_nobody_can_read_is_still_a_holder(tmp_path: Path) -> None:
    with open_study(tmp_path):
        (tmp_path / ".holder").write_bytes(b"\xff")
        code = (
            "import pathlib; from cwjax.store.directory import open_study\n"
            f"with open_study(pathlib.Path({str(tmp_path)!r})): pass"
        )
        second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ConfigError: --out" in second.stderr
    assert "is in use by" in second.stderr


@pytest.mark.parametrize("name", ["config.json", "sweep.json"])
def test_a_directory_of_the_first_edition_is_told_to_be_one(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    message = rf"{tmp_path} was written by cwjax 0\.1 \({name}\): use that version"
    for use in (check_directory, lambda path: StudyDirectory(path).known_study()):
        with pytest.raises(ConfigError, match=message) as caught:
            use(tmp_path)
        assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_no_directory_and_none_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere: no such directory: give a directory of res"):
        StudyDirectory(tmp_path / "nowhere").known_study()
    with pytest.raises(ConfigError, match=r"holds no study\.json: give a directory of results"):
        StudyDirectory(tmp_path).known_study()


def test_a_study_comes_back_as_it_was(tmp_path: Path) -> None:
    study = write_study(
        tmp_path,
        {"uniform": 0.0, "focal:weights=effective_number(0.9)": 0.4, "tau_norm": 0.5},
        2,
        null_control=True,
        failures={("tau_norm", 1): "RuntimeError: <no> memory"},
    )
    assert StudyDirectory(tmp_path).read_study() == study
    before = (tmp_path / "study.json").read_bytes()
    StudyDirectory(tmp_path).write_study(study)
    assert (tmp_path / "study.json").read_bytes() == before
    assert not (tmp_path / "missing").exists()
