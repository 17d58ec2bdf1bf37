"""Estimators in processes train what a plain scikit-learn loop trains, whoever is killed."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits
from toys.deadly import Deadly, Failing

from cwjax.arms.row import uniform_row
from cwjax.config import DataConfig, RuntimeConfig, StudyConfig, TrainConfig
from cwjax.data.dataset import Dataset
from cwjax.errors import ConfigError
from cwjax.models.estimators import Estimators, check_estimator, parameters_of, weight_parameter
from cwjax.randomness import Purpose, rng
from cwjax.study.manifest import describe
from cwjax.study.plan import Plan, lay_out, make_plan, parse_design
from cwjax.training.estimators import EstimatorTrainer, FitFailed, fit, prepared
from cwjax.training.runs import (
    ProcessKilled,
    Run,
    RunFinished,
    RunsFailed,
    RunsStarted,
    TrainingEvent,
)
from cwjax.training.step import preprocess

WINE = DataConfig(dataset="sklearn:wine", imbalance="none", test_split="per-seed")


def small_plan(estimator: Any = None, **settings: Any) -> Plan:
    """Uniform and balanced weights on two seeds of 178 wines in three classes."""
    name = "estimator:logistic_regression"
    settings = {"num_seeds": 2} | settings
    config = StudyConfig(data=(WINE,), train=TrainConfig(model=name), **settings)
    if estimator is None:
        return make_plan(config)
    plan = make_plan(config)
    datasets = {WINE.dataset: next(iter(plan.cells.values())).dataset}
    return lay_out(parse_design(config, Estimators(estimator)), config.data, datasets)


def trainer(plan: Plan, **runtime: Any) -> EstimatorTrainer:
    assert plan.design.estimators is not None
    datasets = {name: cell.dataset for name, cell in plan.cells.items()}
    return EstimatorTrainer(datasets, plan.design.estimators, RuntimeConfig(**runtime))


def train(plan: Plan, **runtime: Any) -> list[TrainingEvent]:
    return list(trainer(plan, **runtime).train(plan.trained_runs, (), threading.Event()))


def finished(events: list[TrainingEvent]) -> dict[str, RunFinished]:
    return {str(event.run.key): event for event in events if isinstance(event, RunFinished)}


def scikit_learn_loop(estimator: Any, dataset: Dataset, run: Run) -> tuple[np.ndarray, np.ndarray]:
    """What somebody would write who trains this run alone: probabilities, validation and test."""
    seed = int(rng(run.key_seed, Purpose.ESTIMATOR).integers(2**31))
    if "random_state" in estimator.get_params():
        estimator.set_params(random_state=seed)
    labels = dataset.labels[run.train_indices]
    inputs = {
        name: (dataset.inputs[getattr(run, f"{name}_indices")] - run.row.input_mean)
        / run.row.input_scale
        for name in ("train", "validation", "test")
    }
    counts = np.bincount(labels)
    balanced = (len(labels) / (len(counts) * counts)).astype(np.float32)
    weights = balanced if run.key.arm == "balanced" else np.ones(len(counts), np.float32)
    with threadpool_limits(limits=1):
        estimator.fit(inputs["train"], labels, sample_weight=weights[labels])
        return estimator.predict_proba(inputs["validation"]), estimator.predict_proba(
            inputs["test"]
        )


@pytest.mark.parametrize(
    "make",
    [
        lambda: LogisticRegression(max_iter=1000),
        lambda: RandomForestClassifier(n_estimators=5, n_jobs=-1),
        lambda: HistGradientBoostingClassifier(max_iter=3),
    ],
)
def test_equals_a_plain_loop_bit_for_bit(make: Callable[[], Any], tmp_path: Path) -> None:
    plan = small_plan(make(), null_control=True)
    dataset = next(iter(plan.cells.values())).dataset
    for run in plan.trained_runs[-3:]:
        outcome = fit(trainer(plan)._task(run, tmp_path))
        probabilities = scikit_learn_loop(make(), dataset, run)
        for found, expected in zip(
            (outcome.validation_logits, outcome.test_logits), probabilities, strict=True
        ):
            logits = np.log(np.maximum(expected.astype(np.float64), 1e-7)).astype(np.float32)
            np.testing.assert_array_equal(found, logits)


@pytest.mark.slow
def test_processes_train_the_same_in_any_order_and_pairs_share_their_seed(tmp_path: Path) -> None:
    plan = small_plan(RandomForestClassifier(n_estimators=3), null_control=True)
    results = finished(train(plan, max_parallel_runs=2))
    assert len(results) == 6
    for run in plan.trained_runs:
        alone = fit(trainer(plan)._task(run, tmp_path))
        np.testing.assert_array_equal(results[str(run.key)].test_logits, alone.test_logits)
    control, uniform, balanced = (
        results[f"{arm} seed 0"] for arm in ("null_control", "uniform", "balanced")
    )
    assert uniform.run.key_seed == balanced.run.key_seed
    np.testing.assert_array_equal(uniform.run.test_indices, balanced.run.test_indices)
    np.testing.assert_array_equal(uniform.run.test_indices, control.run.test_indices)
    assert not np.array_equal(control.test_logits, uniform.test_logits)


def test_a_run_whose_process_is_killed_is_trained_once_more(tmp_path: Path) -> None:
    events = train(small_plan(Deadly(str(tmp_path)), num_seeds=1), max_parallel_runs=1)
    assert len(finished(events)) == 2
    assert len(list(tmp_path.iterdir())) == 1
    assert sum(isinstance(event, RunsStarted) for event in events) == 3


@pytest.mark.slow
def test_a_run_whose_process_is_killed_twice_fails_and_the_others_go_on(tmp_path: Path) -> None:
    deadly = small_plan(Deadly(str(tmp_path), always=True), num_seeds=1, arms=("balanced",))
    events = train(deadly, max_parallel_runs=2)
    assert set(finished(events)) == {"uniform seed 0"}
    (failure,) = [event for event in events if isinstance(event, RunsFailed)]
    assert [run.key.arm for run in failure.runs] == ["balanced"]
    assert isinstance(failure.error, ProcessKilled)
    assert "ended twice" in str(failure.error)


def test_a_fit_that_fails_says_why_and_the_others_go_on(tmp_path: Path, fits_here: None) -> None:
    events = train(small_plan(Failing(str(tmp_path))), max_parallel_runs=1)
    assert set(finished(events)) == {"uniform seed 0", "uniform seed 1"}
    failures = [event for event in events if isinstance(event, RunsFailed)]
    assert [str(failure.error) for failure in failures] == [
        "OwnError: these weights are too much"
    ] * 2
    assert all(isinstance(failure.error, FitFailed) for failure in failures)


def test_once_stopped_no_further_run_starts(fits_here: None) -> None:
    plan, stop, results = small_plan(), threading.Event(), []
    for event in trainer(plan, max_parallel_runs=1).train(plan.trained_runs, (), stop):
        if isinstance(event, RunFinished):
            results.append(event)
            stop.set()
    assert len(results) == 1


def fitted_here(estimator: Any, dataset: Dataset, tmp_path: Path, **changes: Any) -> Any:
    """The outcome of one run on a data set, in this process."""
    plan = small_plan()
    task = trainer(plan)._task(plan.trained_runs[0], tmp_path)
    np.save(tmp_path / "own.npy", dataset.inputs)
    return fit(
        dataclasses.replace(
            task, estimator=cloudpickle.dumps(estimator), inputs=tmp_path / "own.npy", **changes
        )
    )


def test_a_class_that_a_run_does_not_train_on_gets_the_smallest_probability(
    tiny_dataset: Dataset, tmp_path: Path
) -> None:
    """Images are flattened; the estimator sees labels without the gap."""
    is_trained = tiny_dataset.labels != 1
    indices = np.flatnonzero(is_trained).astype(np.int32)[::7]
    outcome = fitted_here(
        DummyClassifier(strategy="prior"),
        tiny_dataset,
        tmp_path,
        row=uniform_row(3),
        labels=tiny_dataset.labels[indices],
        train_indices=indices,
        validation_indices=indices[:2],
        test_indices=indices[:5],
    )
    assert outcome.error is None
    shares = np.bincount(tiny_dataset.labels[indices], minlength=3) / len(indices)
    expected = np.log(np.maximum(shares, 1e-7)).astype(np.float32)
    np.testing.assert_array_equal(outcome.test_logits, np.tile(expected, (5, 1)))


def test_inputs_are_what_networks_get(tiny_dataset: Dataset) -> None:
    features = np.array([[1, np.nan], [3, 4]], np.float32)
    row = uniform_row(2)._replace(
        input_fill=np.array([0, 7], np.float32),
        input_mean=np.array([2, 5], np.float32),
        input_scale=np.array([0.3, 2], np.float32),
    )
    for inputs in (features, tiny_dataset.inputs[:4]):
        expected = np.asarray(preprocess(jnp.asarray(inputs), row)).reshape(len(inputs), -1)
        np.testing.assert_allclose(prepared(inputs, row), expected, rtol=2e-7)


LOW_THRESHOLD = FixedThresholdClassifier(LogisticRegression(max_iter=1000), threshold=0.02)


@pytest.mark.parametrize(
    "model",
    [
        LOW_THRESHOLD,
        make_pipeline(StandardScaler(), LOW_THRESHOLD),
        GridSearchCV(LOW_THRESHOLD, {"threshold": [0.02]}),
    ],
)
def test_a_threshold_of_its_own_decides(tmp_path: Path, model: Any) -> None:
    plan = small_plan()
    dataset = next(iter(plan.cells.values())).dataset
    two = np.flatnonzero(dataset.labels < 2).astype(np.int32)
    run = plan.trained_runs[0]
    given = {"row": run.row._replace(class_weights=np.ones(2, np.float32)), "weighted": False}
    given |= {"labels": dataset.labels[two], "train_indices": two}
    outcome = fitted_here(
        model, dataset, tmp_path, validation_indices=two, test_indices=two, **given
    )
    inputs = prepared(dataset.inputs[two], run.row)
    fitted = clone(model).fit(inputs, dataset.labels[two])  # nothing in it is random
    predictions = fitted.predict(inputs)
    np.testing.assert_array_equal(outcome.test_logits.argmax(axis=1), predictions)
    assert (predictions != fitted.predict_proba(inputs).argmax(axis=1)).any()


def test_packages_inside_an_estimator_are_recorded() -> None:
    foreign = type("Foreign", (LogisticRegression,), {"__module__": "tyro.anywhere"})
    for estimator in (foreign(), make_pipeline(StandardScaler(), foreign())):
        described = describe(small_plan(estimator), None)
        assert described.environment.versions.keys() >= {"scikit-learn", "tyro"}


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        (LogisticRegression(), "sample_weight"),
        (
            make_pipeline(StandardScaler(), LogisticRegression()),
            "logisticregression__sample_weight",
        ),
        (GridSearchCV(LogisticRegression(), {}), "sample_weight"),
        (GridSearchCV(KNeighborsClassifier(), {}), None),
        (KNeighborsClassifier(), None),
    ],
)
def test_where_weights_go(estimator: Any, expected: str | None) -> None:
    assert weight_parameter(estimator) == expected


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (LogisticRegression, r"is the class LogisticRegression: give an object"),
        ("logistic_regression", r"is str: give a classifier"),
        (SVC(), r"SVC has no predict_proba"),
        (KNeighborsClassifier(), r"KNeighborsClassifier.fit takes no sample_weight"),
        (LogisticRegression(class_weight="balanced"), r"has weights of its own \(class_weight\)"),
        (
            make_pipeline(LogisticRegression(class_weight={0: 2})),
            r"\(logisticregression__class_weight\)",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(estimator: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_estimator(estimator, "estimator", weighted=True)


def test_parameters_have_no_addresses_and_those_inside_count() -> None:
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=3))
    found = parameters_of(pipeline.set_params(standardscaler__copy=lambda: 0))
    assert found["logisticregression__C"] == "3"
    assert found["logisticregression"] == "LogisticRegression"
    assert "0x" not in "".join(found.values())
