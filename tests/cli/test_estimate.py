"""`--dry-run`: what a study would cost here; nothing is written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from calls import Call

from cwjax.cli import compare, estimate, sweep

pytestmark = pytest.mark.usefixtures("no_report")


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "MEASURED_SECONDS", 0.1)


def test_a_sweep(call: Call, tiny_npz: str, tmp_path: Path) -> None:
    flags = ["--dataset", tiny_npz, "--imbalance-factor", "2", "4", "--num-seeds", "3"]
    flags += ["--arms", "uniform", "balanced", "tau_norm", "--num-epochs", "1", "--model=linear"]
    flags += ["--batch-size", "16", "--out", str(tmp_path / "out")]
    ended = call(sweep.main, *flags, "--dry-run")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0] == ("note: 3 seeds cannot give a verdict, whatever comes out: give at least 6")
    assert lines[1] == "2 cells: tiny-long_tailed-2, tiny-long_tailed-4"
    assert lines[3] == "2 cells, 18 runs: 12 to train, 6 computed from trained ones"
    # 54 + 38 + 27 and 54 + 27 + 13 per class, one epoch, two arms, three seeds
    assert lines[4] == f"{(119 + 94) * 1 * 2 * 3:,} training examples over all epochs"
    assert re.fullmatch(r"about \d+\.\d MB of files", lines[5])
    assert re.fullmatch(r"about \d+ s, at [\d,]+ examples/s measured here", lines[6])
    assert re.fullmatch(r"about \d+\.\d GiB of memory", lines[7])
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_planned_looks_and_the_width_that_was_chosen(
    call: Call, tiny_npz: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    flags = ["--dataset", tiny_npz, "--imbalance-factor", "4", "--num-epochs", "1"]
    flags += ["--batch-size", "16", "--max-seeds", "7", "--looks", "6", "7", "--out", str(out)]
    lines = call(compare.main, *flags, "--dry-run").out.splitlines()
    assert lines[2] == "1 cell, 14 runs: 14 to train"
    assert lines[3] == ("results are read after 12 runs; what follows is the most")


def test_what_the_directory_holds_is_left_out_of_the_work_and_counted_in_the_family(
    call: Call, tiny_npz: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    flags = ["--dataset", tiny_npz, "--imbalance-factor", "4", "--num-epochs", "1"]
    flags += ["--batch-size", "16", "--num-seeds", "2", "--out", str(out)]
    assert call(compare.main, *flags, "--arms", "balanced", "focal", "--quiet").code == 0
    before = sorted(out.rglob("*"))
    ended = call(compare.main, *flags, "--arms", "balanced", "sqrt_sampling", "--dry-run")
    lines = ended.out.splitlines()
    assert lines[0] == ("note: 2 seeds cannot give a verdict, whatever comes out: give at least 6")
    assert lines[2] == f"arms: uniform, balanced, focal, sqrt_sampling; 2 seeds; results: {out}"
    assert lines[3] == "1 cell, 8 runs: 2 to train, 6 finished"
    finished = call(compare.main, *flags, "--dry-run").out.splitlines()
    assert finished[3:] == ["1 cell, 6 runs: 0 to train, 6 finished"]
    assert sorted(out.rglob("*")) == before
    ended = call(compare.main, *flags, "--learning-rate", "0.1", "--dry-run")
    assert (ended.code, ended.out) == (2, "")
    assert f"{out}: the directory holds another study" in ended.err


def test_kept_models_are_files_too(
    call: Call, tiny_npz: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "_measured_rate", lambda *_: 1.0)
    flags = ["--dataset", tiny_npz, "--num-seeds", "2", "--model=mlp", "--batch-size", "16"]
    flags += ["--imbalance-factor", "4", "--out", str(tmp_path / "out"), "--dry-run"]
    sizes = [
        float(re.search(r"about (\d+\.\d) MB", call(compare.main, *flags, *more).out)[1])  # type: ignore[index]
        for more in ([], ["--keep-models"])
    ]
    parameters = (18 * 18 + 1) * 256 + (256 + 1) * 128 + (128 + 1) * 3
    assert sizes[1] - sizes[0] == pytest.approx(4 * 4 * parameters / 1e6, abs=0.11)
