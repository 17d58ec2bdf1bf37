"""Four CPU devices for every test, as on a machine with accelerators."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import jax
import numpy as np
import pytest

from cwjax.cli import command_line, compare
from cwjax.config import DataConfig, StudyConfig, TrainConfig
from cwjax.data.dataset import Dataset
from cwjax.study import derive
from cwjax.training import estimators, local
from cwjax.training.devices import SINGLE_THREADED, use_compile_cache
from cwjax.training.estimators import Outcome, Task, fit

pytest_plugins = ["faults.table"]

os.environ["XLA_FLAGS"] = SINGLE_THREADED
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
jax.devices()  # started now: a test that configures JAX for itself must not change the others'


@pytest.fixture(scope="session")
def tiny_dataset() -> Dataset:
    """Three classes of 18 x 18 noise around a class mean: learnable in a few steps."""
    generator = np.random.default_rng(0)
    means = generator.uniform(0, 255, (3, 18, 18, 1))

    def split(num_per_class: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.arange(3, dtype=np.int32), num_per_class)
        noise = generator.normal(0, 60, (len(labels), 18, 18, 1))
        return np.clip(means[labels] + noise, 0, 255).astype(np.uint8), labels

    return Dataset.from_splits("tiny", split(60), split(20), ("a", "b", "c"))


@pytest.fixture(scope="session")
def tiny_npz(tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny data set as an `npz:` spec for the command line."""
    path = tmp_path_factory.mktemp("data") / "tiny.npz"
    np.savez(
        path,
        images=tiny_dataset.train_inputs,
        labels=tiny_dataset.train_labels,
        test_images=tiny_dataset.test_inputs,
        test_labels=tiny_dataset.test_labels,
        class_names=np.array(tiny_dataset.class_names),
    )
    return f"npz:{path}"


@pytest.fixture
def tiny_config(tiny_npz: str) -> StudyConfig:
    """Two arms, two seeds, two epochs on the tiny data set."""
    return StudyConfig(
        data=(DataConfig(dataset=tiny_npz, imbalance_factor=4),),
        train=TrainConfig(num_epochs=2, batch_size=16, model="linear"),
        num_seeds=2,
    )


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures and pages take seconds; where a test is not about them they are left out."""
    for name in ("write_cell_report", "write_study_report"):
        monkeypatch.setattr(derive, name, lambda *_: None)


class _HereWorker:
    """In the place of a process that fits estimators."""

    def submit(self, task: Task) -> Future[Outcome]:
        future = Future[Outcome]()
        future.set_result(fit(task))
        return future

    def close(self) -> None:
        pass


@pytest.fixture
def fits_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes take seconds to start: where a test is not about them, fits need none."""
    monkeypatch.setattr(estimators, "_Worker", _HereWorker)


@pytest.fixture
def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., str]:
    """Calls `compare`, which must refuse before anything compiles or is written.

    Returns its one line on standard error.
    """

    def compiled(*_: object, **__: object) -> None:
        raise AssertionError("programs were compiled")

    def call(*flags: str) -> str:
        out = tmp_path / "results"
        monkeypatch.setattr(sys, "argv", ["compare", *flags, "--out", str(out)])
        monkeypatch.setattr(local.Engine, "__init__", compiled)
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # scripts replace it
        with pytest.raises(SystemExit) as end:
            command_line.run_main(compare.main)
        printed = capsys.readouterr()
        assert (end.value.code, printed.out) == (2, "")
        assert printed.err.startswith("error: ")
        assert len(printed.err.splitlines()) == 1
        assert not out.exists()
        return printed.err

    return call


@pytest.fixture(scope="session", autouse=True)
def _own_cache(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """No test touches the user's cache; each process has its own, but for compiled programs.

    Those serve all processes, and the next call of pytest.
    """
    compiled = pytestconfig.rootpath / ".pytest_cache" / "compiled"
    compiled.mkdir(parents=True, exist_ok=True)
    cache = tmp_path_factory.mktemp("cache")
    (cache / "compiled").symlink_to(compiled)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("CWJAX_CACHE", str(cache))
        use_compile_cache(compiled)
        yield
