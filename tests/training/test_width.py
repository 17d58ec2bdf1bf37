"""The width of accelerators, on devices that only say what accelerators say."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from flax import nnx

from cwjax.arms.row import uniform_row
from cwjax.config import TrainConfig
from cwjax.data.dataset import Dataset
from cwjax.models.cnn import CNN
from cwjax.training import width
from cwjax.training.lanes import default_lanes
from cwjax.training.optim import OPTIMIZERS
from cwjax.training.runs import Run, RunKey
from cwjax.training.step import Programs, make_programs

CONFIG = TrainConfig(num_epochs=1, batch_size=16)
RUN = Run(
    key=RunKey("", "uniform", 0),
    key_seed=0,
    row=uniform_row(3),
    train_indices=np.arange(40, dtype=np.int32),
    validation_indices=np.arange(1, dtype=np.int32),
    test_indices=np.arange(180, 240, dtype=np.int32),
    first_stage_epochs=1,
    num_epochs=1,
)


def make_cnn(rngs: nnx.Rngs) -> CNN:
    return CNN((18, 18, 1), 3, rngs=rngs)


def programs() -> Programs:
    return make_programs(make_cnn, OPTIMIZERS["rmsprop"](), CONFIG, 3)


@pytest.fixture
def accelerators(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """Four devices of a gigabyte, and runs of ten megabytes."""
    devices = [
        SimpleNamespace(platform="gpu", memory_stats=lambda: {"bytes_limit": 10**9})
        for _ in range(4)
    ]
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    monkeypatch.setattr(width, "run_bytes", lambda *_: 10**7)
    return devices


def fitting(dataset: Dataset, max_parallel_runs: int | None = None) -> int | None:
    return width.fitting_width(RUN, dataset, programs(), CONFIG, max_parallel_runs)


@pytest.mark.usefixtures("accelerators")
def test_memory_and_the_limit_decide(
    tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fitting(tiny_dataset) == 4 * width.RUNS_PER_DEVICE
    assert fitting(tiny_dataset, 6) == 8  # every device alike
    assert fitting(tiny_dataset, 1000) == 4 * 79  # 80 but for the data set
    monkeypatch.setattr(width, "run_bytes", lambda *_: 10**8)
    assert fitting(tiny_dataset) == 4 * 7
    monkeypatch.setattr(width, "run_bytes", lambda *_: 10**10)
    assert fitting(tiny_dataset) == 4


def test_devices_that_do_not_tell_their_memory(
    tiny_dataset: Dataset, accelerators: list[SimpleNamespace]
) -> None:
    accelerators[1].memory_stats = lambda: None
    assert fitting(tiny_dataset) == 4 * width.RUNS_PER_DEVICE


def test_no_width_on_cpu(tiny_dataset: Dataset) -> None:
    assert fitting(tiny_dataset) is None
    assert all(lane.width is None for lane in default_lanes(None))


@pytest.mark.slow
def test_what_a_run_needs_is_more_than_its_parameters(tiny_dataset: Dataset) -> None:
    params = nnx.state(make_cnn(nnx.Rngs(0)), nnx.Param)
    num_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    assert width.run_bytes(RUN, tiny_dataset, programs(), CONFIG) > 4 * num_bytes
