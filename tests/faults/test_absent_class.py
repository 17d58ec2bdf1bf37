"""A class that the test split lacks: what it leaves undefined is said, nothing counts as 0."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn_runs import make_dataset, write_runs

from cwjax.results.derive import derive
from cwjax.results.store import Store


@pytest.mark.fault(38)
def test_undefined_scores_are_left_out_and_named(tmp_path: Path) -> None:
    whole = make_dataset()
    kept = whole.test_labels != 2  # the smallest class, alone in the tail
    dataset = dataclasses.replace(
        whole, test_images=whole.test_images[kept], test_labels=whole.test_labels[kept]
    )
    write_runs(tmp_path, {"uniform": 0.0, "balanced": 0.9}, 2, dataset=dataset)
    derive(Store(tmp_path))
    scores = pd.read_parquet(tmp_path / "scores.parquet")
    assert scores.recall_tail.isna().all()
    classes = pd.read_parquet(tmp_path / "class_scores.parquet").set_index("class_name")
    assert classes.loc["cat", "recall"].isna().all()
    assert classes.drop("cat").recall.notna().all()
    means = classes.drop("cat").groupby(["arm", "seed"]).recall.mean()
    for run in scores.itertuples():
        assert np.isclose(run.balanced_accuracy, means[run.arm, run.seed])
    comparison = json.loads((tmp_path / "comparison.json").read_text())
    (tail,) = (each for each in comparison["secondary"] if each["metric"] == "recall_tail")
    assert tail["estimates"] is None
    assert "uniform seed 0 (undefined)" in tail["notes"][0]
    assert all(arm["scores"]["recall_tail"]["mean"] is None for arm in comparison["arms"])
