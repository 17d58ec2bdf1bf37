"""What can be added, from a source of data to a metric: each one file and one registry line.

The files are in `tests/toys`; what they add trains a study, is shown in its report and is gone
after the test.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toys import dim, halved, median_recall, sgd, tiny

from cwjax.analysis import metrics
from cwjax.arms.arm import SCHEMES
from cwjax.arms.grammar import load_schemes, parse_arm
from cwjax.config import AnalysisConfig, DataConfig, RuntimeConfig, StudyConfig, TrainConfig
from cwjax.data.sources import SOURCES, Source, source_names
from cwjax.errors import ConfigError
from cwjax.models.registry import MODELS, ModelEntry
from cwjax.store.directory import StudyDirectory
from cwjax.study.plan import make_plan
from cwjax.study.run import Finished, run
from cwjax.training.augment import AUGMENTATIONS
from cwjax.training.optim import OPTIMIZERS, SCHEDULES
from cwjax.training.runs import RunKey

ENET = Path(__file__).with_name("toys") / "enet.py"
REGISTRIES = (
    SOURCES,
    MODELS,
    OPTIMIZERS,
    SCHEDULES,
    AUGMENTATIONS,
    SCHEMES,
    metrics.METRICS,
    metrics._FORMULAS,
)


@pytest.fixture
def toys() -> Iterator[None]:
    before = [dict(registry) for registry in REGISTRIES]  # type: ignore[call-overload]
    SOURCES["stripes"] = Source("toys.stripes", "two classes of striped images", "NUMBER")
    MODELS["tiny"] = ModelEntry(tiny.tiny, smallest_input=(2, 2))
    OPTIMIZERS["plain"] = sgd.sgd
    SCHEDULES["halved"] = halved.halved
    AUGMENTATIONS["dim"] = dim.dim
    load_schemes(ENET)
    metrics.register(median_recall.METRIC, median_recall.formula)
    yield
    for registry, content in zip(REGISTRIES, before, strict=True):
        registry.clear()
        registry.update(content)  # type: ignore[arg-type]


@pytest.fixture
def config() -> StudyConfig:
    return StudyConfig(
        data=(DataConfig(dataset="stripes:400", imbalance_factor=4),),
        train=TrainConfig(
            model="tiny:width=8",
            optimizer="plain",
            num_epochs=4,
            batch_size=16,
            learning_rate=0.3,
            schedule="halved:by=0.6",
            augment="dim",
        ),
        arms=("enet:offset=1.1", "focal:weights=enet(1.5)", "crt", "tau_norm"),
        analysis=AnalysisConfig(metric="median_recall"),
        num_seeds=2,
    )


@pytest.mark.usefixtures("toys")
def test_a_study_of_toys(config: StudyConfig, tmp_path: Path) -> None:
    *_, finished = run(config, tmp_path, RuntimeConfig(max_parallel_runs=1))
    assert isinstance(finished, Finished)
    comparison = finished.comparison
    assert comparison.metric == median_recall.METRIC
    assert comparison.num_ok_runs == 10
    (cell,) = config.cells
    assert cell == "400-long_tailed-4"
    directory = StudyDirectory(tmp_path)
    study = directory.known_study()
    assert (study.train.model, study.train.optimizer) == ("tiny:width=8", "plain")
    assert study.arm_names == (
        "uniform", "enet:offset=1.1", "focal:weights=enet(1.5)", "crt", "tau_norm"
    )  # fmt: skip
    assert study.arms[1].own_rule is not None
    record = directory.read_run(RunKey(cell, "enet:offset=1.1", 0))
    recall = record.class_scores["recall"]
    assert record.scores["median_recall"] == np.median(recall)
    assert recall.min() > 0.6  # it has learnt
    assert record.head_kernel.shape == (8, 2)
    weights = 1 / np.log(1.1 + record.class_counts / record.class_counts.sum())
    np.testing.assert_allclose(
        record.class_weights / record.class_weights[0], weights / weights[0], rtol=1e-5
    )
    scores = pd.read_parquet(tmp_path / "scores.parquet")
    assert scores.median_recall.notna().all()
    page = (tmp_path / "report.html").read_text()
    assert "median recall" in page
    assert "enet:offset=1.1" in page


@pytest.mark.usefixtures("toys")
def test_wrong_names_are_told_with_the_toys_among_the_choices(config: StudyConfig) -> None:
    assert source_names().endswith("or stripes:NUMBER")
    for settings, message in (
        ({"model": "tyny"}, r"did you mean 'tiny'\?.*choose one of auto, cnn, .*, tiny"),
        ({"model": "tiny:width=0"}, r"width='0': give an integer from 1 to 100"),
        ({"optimizer": "plane"}, r"did you mean 'plain'\?.*choose one of rmsprop, .*, plain"),
        ({"schedule": "halve"}, r"did you mean 'halved'\?.*choose one of constant, .*, halved"),
        ({"augment": "dimm"}, r"did you mean 'dim'\?.*choose one of none, .*, dim"),
    ):
        train = dataclasses.replace(config.train, **settings)
        with pytest.raises(ConfigError, match=message):
            make_plan(dataclasses.replace(config, train=train))
    analysis = AnalysisConfig(metric="median_recal")
    with pytest.raises(ConfigError, match=r"did you mean 'median_recall'\?.*, median_recall"):
        make_plan(dataclasses.replace(config, analysis=analysis))
    with pytest.raises(ConfigError, match="did you mean 'enet'"):
        parse_arm("enett")
    with pytest.raises(ConfigError, match="there is a metric 'median_recall' already"):
        metrics.register(median_recall.METRIC, median_recall.formula)
    promising = dataclasses.replace(median_recall.METRIC, name="another", new_test_sets=True)
    with pytest.raises(ConfigError, match="another has new_test_sets=True, but nothing says"):
        metrics.register(promising, median_recall.formula)


def test_toys_are_gone_after_a_test(config: StudyConfig) -> None:
    with pytest.raises(ConfigError, match="--model is 'tiny': choose one of auto"):
        make_plan(config)
