"""`cwjax export`: a model of a study becomes a directory of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from calls import Call

from cwjax.cli import compare, export, report
from cwjax.store.directory import StudyDirectory
from cwjax.training.runs import RunKey


@pytest.mark.usefixtures("no_report")
def test_the_command(tiny_npz: str, tmp_path: Path, call: Call) -> None:
    study, out = tmp_path / "study", tmp_path / "model"
    trained = call(
        compare.main, "--dataset", tiny_npz, "--imbalance-factor", 4, "--num-seeds", 2,
        "--num-epochs", 1, "--model", "linear", "--batch-size", 16, "--keep-models", "--quiet",
        "--out", study,
    )  # fmt: skip
    assert trained.code == 0, trained.err
    ended = call(export.main, study, "--arm", "balanced", "--seed", 1, "--out", out)
    assert ended.code == 0, ended.err
    assert ended.out.startswith("balanced seed 1, ")
    assert {path.name for path in out.iterdir()} == {"model.json", "arrays.npz", "README.md"}
    best = call(export.main, study, "--best-on-validation", "--out", tmp_path / "best")
    assert best.code == 0
    for flags, message in (
        (["--arm", "balanced", "--seed", 1], "--out: give the directory"),
        (["--arm", "balanced", "--out", tmp_path / "x"], "give --arm and --seed, or --best-on"),
        (["--arm", "balancd", "--seed", 1, "--out", tmp_path / "x"], "did you mean 'balanced'"),
        (["--arm", "balanced", "--seed", 7, "--out", tmp_path / "x"], "choose one of 0, 1"),
        (["--arm", "balanced", "--seed", 1, "--out", out], "exists: give a new directory"),
        (["--cell", "x", "--best-on-validation", "--out", tmp_path / "x"], "--cell is 'x'"),
    ):
        refused = call(export.main, study, *flags)
        assert refused.code == 2
        assert message in refused.err
    merged = call(report.main, "--merge", study, study, "--out", tmp_path / "merged")
    assert merged.code == 0, merged.err
    directory = StudyDirectory(tmp_path / "merged")
    (cell,) = directory.known_study().cells
    assert directory.read_model(RunKey(cell, "balanced", 1))[1]
