"""Kept models predict what their runs stored, wherever they are taken to."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from flax import nnx

import cwjax
from cwjax.config import DataConfig, RuntimeConfig, StudyConfig, TrainConfig
from cwjax.data.arrays import dataset_from_arrays
from cwjax.data.dataset import Dataset
from cwjax.errors import ConfigError
from cwjax.store.directory import StudyDirectory
from cwjax.study.export import chosen_run, export
from cwjax.study.plan import lay_out, make_plan, parse_design
from cwjax.study.run import Finished, run, run_plan
from cwjax.training.runs import RunKey

KEEP = RuntimeConfig(keep_models=True)
ARMS = ("uniform", "inverse_power:gamma=0", "lws", "ldam", "posthoc_logit_adjusted", "tau_norm")


def train(config: StudyConfig, out: Path, runtime: RuntimeConfig = KEEP) -> StudyDirectory:
    *_, finished = run(config, out, runtime)
    assert isinstance(finished, Finished)
    return StudyDirectory(out)


def key_of(directory: StudyDirectory, arm: str, seed: int = 0) -> RunKey:
    (cell,) = directory.known_study().cells
    return RunKey(cell, arm, seed)


def assert_predicts_its_test_logits(
    directory: StudyDirectory, key: RunKey, inputs: np.ndarray, out: Path
) -> cwjax.api_models.LoadedModel:
    export(directory, key, out)
    model = cwjax.load_model(out)
    record = directory.read_run(key)
    np.testing.assert_array_equal(model.logits(inputs), record.test_logits)
    predictions = np.array(model.class_names)[record.test_logits.argmax(axis=1)]
    np.testing.assert_array_equal(model.predict(inputs), predictions)
    # Of fewer inputs the same, and of none nothing.
    np.testing.assert_array_equal(model.logits(inputs[:5]), record.test_logits[:5])
    assert model.logits(inputs[:0]).shape == (0, record.test_logits.shape[1])
    return model


@pytest.fixture
def kept(tiny_config: StudyConfig, tmp_path: Path, no_report: None) -> StudyDirectory:
    return train(dataclasses.replace(tiny_config, arms=ARMS), tmp_path / "study")


def test_every_kind_of_arm(kept: StudyDirectory, tiny_dataset: Dataset, tmp_path: Path) -> None:
    for arm in kept.known_study().arm_names:
        key = key_of(kept, arm, seed=1)
        out = tmp_path / re.sub(r"\W", "_", arm)
        model = assert_predicts_its_test_logits(kept, key, tiny_dataset.test_inputs, out)
        probabilities = model.predict_proba(tiny_dataset.test_inputs)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
        logits = kept.read_run(key).test_logits
        expected = np.exp(logits / model.about.temperature)
        np.testing.assert_allclose(
            probabilities, expected / expected.sum(axis=1, keepdims=True), rtol=1e-4
        )


def test_arms_that_are_not_trained_refer_to_their_source(kept: StudyDirectory) -> None:
    uniform = kept.model_path(key_of(kept, "uniform")).stat().st_size
    for arm in ("inverse_power:gamma=0.0", "posthoc_logit_adjusted", "tau_norm"):
        name = next(n for n in kept.known_study().arm_names if n.startswith(arm.partition(":")[0]))
        path = kept.model_path(key_of(kept, name))
        assert path.stat().st_size < uniform / 2
    header, arrays = kept.read_model(key_of(kept, "tau_norm"))
    assert header.key == key_of(kept, "uniform")
    assert {"params/head/kernel", "class_scale", "row/scale", "adjustment/divisor"} <= set(arrays)


def test_the_readme_says_how_to_do_without_cwjax(
    kept: StudyDirectory,
    tiny_dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for arm in ("lws", "ldam", "tau_norm"):
        out = tmp_path / arm
        export(kept, key_of(kept, arm), out)
        code = re.findall(r"```python\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)[1]
        monkeypatch.chdir(out)
        names: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
        exec(code, names)  # type: ignore[arg-type]
        record = kept.read_run(key_of(kept, arm))
        np.testing.assert_allclose(
            names["logits"](tiny_dataset.test_inputs), record.test_logits, rtol=1e-3, atol=1e-4
        )


@pytest.mark.parametrize(
    "model",
    [
        pytest.param("cnn", marks=pytest.mark.slow),
        pytest.param("mlp", marks=pytest.mark.slow),
        pytest.param("resnet20", marks=pytest.mark.exhaustive),  # compiles for more than a minute
    ],
)
def test_every_network(
    model: str, tiny_config: StudyConfig, tiny_dataset: Dataset, tmp_path: Path, no_report: None
) -> None:
    config = dataclasses.replace(
        tiny_config,
        train=dataclasses.replace(tiny_config.train, model=model, num_epochs=1),
        arms=("uniform", "lws"),
        num_seeds=1,
    )
    directory = train(config, tmp_path / "study")
    for arm in config.arms:
        key = key_of(directory, arm)
        assert_predicts_its_test_logits(directory, key, tiny_dataset.test_inputs, tmp_path / arm)


def test_features_are_filled_and_standardised(tmp_path: Path, no_report: None) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [150, 60])
    features = rng.normal(5, 3, (210, 4)) + labels[:, None]
    features[rng.random(features.shape) < 0.1] = np.nan
    frame = pd.DataFrame(features, columns=list("abcd"))
    frame["place"] = rng.choice(["here", "there"], len(frame))
    dataset = dataset_from_arrays(frame, labels, class_names=("no", "yes"))
    config = StudyConfig(
        data=(DataConfig(dataset="features:x.npz", test_split="per-seed"),),
        train=TrainConfig(model="linear", num_epochs=2, batch_size=16),
        num_seeds=1,
    )
    plan = lay_out(parse_design(config), config.data, {"features:x.npz": dataset})
    *_, finished = run_plan(plan, tmp_path / "study", KEEP)
    assert isinstance(finished, Finished)
    directory = StudyDirectory(tmp_path / "study")
    key = key_of(directory, "balanced")
    inputs = dataset.inputs[directory.read_run(key).test_indices]
    model = assert_predicts_its_test_logits(directory, key, inputs, tmp_path / "model")
    assert model.about.columns[:4] == ("a", "b", "c", "d")
    assert any(column.startswith("place=") for column in model.about.columns)
    columns = pd.DataFrame(inputs, columns=model.about.columns)
    shuffled = columns[[*columns.columns[::-1]]].assign(another=0.0)
    np.testing.assert_array_equal(model.logits(shuffled), model.logits(inputs))
    np.testing.assert_array_equal(model.logits(pd.DataFrame(inputs)), model.logits(inputs))
    with pytest.raises(ConfigError, match="no column 'b', which the model was trained with"):
        model.logits(shuffled.drop(columns="b"))
    record = directory.read_run(key)
    np.testing.assert_array_equal(record.test_labels, dataset.labels[record.test_indices])


def test_without_the_flag_nothing_is_kept(
    tiny_config: StudyConfig, tmp_path: Path, no_report: None
) -> None:
    directory = train(tiny_config, tmp_path / "study", RuntimeConfig())
    assert not (directory.path / "models").exists()
    with pytest.raises(ConfigError, match="holds no model of balanced seed 0: train it with --kee"):
        export(directory, key_of(directory, "balanced"), tmp_path / "model")
    with pytest.raises(ConfigError, match=r"4 of 4 finished runs were trained without --keep-mod"):
        train(tiny_config, tmp_path / "study")
    more = dataclasses.replace(tiny_config, num_seeds=3)
    train(more, tmp_path / "study", RuntimeConfig())  # it goes on as it began


def test_a_kill_leaves_no_run_without_its_model(
    tiny_config: StudyConfig, tmp_path: Path, no_report: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor a model that another training would contradict."""
    monkeypatch.setattr(StudyDirectory, "write_run", _killed)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_config, tmp_path / "study")
    models = {path: path.read_bytes() for path in tmp_path.rglob("models/*/*.npz")}
    assert models
    assert not list(tmp_path.rglob("runs/*/*.npz"))
    monkeypatch.undo()
    train(tiny_config, tmp_path / "study")
    assert {path: path.read_bytes() for path in models} == models
    assert len(list(tmp_path.rglob("models/*/*.npz"))) == 4


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_the_best_on_validation(kept: StudyDirectory) -> None:
    scores = {}
    for key in kept.known_study().run_keys:
        record = kept.read_run(key)
        assert record.validation_labels is not None
        hits = record.validation_logits.argmax(axis=1) == record.validation_labels
        scores[key] = np.mean([hits[record.validation_labels == c].mean() for c in range(3)])
    best = chosen_run(kept, best_on_validation=True)
    assert scores[best] == pytest.approx(max(scores.values()))
    assert chosen_run(kept, arm="lws", best_on_validation=True).arm == "lws"
    assert chosen_run(kept, seed=1, best_on_validation=True).seed == 1


