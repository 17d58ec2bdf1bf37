"""Runs that diverge: seen, kept, left out, and without an effect on the others."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd
import pytest
from comparisons import files

from cwjax.analysis.pairing import BadRun
from cwjax.analysis.results import StudyComparison
from cwjax.cli import compare
from cwjax.config import RuntimeConfig, StudyConfig
from cwjax.store.schema import from_json
from cwjax.study.run import Finished, run

ONE_CORE = RuntimeConfig(max_parallel_runs=1)

pytestmark = pytest.mark.usefixtures("no_report")


@pytest.mark.fault(51)
def test_one_arm_diverges(tiny_config: StudyConfig, tmp_path: Path) -> None:
    list(run(tiny_config, tmp_path / "without", ONE_CORE))
    (tmp_path / "huge.json").write_text('{"a": 3e38, "b": 3e38, "c": 3e38}')
    arms = ("uniform", f"custom:file={tmp_path}/huge.json", "balanced")
    with_huge = dataclasses.replace(tiny_config, arms=arms)
    *_, finished = run(with_huge, tmp_path / "with", ONE_CORE)
    assert isinstance(finished, Finished)
    without, beside = files(tmp_path / "without" / "runs"), files(tmp_path / "with" / "runs")
    assert sum(name.endswith(".npz") for name in without) == 4
    assert {name: beside[name] for name in without} == without
    scores = pd.read_parquet(tmp_path / "with" / "scores.parquet").set_index("arm")
    (huge,) = set(scores.index) - {"uniform", "balanced"}
    assert set(scores.loc[huge, "status"]) == {"diverged"}
    assert scores.loc[huge, "accuracy"].isna().all()
    assert set(scores.drop(huge).status) == {"ok"}
    by_arm = {each.pairing.treatment: each for each in finished.comparison.comparisons}
    assert by_arm[huge].verdict.key == "refused"
    assert by_arm[huge].facts.refused == tuple(BadRun(huge, s, "diverged") for s in (0, 1))
    assert by_arm["balanced"].verdict.key != "refused"


@pytest.mark.fault(52)
def test_every_run_diverges(
    tiny_npz: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ["--dataset", tiny_npz, "--imbalance-factor", "4", "--num-seeds", "2"]
    flags += ["--num-epochs", "2", "--batch-size", "16", "--learning-rate", "1e30"]
    flags += ["--max-parallel-runs", "1", "--out", str(tmp_path / "out")]
    assert compare.main(flags) == 1
    assert "No verdict" in capsys.readouterr().out
    scores = pd.read_parquet(tmp_path / "out" / "scores.parquet")
    assert list(scores.status) == ["diverged"] * 4
    content = (tmp_path / "out" / "comparison.json").read_bytes()
    comparison = from_json(content, StudyComparison, "comparison.json")
    assert comparison.num_ok_runs == 0
    assert comparison.comparisons[0].estimates is None
