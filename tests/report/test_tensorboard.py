"""Event files as TensorBoard's own reader reads them."""

from __future__ import annotations

import builtins
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorboardX", reason="the extra `tensorboard` is not installed")

from drawn_runs import make_dataset, make_record

from cwjax.errors import ConfigError
from cwjax.report import tensorboard
from cwjax.store.files import file_name
from cwjax.training.runs import RunKey


def read_back(folder: Path) -> dict[str, list[tuple[int, float]]]:
    pytest.importorskip("tensorboard", reason="TensorBoard itself is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder))
    reader.Reload()
    return {
        tag: [(event.step, event.value) for event in reader.Scalars(tag)]
        for tag in reader.Tags()["scalars"]
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TensorBoard's own imports
def test_one_run_per_arm_and_seed_with_history_and_scores(tmp_path: Path) -> None:
    record = make_record(make_dataset(), RunKey("toy-none", "ldam:c=0.5", 3), 0.2)
    path = tensorboard.write_run(record, tmp_path)
    assert path.parent == tmp_path / "tensorboard" / "toy-none" / f"{file_name('ldam:c=0.5')}-3"
    scalars = read_back(path.parent)
    losses = record.history["train_loss"].astype(np.float32)
    assert scalars["train/loss"] == list(enumerate(losses.tolist(), start=1))
    for metric, value in record.scores.items():
        if np.isfinite(value):
            assert scalars[f"test/{metric}"] == [(3, pytest.approx(value, rel=1e-6))]
        else:
            assert f"test/{metric}" not in scalars


def test_the_same_run_gives_the_same_bytes_without_clock_or_host(tmp_path: Path) -> None:
    record = make_record(make_dataset(), RunKey("toy-none", "uniform", 0), 0.0)
    first = tensorboard.write_run(record, tmp_path).read_bytes()
    path = tensorboard.write_run(record, tmp_path)
    assert path.read_bytes() == first
    assert [file.name for file in path.parent.iterdir()] == ["events.out.tfevents.0"]


def test_without_the_package_it_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def failing(name: str, *args: object, **kwargs: object) -> object:
        if name == "tensorboardX":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", failing)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[tensorboard\]'"):
        tensorboard.require_tensorboard()
