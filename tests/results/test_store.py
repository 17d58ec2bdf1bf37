"""The store keeps whole files or none, and one process at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwjax.errors import ConfigError
from cwjax.results import store as store_module
from cwjax.results.files import file_name, write_atomically
from cwjax.results.record import RunRecord
from cwjax.results.store import check_directory, open_store


def make_record(arm: str = "uniform", seed: int = 0) -> RunRecord:
    generator = np.random.default_rng(seed)
    return RunRecord(
        arm=arm,
        seed=seed,
        status="ok",
        scores={"accuracy": 0.5, "recall_few": float("nan")},
        class_scores={"recall": np.array([0.25, np.nan]), "n_test": np.array([3, 0])},
        history={"train_loss": np.array([2.0, 1.0])},
        confusion_matrix=np.array([[1, 2], [3, 4]]),
        test_logits=generator.normal(size=(5, 2)).astype(np.float32),
        validation_logits=generator.normal(size=(3, 2)).astype(np.float32),
        class_counts=np.array([7, 3]),
        class_weights=np.ones(2, np.float32),
        head_kernel=generator.normal(size=(4, 2)).astype(np.float32),
        head_bias=np.zeros(2, np.float32),
    )


def test_a_run_comes_back_as_it_was(tmp_path: Path) -> None:
    record = make_record("focal:gamma=0.5", 3)
    with open_store(tmp_path / "new") as store:
        assert not store.has_run(record.arm, record.seed)
        store.write_run(record)
        back = store.read_run(record.arm, record.seed)
    for name, value in vars(record).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(back, name), value)
            assert getattr(back, name).dtype == value.dtype
    assert back.status == "ok"
    assert back.scores["accuracy"] == 0.5
    assert np.isnan(back.scores["recall_few"])
    np.testing.assert_array_equal(back.class_scores["recall"], [0.25, np.nan])
    np.testing.assert_array_equal(back.history["train_loss"], [2.0, 1.0])


def test_equal_runs_are_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with open_store(tmp_path / name) as store:
            store.write_run(make_record())
    first, second = (next((tmp_path / name / "runs").iterdir()).read_bytes() for name in "ab")
    assert first == second


def test_a_finished_run_is_never_written_again(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.write_run(make_record())
        with pytest.raises(FileExistsError, match="never written again"):
            store.write_run(make_record())


@pytest.mark.fault(65)
@pytest.mark.parametrize("damage", ["short", "empty", "other arm"])
def test_a_damaged_run_is_named(tmp_path: Path, damage: str) -> None:
    with open_store(tmp_path) as store:
        store.write_run(make_record("balanced" if damage == "other arm" else "uniform"))
        path = next((tmp_path / "runs").iterdir())
        content = path.read_bytes()
        target = store.run_path("uniform", 0)
        target.write_bytes({"short": content[:-50], "empty": b""}.get(damage, content))
        with pytest.raises(ConfigError, match=r"uniform-0\.npz .*remove it to train the run again"):
            store.read_run("uniform", 0)


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "comparison.json"
    write_atomically(path, b"old")

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module.os, call, no_space)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["comparison.json"]


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    with open_store(tmp_path):
        pass
    (tmp_path / "runs" / "deeper").mkdir(parents=True)
    (tmp_path / "runs" / ".tmp-1-uniform-0.npz").write_bytes(b"half")
    (tmp_path / ".tmp-1-config.json").write_bytes(b"half")
    (tmp_path / "runs" / "deeper" / ".tmp-1-slopes.svg").write_bytes(b"half")
    with open_store(tmp_path):
        assert [path.name for path in tmp_path.rglob(".tmp-*")] == []


@pytest.mark.fault(12)
def test_a_second_process_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    code = (
        "import pathlib; from cwjax.results.store import open_store\n"
        f"with open_store(pathlib.Path({str(tmp_path)!r})): pass"
    )
    with open_store(tmp_path):
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
    with pytest.raises(ConfigError, match=r"holds file but no config\.json"):
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
