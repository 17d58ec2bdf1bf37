"""Runs that diverge: seen, kept, left out, and without an effect on the others."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pandas as pd
import pytest
from comparisons import files

from cwjax import experiment
from cwjax.config import ExperimentConfig, RuntimeConfig
from experiments import compare

ONE_CORE = RuntimeConfig(max_parallel_runs=1)

pytestmark = pytest.mark.usefixtures("no_report")


@pytest.mark.fault(51)
def test_one_arm_diverges(tiny_config: ExperimentConfig, tmp_path: Path) -> None:
    list(experiment.run(tiny_config, tmp_path / "without", ONE_CORE))
    (tmp_path / "huge.json").write_text('{"a": 3e38, "b": 3e38, "c": 3e38}')
    arms = ("uniform", f"custom:file={tmp_path}/huge.json", "balanced")
    with_huge = dataclasses.replace(tiny_config, arms=arms)
    *_, finished = experiment.run(with_huge, tmp_path / "with", ONE_CORE)
    without, beside = files(tmp_path / "without" / "runs"), files(tmp_path / "with" / "runs")
    assert len(without) == 4
    assert {name: beside[name] for name in without} == without
    scores = pd.read_parquet(tmp_path / "with" / "scores.parquet").set_index("arm")
    (huge,) = set(scores.index) - {"uniform", "balanced"}
    assert set(scores.loc[huge, "status"]) == {"diverged"}
    assert scores.loc[huge, "accuracy"].isna().all()
    assert set(scores.drop(huge).status) == {"ok"}
    verdicts = {each["treatment"]: each["verdict"] for each in finished.comparison["comparisons"]}
    assert verdicts[huge]["key"] == "refused"
    assert f"{huge} seed 0 (diverged)" in verdicts[huge]["words"]
    assert verdicts["balanced"]["key"] != "refused"


@pytest.mark.fault(52)
def test_every_run_diverges(
    tiny_npz: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ["--dataset", tiny_npz, "--imbalance-factor", "4", "--num-seeds", "2"]
    flags += ["--num-epochs", "2", "--batch-size", "16", "--learning-rate", "1e30"]
    flags += ["--max-parallel-runs", "1", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["compare", *flags])
    assert compare.main() == 1
    assert "No verdict: refused for balanced and uniform" in capsys.readouterr().out
    scores = pd.read_parquet(tmp_path / "out" / "scores.parquet")
    assert list(scores.status) == ["diverged"] * 4
    comparison = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert comparison["num_ok_runs"] == 0
    assert comparison["comparisons"][0]["estimates"] is None
