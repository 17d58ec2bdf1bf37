"""Studies from Python: arrays in, verdicts, data frames, figures and a report out."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from flax import nnx

import cwjax
from cwjax.api import Study
from cwjax.data.arrays import dataset_from_arrays
from cwjax.data.dataset import Dataset
from cwjax.models.registry import MODELS

QUICK = cwjax.TrainConfig(num_epochs=2, batch_size=16, model="linear", learning_rate=0.02)
RNG = np.random.default_rng(0)
Y = np.repeat([0, 1, 2], [60, 40, 20])
X = RNG.normal(size=(120, 4)) + Y[:, None]


@pytest.fixture(scope="module")
def study() -> Study:
    return cwjax.compare(X, Y, arms=["uniform", "balanced"], seeds=6, train=QUICK, progress=False)


def test_scores_differences_and_verdicts_are_the_same_numbers(study: Study) -> None:
    scores = study.scores
    assert len(scores) == 12
    assert set(scores.status) == {"ok"}
    by_arm = scores.pivot(index="seed", columns="arm", values="balanced_accuracy")
    expected = by_arm["balanced"] - by_arm["uniform"]
    rows = study.differences.query("metric == 'balanced_accuracy'")
    np.testing.assert_allclose(rows.difference, expected, rtol=0, atol=1e-12)
    (verdict,) = study.verdicts.to_dict("records")
    assert (verdict["arm"], verdict["baseline"], verdict["num_seeds"]) == ("balanced", "uniform", 6)
    assert verdict["difference"] == pytest.approx(expected.mean())
    assert verdict["ci_low"] < verdict["difference"] < verdict["ci_high"]
    assert str(study) == verdict["sentence"]


def test_a_report_figures_and_what_a_notebook_shows(study: Study, tmp_path: Path) -> None:
    path = study.report(tmp_path / "report.html")
    assert path.read_bytes() == (study.directory / "report.html").read_bytes()
    assert "differences" in study.figures
    assert study.figure("differences")._repr_svg_().startswith("<svg")
    shown = study._repr_html_()
    assert "<svg" in shown
    assert "balanced" in shown
    with pytest.raises(ValueError, match=r"name is 'diferences' \(did you mean 'differences'\?\)"):
        study.figure("diferences")
    with pytest.raises(ValueError, match="give a file in a directory that exists"):
        study.report(tmp_path)


@pytest.mark.usefixtures("no_report")
def test_a_study_without_a_directory_lives_as_long_as_it_is_known() -> None:
    study = cwjax.compare(X, Y, seeds=1, train=QUICK, progress=False)
    directory = study.directory
    assert directory.is_dir()
    del study
    gc.collect()
    assert not directory.exists()


@pytest.mark.usefixtures("no_report")
def test_a_directory_is_continued_and_opened(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"train": QUICK, "progress": False, "directory": tmp_path / "out"}
    cwjax.compare(X, Y, seeds=1, **settings)
    two = cwjax.compare(X, Y, seeds=2, **settings)
    opened = cwjax.open_study(tmp_path / "out")
    pd.testing.assert_frame_equal(opened.scores, two.scores)
    pd.testing.assert_frame_equal(opened.verdicts, two.verdicts)
    with pytest.raises(ValueError, match="another study"):
        cwjax.compare(X + 1, Y, seeds=2, **settings)
    with pytest.raises(ValueError, match="no study"):
        cwjax.open_study(tmp_path)


def test_opening_a_study_writes_nothing(study: Study) -> None:
    (study.directory / "deployment.json").write_text("answers")
    before = {p: p.stat().st_mtime_ns for p in study.directory.rglob("*") if p.suffix != ".lock"}
    opened = cwjax.open_study(study.directory)
    assert str(opened.comparison) == str(study.comparison)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    (study.directory / "deployment.json").unlink()


def test_what_ends_the_display_ends_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def follow(events: Iterator[Any], *_: Any, **__: Any) -> None:
        next(events)
        raise OSError("no screen")

    monkeypatch.setattr("cwjax.cli.progress.follow", follow)
    for _ in range(2):  # the second would find the directory in use
        with pytest.raises(OSError, match="no screen") as caught:
            cwjax.compare(X, Y, seeds=1, train=QUICK, directory=tmp_path / "out")
    assert caught.traceback  # as a notebook keeps it


def test_an_estimator_by_name_has_a_new_test_split_for_every_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cwjax.api.train_plan", lambda plan, *_, **__: plan)
    model = "estimator:logistic_regression"
    assert split_of(cwjax.compare("sklearn:wine", model=model)) == "per-seed"
    assert split_of(cwjax.compare(X, Y, model=model)) == "per-seed"
    assert split_of(cwjax.compare(X, Y, model=model, test_split="fixed")) == "fixed"
    assert split_of(cwjax.compare(X, Y, model=model, test=(X + 1, Y))) == "fixed"
    assert split_of(cwjax.compare(X, Y, model="linear")) == "fixed"


def split_of(plan: Any) -> str:
    (cell,) = plan.cells.values()
    return str(cell.data.test_split)


@pytest.mark.usefixtures("no_report")
def test_a_data_frame_with_words_as_labels_and_a_test_split() -> None:
    frame = pd.DataFrame(X, columns=list("abcd")).assign(kind=np.where(X[:, 0] > 1, "x", "é"))
    labels = pd.Series(Y).map({0: "it's", 1: "a b", 2: "c"})
    test = frame.iloc[::2].assign(a=X[::2, 0] + 0.01), labels.iloc[::2]
    study = cwjax.compare(frame, labels, test=test, seeds=1, train=QUICK, progress=False)
    assert study.comparison.cells[0].num_classes == 3
    names = pd.read_parquet(study.directory / "class_scores.parquet").class_name.unique()
    assert names.tolist() == ["a b", "c", "it's"]


@pytest.mark.usefixtures("no_report")
def test_test_examples_that_were_trained_on_are_told() -> None:
    features, labels = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2
    test = np.concatenate([features[:2], features[:2] + 9])
    with pytest.warns(UserWarning, match="2 of 4 test examples are in the training file too"):
        dataset_from_arrays(features, labels, test=(test, labels[:4]))


def test_every_seed_may_draw_its_own_test_split_of_whole_groups() -> None:
    groups = [f"patient {i // 2}" for i in range(len(Y))]
    study = cwjax.compare(
        X, Y, groups=groups, test_split="per-seed", seeds=6, train=QUICK, progress=False
    )
    assert study.comparison.design.splits_are_new


class Tiny(nnx.Module):
    """Its own softmax regression."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int, rngs: nnx.Rngs) -> None:
        self.head = nnx.Linear(input_shape[0], num_classes, rngs=rngs)

    def features(self, inputs: jax.Array) -> jax.Array:
        return inputs


