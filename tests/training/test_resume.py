"""A chunk that goes on from a kept state ends with the bits of one that never stopped."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import jax
import numpy as np
import pytest
from test_engine import CONFIG, make_engine, make_run

from cwjax.data.dataset import Dataset
from cwjax.training import chunk
from cwjax.training.batches import epoch_blocks
from cwjax.training.lanes import Lane
from cwjax.training.local import Engine
from cwjax.training.runs import (
    ChunkState,
    EpochFinished,
    Run,
    RunFinished,
    StepsFinished,
    TrainingEvent,
)

LANES = {"one run a device": (1, None), "vmapped over two devices": (2, 4)}
CRT = {"second_stage_from": 2, "second_stage_exponent": 0, "second_stage_head": 1}


@pytest.fixture(params=LANES)
def lanes(request: pytest.FixtureRequest) -> list[Lane]:
    num_devices, width = LANES[request.param]
    return [Lane(jax.devices()[:num_devices], width)]


@pytest.fixture(autouse=True)
def _short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two blocks an epoch of 40 examples: two steps, then one."""
    monkeypatch.setattr(chunk, "BLOCK_STEPS", 2)


def numbers(events: Sequence[TrainingEvent]) -> dict[tuple[object, ...], np.ndarray]:
    """All that the events of an engine say about runs."""
    said: dict[tuple[object, ...], np.ndarray] = {}
    for event in events:
        match event:
            case EpochFinished(run=run, epoch=epoch):
                said[run.key.arm, epoch, "loss"] = np.array(event.train_loss)
                said[run.key.arm, epoch, "validation"] = event.validation_logits
            case RunFinished(run=run):
                said[run.key.arm, "test"] = event.test_logits
                said[run.key.arm, "head"] = event.head_kernel
    return said


def stopped_after(num_blocks: int, trainer: Engine, runs: Sequence[Run]) -> list[TrainingEvent]:
    stop = threading.Event()
    events = []
    for event in trainer.train(runs, stop=stop):
        events.append(event)
        if sum(isinstance(e, StepsFinished) for e in events) == num_blocks:
            stop.set()
    return events


def test_stopped_anywhere_and_continued_is_the_same(
    tiny_dataset: Dataset, lanes: list[Lane], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three epochs of two blocks; the third is cRT's second stage."""
    monkeypatch.setattr(chunk, "CHECKPOINT_SECONDS", 0)
    runs = [make_run(seed, num_epochs=3, **CRT) for seed in range(3 if lanes[0].width else 1)]
    trainer = make_engine(tiny_dataset, lanes)
    events = list(trainer.train(runs))
    unbroken = numbers(events)
    states = [event for event in events if isinstance(event, ChunkState)]
    assert [(state.epoch, state.step) for state in states] == [
        (epoch, step) for epoch in range(3) for step in (2, 3)
    ]
    for state in states:
        rest = numbers(list(trainer.train(runs, [state])))
        assert {name: unbroken[name].tobytes() for name in rest} == {
            name: value.tobytes() for name, value in rest.items()
        }
        assert len(rest) == len(runs) * (2 + 2 * (3 - state.epoch))


def test_a_stop_gives_every_lanes_state_and_no_run_is_lost(tiny_dataset: Dataset) -> None:
    lanes = [Lane([device], None) for device in jax.devices()[:2]]
    runs = [make_run(seed) for seed in range(5)]
    trainer = make_engine(tiny_dataset, lanes)
    unbroken = numbers(list(trainer.train(runs)))
    events = stopped_after(5, trainer, runs)
    states = [event for event in events if isinstance(event, ChunkState)]
    finished = {event.run for event in events if isinstance(event, RunFinished)}
    assert len(states) <= 2
    assert len(finished) + len(states) < len(runs)
    rest = list(trainer.train([run for run in runs if run not in finished], states))
    together = numbers([*events, *rest])
    assert {n: v.tobytes() for n, v in together.items()} == {
        n: v.tobytes() for n, v in unbroken.items()
    }


def test_no_state_is_given_out_before_it_is_due(tiny_dataset: Dataset) -> None:
    trainer = make_engine(tiny_dataset, [Lane(jax.devices()[:1], None)])
    assert not any(isinstance(e, ChunkState) for e in trainer.train([make_run(0)]))


def test_the_shapes_of_a_state_are_known_beforehand(
    tiny_dataset: Dataset, lanes: list[Lane]
) -> None:
    trainer = make_engine(tiny_dataset, lanes)
    shapes = trainer.state_shapes(make_run(0))
    (state,) = (e for e in stopped_after(1, trainer, [make_run(0)]) if isinstance(e, ChunkState))
    assert {name: (array.shape, array.dtype) for name, array in state.arrays.items()} == {
        name: (leaf.shape, leaf.dtype) for name, leaf in shapes.items()
    }


@pytest.mark.fault(22)
def test_the_batches_of_an_epoch_do_not_depend_on_where_it_goes_on(tiny_dataset: Dataset) -> None:
    runs, labels = [make_run(0, sampling_exponent=0, mixup_alpha=1)], tiny_dataset.labels
    (whole,) = epoch_blocks(runs, labels, 1, CONFIG, 3)
    (rest,) = epoch_blocks(runs, labels, 1, CONFIG, 3, first_step=1)
    assert rest.num_steps == 2
    for field, field_of_rest in zip(whole.batches, rest.batches, strict=True):
        np.testing.assert_array_equal(field[:, 1:], field_of_rest[:, :2])
