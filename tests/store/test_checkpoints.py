"""Checkpoints are whole, are kept as long as they are needed, and are nobody else's."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from drawn_runs import CELL, make_dataset, make_record, write_study

from cwjax.arms.row import uniform_row
from cwjax.errors import ConfigError
from cwjax.store.checkpoints import Checkpoints
from cwjax.store.directory import StudyDirectory, open_study
from cwjax.store.schema import CheckpointHeader, StudyFile, to_npz
from cwjax.training.local import check_state
from cwjax.training.runs import ChunkState, Run, RunKey


@pytest.fixture
def study(tmp_path: Path) -> StudyFile:
    effects = {"uniform": 0.0, "balanced": 0.5}
    return write_study(tmp_path, effects, missing=[(a, s) for a in effects for s in range(8)])


@pytest.fixture
def directory(tmp_path: Path, study: StudyFile) -> Iterator[StudyDirectory]:
    with open_study(tmp_path) as directory:
        yield directory


def make_run(arm: str, seed: int) -> Run:
    return Run(
        key=RunKey(CELL, arm, seed),
        key_seed=seed,
        row=uniform_row(3),
        train_indices=np.arange(40, dtype=np.int32),
        validation_indices=np.arange(40, 50, dtype=np.int32),
        test_indices=np.arange(50, 60, dtype=np.int32),
        first_stage_epochs=5,
        num_epochs=5,
    )


def make_state(*runs: Run, epoch: int = 0, width: int | None = None) -> ChunkState:
    arrays = {"step": np.full(len(runs), epoch, np.int32), "params/kernel": np.ones((len(runs), 4))}
    return ChunkState(runs, epoch, 2, arrays, width)


def histories(*runs: Run, epoch: int = 0) -> dict[RunKey, list[dict[str, float]]]:
    row = {"train_loss": 0.1, "val_loss": float("nan")}
    return {run.key: [{**row, "train_loss": 0.1 + run.key.seed}] * epoch for run in runs}


def checkpoints(directory: StudyDirectory) -> list[str]:
    root = directory.path / "checkpoints"
    return sorted(str(path.relative_to(root)) for path in root.glob("*/*"))


def chunks(directory: StudyDirectory) -> set[str]:
    return {name.partition("/")[0] for name in checkpoints(directory)}


def test_the_newest_comes_back_as_it_was_and_one_more_is_kept(
    directory: StudyDirectory, study: StudyFile
) -> None:
    run = make_run("uniform", 7)
    for epoch in range(4):
        state, history = make_state(run, epoch=epoch), histories(run, epoch=epoch)
        Checkpoints(directory).save(state, history, study)
    (chunk,) = chunks(directory)
    assert checkpoints(directory) == [f"{chunk}/3.checkpoint", f"{chunk}/4.checkpoint"]
    (saved,) = Checkpoints(directory).load([make_run("balanced", 7), run], study)
    assert (saved.state.runs, saved.state.epoch, saved.state.step) == ((run,), 3, 2)
    assert repr(saved.histories) == repr(histories(run, epoch=3))  # NaN is not itself
    for name, array in make_state(run, epoch=3).arrays.items():
        np.testing.assert_array_equal(saved.state.arrays[name], array)
        assert saved.state.arrays[name].dtype == array.dtype


def test_they_go_when_all_runs_of_the_chunk_are_stored(
    directory: StudyDirectory, study: StudyFile
) -> None:
    first, second = make_run("uniform", 0), make_run("balanced", 0)
    kept = Checkpoints(directory)
    kept.save(make_state(first, second), histories(first, second), study)
    (chunk,) = chunks(directory)
    assert chunk.startswith("2-")
    kept.remove_ended(first.key)
    assert chunks(directory) == {chunk}
    kept.remove_ended(second.key)
    assert not (directory.path / "checkpoints").exists()


def test_what_cannot_be_continued_is_removed(directory: StudyDirectory, study: StudyFile) -> None:
    """A chunk that finished in part; one of another width; a write that has never ended."""
    done, left, wider = make_run("uniform", 0), make_run("uniform", 1), make_run("uniform", 2)
    kept = Checkpoints(directory)
    kept.save(make_state(done, left), histories(done, left), study)
    directory.write_run(make_record(make_dataset(), done.key, 0.0))
    (directory.path / "checkpoints" / "never-ended").mkdir()
    kept.save(make_state(wider, width=8), histories(wider), study)
    cell = dataclasses.replace(study.cells[CELL], width=4)
    narrower = dataclasses.replace(study, cells={CELL: cell})
    assert Checkpoints(directory).load([left, wider], narrower) == []
    assert not (directory.path / "checkpoints").exists()
    lines = (directory.path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["checkpoint_removed"] * 3


@pytest.mark.fault(17)
def test_one_of_another_study_is_refused_with_the_difference(
    directory: StudyDirectory, study: StudyFile
) -> None:
    run = make_run("uniform", 0)
    Checkpoints(directory).save(make_state(run), histories(run), study)
    other = dataclasses.replace(study, train=dataclasses.replace(study.train, batch_size=9))
    with pytest.raises(ConfigError, match=r"is of another study \(batch_size: 56, now 9\): give w"):
        Checkpoints(directory).load([run], other)
    assert len(checkpoints(directory)) == 1


def test_a_header_that_does_not_fit_is_refused(directory: StudyDirectory, study: StudyFile) -> None:
    run = make_run("uniform", 0)
    Checkpoints(directory).save(make_state(run), histories(run), study)
    (path,) = (directory.path / "checkpoints").glob("*/*")
    header = CheckpointHeader(
        train=study.train, data=study.cells[CELL].data, dataset="", width=None, runs=(),
        epoch=0, step=0, histories=(),
    )  # fmt: skip
    for content, message in {
        to_npz(header, {}): r"header\.histories: not one per run",
        to_npz({"schema_version": "1.x"}, {}): r"has schema version 1\.x, this cwjax reads",
        to_npz([], {}): "is damaged .*Expected `object`",
    }.items():
        path.write_bytes(hashlib.sha256(content).digest() + content)
        with pytest.raises(ConfigError, match=message):
            Checkpoints(directory).load([run], study)


@pytest.mark.fault(18)
def test_arrays_of_another_model_are_named() -> None:
    state = make_state(make_run("uniform", 0))
    shapes = {name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in state.arrays.items()}
    check_state(state, shapes)
    other = shapes | {"params/kernel": jax.ShapeDtypeStruct((1, 4), np.float32)}
    with pytest.raises(
        ConfigError, match=r"params/kernel: float64\[1, 4\], now float32\[1, 4\]\): give what it"
    ):
        check_state(state, other)
