"""Checkpoints are whole, are kept as long as they are needed, and are nobody else's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_store import make_record

from cwjax.errors import ConfigError
from cwjax.events import ChunkState
from cwjax.methods.arm_row import uniform_row
from cwjax.plan import Run
from cwjax.results.checkpoints import Checkpoints, check_shapes, shapes_of
from cwjax.results.store import Store, open_store

CONFIG = {"settings": {"train": {}}, "dataset": {"fingerprint": "f"}, "width": None}


@pytest.fixture
def store(tmp_path: Path):
    with open_store(tmp_path) as store:
        store.write_json("config.json", CONFIG)
        yield store


def make_run(arm: str, seed: int) -> Run:
    return Run(
        cell="",
        arm=arm,
        seed=seed,
        key_seed=seed,
        row=uniform_row(3),
        train_indices=np.arange(40, dtype=np.int32),
        validation_indices=np.arange(40, 50, dtype=np.int32),
        first_stage_epochs=5,
        num_epochs=5,
    )


def make_state(*runs: Run, epoch: int = 0, width: int | None = None) -> ChunkState:
    arrays = {"step": np.full(len(runs), epoch, np.int32), "params/kernel": np.ones((len(runs), 4))}
    return ChunkState(runs, epoch, 2, arrays, width)


def histories(*runs: Run, epoch: int = 0) -> dict[Run, list[dict[str, float]]]:
    return {run: [{"train_loss": 0.1 + run.seed, "val_loss": float("inf")}] * epoch for run in runs}


def checkpoints(store: Store) -> list[str]:
    root = store.directory / "checkpoints"
    return sorted(str(path.relative_to(root)) for path in root.glob("*/*"))


def test_the_newest_comes_back_as_it_was_and_one_more_is_kept(store: Store) -> None:
    run = make_run("uniform", 7)
    for epoch in range(4):
        Checkpoints(store).save(make_state(run, epoch=epoch), histories(run, epoch=epoch))
    assert checkpoints(store) == ["uniform-7/3.checkpoint", "uniform-7/4.checkpoint"]
    (saved,) = Checkpoints(store).load([make_run("balanced", 7), run])
    assert (saved.state.runs, saved.state.epoch, saved.state.step) == ((run,), 3, 2)
    assert saved.histories == histories(run, epoch=3)
    for name, array in make_state(run, epoch=3).arrays.items():
        np.testing.assert_array_equal(saved.state.arrays[name], array)
        assert saved.state.arrays[name].dtype == array.dtype


def test_they_go_when_all_runs_of_the_chunk_are_stored(store: Store) -> None:
    first, second = make_run("uniform", 0), make_run("balanced", 0)
    kept = Checkpoints(store)
    kept.save(make_state(first, second), histories(first, second))
    (name,) = checkpoints(store)
    assert name.startswith("uniform-0+1-more-")
    kept.remove_finished(first)
    assert checkpoints(store) == [name]
    kept.remove_finished(second)
    assert not (store.directory / "checkpoints").exists()


def test_what_cannot_be_continued_is_removed(store: Store) -> None:
    """A chunk that finished in part; one of another width; a write that has never ended."""
    done, left, wider = make_run("uniform", 0), make_run("uniform", 1), make_run("uniform", 2)
    kept = Checkpoints(store)
    kept.save(make_state(done, left), histories(done, left))
    store.write_run(make_record("uniform", 0))
    (store.directory / "checkpoints" / "uniform-1").mkdir()
    kept.save(make_state(wider, width=8), histories(wider))
    store.write_json("config.json", CONFIG | {"width": 4})
    assert Checkpoints(store).load([done, left, wider]) == []
    assert not (store.directory / "checkpoints").exists()
    events = [json.loads(line) for line in (store.directory / "log.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["checkpoint_removed"] * 3


def test_those_of_another_process_are_left_alone(store: Store) -> None:
    mine, others = make_run("uniform", 0), make_run("uniform", 10)
    Checkpoints(store).save(make_state(others), histories(others))
    assert Checkpoints(store).load([mine]) == []
    assert checkpoints(store) == ["uniform-10/1.checkpoint"]


def test_arrays_of_another_model_are_named(store: Store) -> None:
    run = make_run("uniform", 0)
    Checkpoints(store).save(make_state(run), histories(run))
    (saved,) = Checkpoints(store).load([run])
    check_shapes(saved, shapes_of(saved.state.arrays))
    expected = shapes_of(saved.state.arrays) | {
        "step": "int32[1]",
        "params/kernel": "float32[1, 4]",
    }
    words = (
        r'params/kernel: "float64\[1, 4\]", now "float32\[1, 4\]"\): give .* remove that directory'
    )
    with pytest.raises(ConfigError, match=words):
        check_shapes(saved, expected)