@pytest.mark.usefixtures("no_report")
def test_a_model_of_the_programs_own() -> None:
    try:
        study = cwjax.compare(X, Y, model=Tiny, seeds=1, train=QUICK, progress=False)
        assert '"model":"Tiny"' in (study.directory / "study.json").read_text().replace(" ", "")
        with pytest.raises(ValueError, match="has no name of its own"):
            cwjax.compare(X, Y, model=lambda rngs: None, seeds=1)
    finally:
        MODELS.pop("Tiny", None)


@pytest.mark.usefixtures("no_report")
def test_images_data_sets_and_names(tiny_dataset: Dataset, tmp_path: Path) -> None:
    images, labels = tiny_dataset.train_inputs, tiny_dataset.train_labels
    settings: dict[str, Any] = {"seeds": 1, "train": QUICK, "progress": False}
    test = tiny_dataset.test_inputs, tiny_dataset.test_labels
    of_arrays = cwjax.compare(
        images[..., 0], labels, test=(test[0][..., 0], test[1]), class_names="abc", **settings
    )
    of_dataset = cwjax.compare(tiny_dataset, **settings)
    scores = [each.scores.drop(columns=["cell", "dataset"]) for each in (of_arrays, of_dataset)]
    pd.testing.assert_frame_equal(*scores)


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ((X,), {}, "labels go with arrays"),
        (("mnist5k", Y), {}, "labels go with arrays"),
        (("mnist5k",), {"test": (X, Y)}, "test goes with arrays: leave it out"),
        ((X, Y[:5]), {}, "X has 120 examples, y has 5"),
        ((X, Y), {"test": (X, Y[:3])}, "test X has 120 examples, test y has 3"),
        ((X[:, 0], Y), {}, r"X is float64 \(120,\): give images"),
        ((np.where(X > 2, np.nan, X), Y), {}, r"X\[\d+, \d\] is nan"),
        ((X, Y.astype(float)[:, None]), {}, r"y has shape \(120, 1\): give one label per example"),
        ((X, Y), {"test": (X, Y + 1)}, "test y: labels in row 101 is 3, which no training row has"),
        ((X, Y), {"groups": [1, 2]}, "groups has 2 entries for 120 examples"),
        ((X, Y), {"test": (X, Y), "groups": Y}, "groups has no effect with test"),
        ((X, Y), {"arms": ["balancd"]}, "did you mean 'balanced'"),
        ((X, Y), {"model": "mpl"}, "did you mean 'mlp'"),
        ((X, Y), {"seeds": 0}, "num-seeds is 0"),
        ((X, Y), {"class_names": ["a", "b"]}, "y"),
        ((X, Y), {"arms": "balanced"}, r"arms is 'balanced': give a list"),
        ((X, Y), {"seeds": 2.5}, r"seeds is 2.5: give a number of seeds or a list"),
        ((X, Y), {"metric": None}, "metric is None: give a name"),
        ((X, Y), {"test": X}, r"test is 'ndarray': give a pair"),
        ((X, Y), {"directory": 3}, "directory is 3: give a path"),
        ((X, Y), {"train": {"num_epochs": 2}}, "train is {'num_epochs': 2}: give a TrainConfig"),
        ((3, Y), {}, "X is int: give an array"),
        ((cwjax.DataConfig(),), {"test_split": "per-seed"}, "set it in the DataConfig"),
    ],
)
def test_what_cannot_be_is_a_value_error_of_one_line(
    arguments: tuple[Any, ...], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        cwjax.compare(*arguments, **settings)
    assert "\n" not in str(caught.value)
