"""A class that the test split lacks: what it leaves undefined is said, nothing counts as 0."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn_runs import make_dataset, write_study

from cwjax.analysis.pairing import BadRun
from cwjax.store.directory import StudyDirectory
from cwjax.study.derive import derive


@pytest.mark.fault(38)
def test_undefined_scores_are_left_out_and_named(tmp_path: Path) -> None:
    whole = make_dataset()
    in_training = np.arange(len(whole.labels)) < whole.num_train
    kept = in_training | (whole.labels != 2)  # the smallest class, alone in the tail
    dataset = dataclasses.replace(whole, inputs=whole.inputs[kept], labels=whole.labels[kept])
    write_study(tmp_path, {"uniform": 0.0, "balanced": 0.9}, 2, dataset=dataset)
    comparison = derive(StudyDirectory(tmp_path))
    scores = pd.read_parquet(tmp_path / "scores.parquet")
    assert scores.recall_tail.isna().all()
    classes = pd.read_parquet(tmp_path / "class_scores.parquet").set_index("class_name")
    assert classes.loc["cat", "recall"].isna().all()
    assert classes.drop("cat").recall.notna().all()
    means = classes.drop("cat").groupby(["arm", "seed"]).recall.mean()
    for run in scores.itertuples():
        assert np.isclose(run.balanced_accuracy, means[run.arm, run.seed])
    (tail,) = (each for each in comparison.secondary if each.metric == "recall_tail")
    assert tail.estimates is None
    assert tail.facts.undefined[0] == BadRun("uniform", 0, "undefined")
    assert all(arm.scores["recall_tail"].mean is None for arm in comparison.summaries)
