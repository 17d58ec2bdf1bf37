"""`cwjax.compare_estimators`: class weights of an estimator, or whole estimators, from arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

import cwjax
from cwjax.arms.arm import SCHEMES

X, Y = load_wine(return_X_y=True)
DUMMY = DummyClassifier(strategy="stratified")


def test_class_weights_are_arms(tmp_path: Path, no_report: None, fits_here: None) -> None:
    study = cwjax.compare_estimators(
        LogisticRegression(max_iter=500),
        X,
        Y,
        weights=["balanced", "inverse_power:gamma=2"],
        seeds=2,
        directory=tmp_path,
        progress=False,
    )
    assert study.comparison.arms == ("uniform", "balanced", "inverse_power:gamma=2")
    assert len(study.scores) == 6
    assert (study.scores["status"] == "ok").all()


def test_whole_estimators_are_arms_and_leave_nothing_behind(
    tmp_path: Path, no_report: None, fits_here: None
) -> None:
    before = dict(SCHEMES)
    arms = {"logistic": LogisticRegression(max_iter=500), "dummy": DUMMY}
    given: dict[str, Any] = {"seeds": 2, "directory": tmp_path, "progress": False}
    study = cwjax.compare_estimators(None, X, Y, arms=arms, **given)
    assert study.comparison.arms == ("logistic", "dummy")
    by_arm = study.scores.groupby("arm")["balanced_accuracy"].mean()
    assert by_arm["logistic"] > by_arm["dummy"] + 0.2
    assert before == SCHEMES
    with pytest.raises(ValueError, match="the estimator of dummy is not given"):
        cwjax.compare_estimators(
            None, X, Y, arms={"logistic": arms["logistic"], "other": DUMMY}, **given
        )
    assert before == SCHEMES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"estimator": None}, "estimator is None"),
        ({"estimator": DUMMY, "arms": {"a": DUMMY, "b": DUMMY}}, "estimator and arms exclude"),
        ({"estimator": None, "arms": {"a": DUMMY}}, "give at least 2"),
        ({"estimator": None, "arms": {"balanced": DUMMY, "b": DUMMY}}, "is a scheme's name"),
        ({"estimator": None, "arms": {"a b": DUMMY, "b": DUMMY}}, "give names of letters"),
        ({"estimator": DUMMY, "weights": ["focal"]}, "arm 'focal' changes the loss"),
        ({"estimator": DUMMY, "y": Y[:-1]}, "178 examples"),
    ],
)
def test_arguments_that_cannot_be_used(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cwjax.compare_estimators(**{"X": X, "y": Y, "progress": False} | arguments)


def test_a_test_split_that_is_given_is_the_one(
    tmp_path: Path, no_report: None, fits_here: None
) -> None:
    order = np.random.default_rng(0).permutation(len(Y))
    train, test = order[:120], order[120:]
    study = cwjax.compare_estimators(
        DUMMY, X[train], Y[train], test=(X[test], Y[test]), seeds=1, directory=tmp_path,
        progress=False,
    )  # fmt: skip
    assert not study.comparison.design.splits_are_new
