"""Runs of scikit-learn estimators: one fit per core, each in a process of its own; no JAX.

A process trains one run at a time with one thread, and reads its examples from a file that all of
them map into memory. One that is killed takes no other run with it.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cloudpickle
import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from cwjax.arms.row import ArmRow
from cwjax.config import RuntimeConfig, available_cores
from cwjax.data.dataset import Dataset, Inputs
from cwjax.errors import ConfigError, one_line
from cwjax.models.estimators import Estimators, deciding, weight_parameter
from cwjax.processes import new_pool, submit
from cwjax.randomness import Purpose, rng
from cwjax.training.runs import (
    ChunkState,
    ProcessKilled,
    Run,
    RunFinished,
    RunsFailed,
    RunsStarted,
    StepsFinished,
    TrainingEvent,
)

SMALLEST_PROBABILITY = 1e-7
"""Logits are logarithms of probabilities that are at least this."""

Floats = npt.NDArray[np.float32]


class FitFailed(ConfigError):
    """The estimator raised an error."""


@dataclass(frozen=True, eq=False)
class Task:
    """All that a process needs to train one run.

    Attributes:
        estimator: pickled; not fitted.
        inputs: .npy file of all examples.
        row: of the run's arm: class weights and scaling.
        weighted: whether class weights are given to the estimator.
        key_seed: of the run.
        labels: int32 `[num_train]`.
        train_indices: int32 `[num_train]`, into the examples.
        validation_indices: int32 `[num_validation]`, the same.
        test_indices: int32 `[num_test]`, the same.
    """

    estimator: bytes
    inputs: Path
    row: ArmRow
    weighted: bool
    key_seed: int
    labels: npt.NDArray[np.int32]
    train_indices: npt.NDArray[np.int32]
    validation_indices: npt.NDArray[np.int32]
    test_indices: npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a process sends back; `error` where the estimator raised one."""

    validation_logits: Floats | None = None
    test_logits: Floats | None = None
    error: str | None = None
    warnings: tuple[str, ...] = ()


class EstimatorTrainer:
    """A `Trainer` that fits estimators in processes of this machine.

    Args:
        datasets: of every cell, by the cell's name.
        estimators: what is fitted.
        runtime: how many runs at a time [default: one per core].
    """

    def __init__(
        self, datasets: Mapping[str, Dataset], estimators: Estimators, runtime: RuntimeConfig
    ) -> None:
        self._datasets = datasets
        self._estimators = estimators
        self._width = runtime.max_parallel_runs or available_cores()
        self._warned: set[str] = set()

    def train(
        self, runs: Sequence[Run], begun: Sequence[ChunkState], stop: threading.Event
    ) -> Generator[TrainingEvent, None, None]:
        """See `Trainer.train`; nothing has ever begun, and once stopped current fits end first."""
        waiting = deque((run, 1) for run in runs)
        workers = [_Worker() for _ in range(min(self._width, len(runs)))]
        idle = list(workers)
        working: dict[Future[Outcome], tuple[_Worker, Run, int]] = {}
        with TemporaryDirectory(prefix="cwjax-") as folder:
            try:
                while True:
                    while idle and waiting and not stop.is_set():
                        worker, (run, attempt) = idle.pop(), waiting.popleft()
                        future = worker.submit(self._task(run, Path(folder)))
                        working[future] = worker, run, attempt
                        yield RunsStarted((run,))
                    if not working:
                        return
                    for future in wait(working, return_when=FIRST_COMPLETED).done:
                        worker, run, attempt = working.pop(future)
                        idle.append(worker)
                        if isinstance(future.exception(), BrokenProcessPool):
                            worker.close()
                            if attempt == 1:
                                waiting.appendleft((run, 2))
                            elif not stop.is_set():
                                yield RunsFailed((run,), ProcessKilled())
                        else:
                            yield from self._events(run, future.result())
            finally:
                for worker in workers:
                    worker.close()

    def _task(self, run: Run, folder: Path) -> Task:
        dataset = self._datasets[run.key.cell]
        file = folder / f"{dataset.fingerprint}.npy"
        if not file.exists():
            np.save(file, dataset.inputs)
        return Task(
            estimator=cloudpickle.dumps(self._estimators.of(run.key.arm)),
            inputs=file,
            row=run.row,
            weighted=self._estimators.weighted,
            key_seed=run.key_seed,
            labels=dataset.labels[run.train_indices],
            train_indices=run.train_indices,
            validation_indices=run.validation_indices,
            test_indices=run.test_indices,
        )

    def _events(self, run: Run, outcome: Outcome) -> Iterator[TrainingEvent]:
        for text in outcome.warnings:
            if (kind := re.sub(r"\d+", "", text)) not in self._warned:  # once, not for every run
                self._warned.add(kind)
                warnings.warn(f"{run.key}: {text}", stacklevel=2)
        yield StepsFinished(run.num_examples)
        if outcome.test_logits is None or outcome.validation_logits is None:
            yield RunsFailed((run,), FitFailed(outcome.error))
            return
        num_classes = outcome.test_logits.shape[1]
        yield RunFinished(
            run,
            test_logits=outcome.test_logits,
            validation_logits=outcome.validation_logits,
            head_kernel=np.zeros((0, num_classes), np.float32),
            head_bias=np.zeros(num_classes, np.float32),
        )