@pytest.mark.usefixtures("no_report")
def test_a_network_of_ones_own_travels_along(
    tiny_config: StudyConfig, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    source = tmp_path / "nets.py"
    source.write_text(
        "from flax import nnx\n\n\n"
        "class Net(nnx.Module):\n"
        "    def __init__(self, input_shape, num_classes, rngs):\n"
        "        self.head = nnx.Linear(18 * 18, num_classes, rngs=rngs)\n\n"
        "    def features(self, inputs):\n"
        "        return inputs.reshape(len(inputs), -1)\n"
    )
    train_config = dataclasses.replace(tiny_config.train, model=f"{source}:Net")
    config = dataclasses.replace(tiny_config, train=train_config, num_seeds=1)
    directory = train(config, tmp_path / "study")
    key, out = key_of(directory, "uniform"), tmp_path / "model"
    source.unlink()
    assert_predicts_its_test_logits(directory, key, tiny_dataset.test_inputs, out)
    (out / "nets.py").write_text("# another\n" + (out / "nets.py").read_text())
    with pytest.raises(ConfigError, match="another source"):
        cwjax.load_model(out)


class Own(nnx.Module):
    def __init__(self, num_classes: int, rngs: nnx.Rngs) -> None:
        self.head = nnx.Linear(18 * 18, num_classes, rngs=rngs)

    def features(self, inputs):
        return inputs.reshape(len(inputs), -1)


@pytest.fixture
def registered() -> Generator[None]:
    yield
    from cwjax.models.registry import MODELS

    MODELS.pop("Own", None)


@pytest.mark.usefixtures("no_report", "registered")
def test_a_class_of_a_program(tiny_dataset: Dataset, tmp_path: Path) -> None:
    study = cwjax.compare(
        tiny_dataset, seeds=1, model=Own, progress=False, directory=tmp_path / "study",
        train=TrainConfig(num_epochs=1, batch_size=16), runtime=KEEP,
    )  # fmt: skip
    directory = StudyDirectory(study.directory)
    assert study.export(tmp_path / "model", arm="uniform", seed=0) == tmp_path / "model"
    assert "model=..." in (tmp_path / "model" / "README.md").read_text()
    with pytest.raises(ConfigError, match="give model= the class"):
        cwjax.load_model(tmp_path / "model")
    model = cwjax.load_model(tmp_path / "model", model=Own)
    record = directory.read_run(key_of(directory, "uniform"))
    np.testing.assert_array_equal(model.logits(tiny_dataset.test_inputs), record.test_logits)


def test_wrong_inputs_and_directories(
    kept: StudyDirectory, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    export(kept, key_of(kept, "uniform"), tmp_path / "model")
    model = cwjax.load_model(tmp_path / "model")
    with pytest.raises(ConfigError, match=r"give the model \[n, 18, 18, 1\]"):
        model.logits(tiny_dataset.test_inputs[..., 0])
    with pytest.raises(ConfigError, match="give the model pixels, uint8"):
        model.logits(tiny_dataset.test_inputs / 255)
    with pytest.raises(ConfigError, match="holds no exported model"):
        cwjax.load_model(tmp_path)


def test_estimators_are_not_kept(tmp_path: Path) -> None:
    config = StudyConfig(train=TrainConfig(model="estimator:logistic_regression"), num_seeds=1)
    with pytest.raises(ConfigError, match="estimators are none: leave it out"):
        *_, _ = run_plan(make_plan(config), tmp_path / "study", KEEP)
