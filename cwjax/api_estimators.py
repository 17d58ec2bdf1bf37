"""For notebooks and programs: class weights, or whole estimators, compared with scikit-learn's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from cwjax.api import Study, check_arguments, data_config, train_plan
from cwjax.arms.weights_only import whole_estimator_arms
from cwjax.config import (
    AnalysisConfig,
    RuntimeConfig,
    StudyConfig,
    TestSplit,
    TrainConfig,
)
from cwjax.data.arrays import dataset_from_arrays
from cwjax.errors import ConfigError
from cwjax.models.estimators import PREFIX, Estimators, check_estimator


def compare_estimators(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    weights: Sequence[str] | None = None,
    arms: Mapping[str, Any] | None = None,
    seeds: int | Sequence[int] = 10,
    test: tuple[Any, Any] | None = None,
    test_split: TestSplit | None = None,
    groups: Sequence[Any] | None = None,
    metric: str = "balanced_accuracy",
    smallest_effect: float | None = None,
    confidence: float = 0.95,
    runtime: RuntimeConfig | None = None,
    directory: Path | str | None = None,
    progress: bool = True,
) -> Study:
    """Trains a scikit-learn estimator with several class weights on every seed, and judges them.

    Every run is one fit in a process of its own. Each seed draws its own test, validation and
    training examples, the same for every arm, and the estimator's `random_state`.

    Args:
        estimator: any classifier with `predict_proba` whose `fit` takes `sample_weight`: of
            scikit-learn, XGBoost, LightGBM, or a pipeline that ends in one. None with `arms`.
        X: numbers `[n, num_features]`, images, or a data frame of numbers and categories. Numbers
            are standardised and missing ones filled in, by each run with its training rows.
        y: labels `[n]`, of any type.
        weights: arms as `--arms` takes them, of those that are class weights, and
            `posthoc_logit_adjusted` [default: uniform and balanced].
        arms: name -> whole estimator: these are compared instead, without weights; the first is
            the baseline.
        seeds: how many, or which.
        test: inputs and labels of a test split.
        test_split: as `--test-split` [default: per-seed, or fixed where `test` is given].
        groups: `[n]`: examples of one group never stand on both sides of a split.
        metric: the one that is judged.
        smallest_effect: the smallest difference that would matter, in the unit of the metric.
        confidence: of all intervals together.
        runtime: how to use the machine.
        directory: of the results, new or to be continued; without one they are kept until the
            study is forgotten.
        progress: show the plan and a bar.

    Returns:
        The finished study.

    Raises:
        ConfigError: (a ValueError) an argument that cannot be used.
    """
    from cwjax.study.plan import lay_out, parse_design

    check_arguments(weights, seeds, metric, test, directory, runtime=(runtime, RuntimeConfig))
    whole = isinstance(arms, Mapping) and all(isinstance(name, str) for name in arms)
    if arms is not None and not whole:
        raise ConfigError(f"arms is {type(arms).__name__}: give {{name: estimator, ...}}")
    estimators = _estimators(estimator, weights, arms)
    dataset = dataset_from_arrays(X, y, test=test, groups=groups)
    data = data_config(dataset, test_split or ("per-seed" if test is None else "fixed"))
    names = tuple(estimators.by_arm)
    model = type(estimator).__name__ if estimators.weighted else "by_arm"
    config = StudyConfig(
        data=(data,),
        arms=names or tuple(weights or ("uniform", "balanced")),
        baseline=names[0] if names else "uniform",
        num_seeds=seeds if isinstance(seeds, int) else len(seeds),
        seeds=None if isinstance(seeds, int) else tuple(seeds),
        train=TrainConfig(model=PREFIX + model),
        analysis=AnalysisConfig(
            metric=metric, smallest_effect=smallest_effect, confidence=confidence
        ),
    )
    with whole_estimator_arms(names) if names else nullcontext():
        plan = lay_out(parse_design(config, estimators), config.data, {data.dataset: dataset})
        return train_plan(plan, directory, runtime or RuntimeConfig(), show_progress=progress)


def _estimators(
    estimator: Any, weights: Sequence[str] | None, arms: Mapping[str, Any] | None
) -> Estimators:
    """What is compared, checked."""
    if arms is None:
        if estimator is None:
            raise ConfigError("estimator is None: give one, or arms={name: estimator, ...}")
        check_estimator(estimator, "estimator", weighted=True)
        return Estimators(estimator)
    if estimator is not None or weights is not None:
        given = "estimator" if estimator is not None else "weights"
        raise ConfigError(f"{given} and arms exclude each other: give None for one of them")
    if len(arms) < 2:
        raise ConfigError(f"arms has {len(arms)} estimator(s): give at least 2")
    for name, each in arms.items():
        check_estimator(each, f"arms[{name!r}]", weighted=False)
    return Estimators(by_arm=dict(arms))
