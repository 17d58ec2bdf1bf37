"""`cwjax compare --model estimator:NAME`: what it refuses, what it writes, how it goes on."""

from __future__ import annotations

import importlib.machinery
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from calls import Call
from comparisons import files

from cwjax.cli import compare
from cwjax.models.estimators import ESTIMATORS
from cwjax.store.directory import StudyDirectory

Refused = Callable[..., str]

WINE = ["--dataset", "sklearn:wine", "--num-seeds", "2"]
LOGISTIC = ["--model", "estimator:logistic_regression"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "estimator:random_forrest"], "did you mean 'random_forest'"),
        (["--model", "estimator:random_forest:trees=3"], "has no setting 'trees'"),
        (["--model", "estimator:random_forest:n_estimators=0"], "an integer from 1"),
        ([*LOGISTIC, "--optimizer", "rmsprop"], "--optimizer is of networks and has no effect"),
        ([*LOGISTIC, "--num-epochs", "12"], "--num-epochs is of networks"),
        ([*LOGISTIC, "--weight-decay", "0.1"], "--weight-decay is of networks"),
        ([*LOGISTIC, "--platform", "cpu"], "--platform is of networks"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(
    refused: Refused, flags: list[str], message: str
) -> None:
    assert message in refused(*WINE, *flags)


def test_a_cluster_trains_networks_alone(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = types.ModuleType("ray")  # installed or not
    ray.__spec__ = importlib.machinery.ModuleSpec("ray", None)
    monkeypatch.setitem(sys.modules, "ray", ray)
    assert "--cluster is of networks" in refused(*WINE, *LOGISTIC, "--cluster", "auto")


@pytest.mark.parametrize(
    ("arm", "reason"),
    [
        ("balanced:lr=2", "changes a network's learning rate"),
        ("balanced:weight_decay=0.1", "decays a network's parameters"),
        ("balanced:drw=0.5", "puts class weights off until a later epoch"),
        ("focal", "changes the loss"),
        ("logit_adjusted", "changes the loss"),
        ("ldam", "puts class weights off until a later epoch"),
        ("label_smoothing", "changes the loss"),
        ("class_balanced_sampling", "draws the examples of every epoch anew"),
        ("progressive_sampling", "draws the examples of every epoch anew"),
        ("mixup", "mixes examples in every batch"),
        ("remix", "mixes examples in every batch"),
        ("crt", "trains in two stages"),
        ("lws", "trains in two stages"),
        ("tau_norm", "needs the head of a network"),
    ],
)
def test_arms_that_are_more_than_class_weights_are_refused(
    refused: Refused, arm: str, reason: str
) -> None:
    message = refused(*WINE, *LOGISTIC, "--arms", arm)
    assert f"arm '{arm}' {reason}, which an estimator does not have" in message


def test_each_seed_splits_anew_and_a_rerun_trains_what_is_missing(
    call: Call, tmp_path: Path, no_report: None, fits_here: None
) -> None:
    arms = ["--arms", "balanced", "posthoc_logit_adjusted:tau=1"]
    alone, together = tmp_path / "alone", tmp_path / "together"
    ended = call(compare.main, *WINE, *LOGISTIC, *arms, "--out", alone, "--max-parallel-runs", "1")
    assert (ended.code, ended.err) == (0, "")
    assert "36 test examples that each seed draws anew" in ended.out
    study = StudyDirectory(alone).known_study()
    assert [cell.data.test_split for cell in study.cells.values()] == ["per-seed"]
    assert study.environment.versions.keys() >= {"scikit-learn", "numpy"}
    assert "jax" not in study.environment.versions
    assert study.estimators["estimator:logistic_regression"].parameters["max_iter"] == "1000"

    # The same with fewer seeds, then the rest.
    few = [*WINE[:-1], "1", *LOGISTIC]
    assert call(compare.main, *few, *arms, "--out", together).code == 0
    assert call(compare.main, *WINE, *LOGISTIC, *arms, "--out", together).code == 0
    starts = [
        event["runs"]
        for line in (together / "log.jsonl").read_text().splitlines()
        if (event := json.loads(line))["event"] == "training"
    ]
    assert starts == [2, 2]
    runs = [
        {name: content for name, content in files(directory).items() if name.startswith("runs/")}
        for directory in (alone, together)
    ]
    assert runs[0] == runs[1]
    assert len(list((alone / "runs").rglob("*.npz"))) == 6


def test_other_parameters_are_another_study(
    call: Call, tmp_path: Path, no_report: None, fits_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = [*WINE[:-1], "1", *LOGISTIC, "--out", str(tmp_path / "out")]
    assert call(compare.main, *flags).code == 0
    make = ESTIMATORS["logistic_regression"]
    monkeypatch.setitem(ESTIMATORS, "logistic_regression", lambda: make(C=2))
    ended = call(compare.main, *flags)
    assert ended.code == 2
    assert "another study (C: 1.0, now 2)" in ended.err


def test_the_report_has_no_curves_and_a_dry_run_measures_fits(
    call: Call, tmp_path: Path, fits_here: None
) -> None:
    out = tmp_path / "out"
    flags = [*WINE[:-1], "1", *LOGISTIC, "--out", out]
    ended = call(compare.main, *flags, "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    assert "training examples over all runs" in ended.out
    assert "examples/s measured here" in ended.out
    assert not out.exists()
    assert call(compare.main, *flags).code == 0
    page = (out / "report.html").read_text("utf-8")
    assert "there are no learning curves" in page
    assert "LogisticRegression(C=1.0, " in page
    assert "random_state" in page
    assert "num_epochs" not in page
    again = page.split("<code>")[-1].partition("<")[0]
    assert again.startswith("cwjax compare --dataset sklearn:wine")
    assert "--test-split per-seed --model estimator:logistic_regression --arms" in again
    assert not (out / "figures" / "learning_curves.svg").exists()
    assert not (out / "history.parquet").exists()


def test_a_fixed_test_split_stays_where_it_is_asked_for(
    call: Call, tmp_path: Path, no_report: None, fits_here: None
) -> None:
    flags = [*WINE[:-1], "1", *LOGISTIC, "--test-split", "fixed", "--out", tmp_path / "out"]
    ended = call(compare.main, *flags)
    assert ended.code == 0
    assert "36 test examples\n" in ended.out