class _Worker:
    """One process, started when it is needed; a new one takes the place of one that was killed."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, task: Task) -> Future[Outcome]:
        """Begins to train a run."""
        try:
            return self._submit(task)
        except BrokenProcessPool:  # killed while it had nothing to do
            self.close()
            return self._submit(task)

    def _submit(self, task: Task) -> Future[Outcome]:
        if self._pool is None:
            self._pool = new_pool(1)
        return submit(self._pool, fit, task)

    def close(self) -> None:
        """Ends the process after its current run."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def fit(task: Task) -> Outcome:
    """Trains one run; an error of the estimator comes back as its text.

    Args:
        task: the run.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outcome = _outcome(task)
    texts = [f"{each.category.__name__}: {' '.join(str(each.message).split())}" for each in caught]
    return replace(outcome, warnings=tuple(dict.fromkeys(texts)))


def _outcome(task: Task) -> Outcome:
    try:
        estimator = cloudpickle.loads(task.estimator)
        with threadpool_limits(limits=1):
            return Outcome(*_fitted_logits(estimator, task))
    except Exception as error:  # an estimator may raise anything
        return Outcome(error=one_line(error))


def _fitted_logits(estimator: Any, task: Task) -> tuple[Floats, Floats]:
    """Logits of the validation and the test examples."""
    examples = np.load(task.inputs, mmap_mode="r")
    estimator.set_params(**run_parameters(estimator, task.key_seed))
    # Labels without a gap: some estimators take no others.
    present, labels = np.unique(task.labels, return_inverse=True)
    weights = {}
    if task.weighted:
        parameter = weight_parameter(estimator)
        assert parameter is not None  # checked before anything trains
        weights[parameter] = task.row.class_weights[task.labels]
    estimator.fit(prepared(examples[task.train_indices], task.row), labels, **weights)
    validation, test = (
        _logits(estimator, prepared(examples[indices], task.row), present, task.row)
        for indices in (task.validation_indices, task.test_indices)
    )
    return validation, test


def run_parameters(estimator: Any, key_seed: int) -> dict[str, int]:
    """What every run sets: each `random_state`, and each `n_jobs` to a single one.

    Args:
        estimator: with estimators inside it or without.
        key_seed: of the run.
    """
    generator = rng(key_seed, Purpose.ESTIMATOR)
    parameters = {}
    for name, value in sorted(estimator.get_params(deep=True).items()):
        last = name.rpartition("__")[2]
        if last == "random_state":
            parameters[name] = int(generator.integers(2**31))  # LightGBM takes no more
        elif last == "n_jobs" and value not in (None, 1):
            parameters[name] = 1
    return parameters


def prepared(inputs: Inputs, row: ArmRow) -> Floats:
    """Inputs as networks get them, flat: pixels / 255, or features that are filled and scaled.

    Args:
        inputs: uint8 `[num_examples, height, width, channels]` or float32
            `[num_examples, num_features]`.
        row: has the run's scaling.

    Returns:
        float32 `[num_examples, num_features]`.
    """
    if inputs.dtype == np.uint8:
        return inputs.reshape(len(inputs), -1).astype(np.float32) / np.float32(255)
    filled = np.where(np.isnan(inputs), row.input_fill, inputs)
    standardised: Floats = (filled - row.input_mean) / row.input_scale
    return standardised


def _logits(estimator: Any, inputs: Floats, present: npt.NDArray[np.int32], row: ArmRow) -> Floats:
    """Logarithms of probabilities, from which `argmax` finds what the estimator predicts.

    Args:
        estimator: fitted.
        inputs: prepared.
        present: the classes that it was trained on; the others get probability 0.
        row: of the run.
    """
    probabilities = np.zeros((len(inputs), len(row.class_weights)))
    probabilities[:, present[estimator.classes_]] = estimator.predict_proba(inputs)
    logits = np.log(np.maximum(probabilities, SMALLEST_PROBABILITY))
    threshold = _threshold(estimator)
    if threshold is not None:
        # A probability that equals the threshold is above it, in float32 too.
        share = np.clip(threshold * (1 - 1e-5), SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
        logits[:, present] -= np.log([1 - share, share])
    return logits.astype(np.float32)


def _threshold(estimator: Any) -> float | None:
    """The probability from which the second of two classes is predicted, where it is not 1/2."""
    from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV

    estimator = deciding(estimator)
    if isinstance(estimator, TunedThresholdClassifierCV):
        return float(estimator.best_threshold_)
    if isinstance(estimator, FixedThresholdClassifier) and estimator.threshold != "auto":
        return float(estimator.threshold)
    return None
