"""`python -m experiments.report`: what it writes, what it says, and what it does not import."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from drawn_runs import write_runs

from cwjax.results.derive import derive
from cwjax.results.store import Store

CSV = "arm,seed,accuracy\n" + "".join(
    f"{arm},{seed},{0.7 + shift + 0.01 * seed + 0.001 * (seed * shift > 0.2)}\n"
    for arm, shift in (("A", 0.0), ("B", 0.05))
    for seed in range(8)
)

WITHOUT_JAX = """
import importlib.abc, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        assert name.partition(".")[0] not in {"jax", "jaxlib", "flax"}, name

sys.meta_path.insert(0, Refuse())
from experiments import command_line, report
command_line.run_main(report.main)
"""


def report(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[1]
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_JAX, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd or root,
        env=os.environ | {"PYTHONPATH": str(root), "COLUMNS": "80"},
        check=False,
    )


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("results") / "one"
    write_runs(directory, {"uniform": 0.0, "balanced": 0.9}, 6)
    derive(Store(directory))
    return directory


def test_it_renders_again_without_jax(directory: Path) -> None:
    before = {name: (directory / name).read_bytes() for name in ("report.html", "report.md")}
    for name in before:
        (directory / name).unlink()
    done = report(directory)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("balanced is better than uniform")
    for name, content in before.items():
        assert (directory / name).read_bytes() == content


def test_runs_that_came_since_are_derived_first(directory: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(directory, copy)
    derived = (copy / "comparison.json").read_bytes()
    for name in ("comparison.json", "scores.parquet"):
        (copy / name).unlink()
    assert report(copy).returncode == 0
    assert (copy / "comparison.json").read_bytes() == derived
    assert (copy / "scores.parquet").read_bytes() == (directory / "scores.parquet").read_bytes()


def test_two_directories_stand_side_by_side(directory: Path, tmp_path: Path) -> None:
    other = tmp_path / "two"
    write_runs(other, {"uniform": 0.0, "focal": 0.05}, 2, data={"imbalance_factor": 10.0})
    derive(Store(other))
    files = sorted(directory.rglob("*"))
    done = report(directory, other, "--out", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page.html").read_text()
    assert "A: toy, long-tailed, imbalance factor 50" in page
    assert "B: toy, long-tailed, imbalance factor 10" in page
    assert page.count("<img") == 2
    assert str(tmp_path) not in page
    assert sorted(directory.rglob("*")) == files


def test_latex_is_printed(directory: Path) -> None:
    done = report(directory, "--latex")
    assert r"\begin{tabular}" in done.stdout
    assert r"$^{\ast}$" in done.stdout


def test_csv_of_runs_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text(CSV)
    done = report("--csv", tmp_path / "scores.csv", "--baseline", "A", "--metric", "accuracy")
    assert done.returncode == 0, done.stderr
    assert "B is better than A: +5.04 percentage points in accuracy" in done.stdout
    assert max(map(len, done.stdout.split("B is better")[0].splitlines())) <= 80
    latex = report(
        "--csv", tmp_path / "scores.csv", "--baseline", "A", "--metric", "accuracy", "--latex"
    )
    assert r"A & 8 & 73.50 $\pm$ 2.45 \\" in latex.stdout
    assert re.search(r"B & 8 & 78\.54 \$\\pm\$ 2\.\d\d\$\^\{\\ast\}\$ ", latex.stdout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to render: give directories of results, or --csv FILE"),
        (["nowhere"], "nowhere: no such directory: give a directory of results"),
        (["--csv", "scores.csv"], "--csv needs --baseline"),
        (["--csv", "none.csv", "--baseline", "A"], "none.csv cannot be read: No such file"),
        (["--csv", "scores.csv", "--baseline", "A"], "line 1 has no column balanced_accuracy"),
        (["x", "--csv", "scores.csv"], "--csv and directories exclude each other"),
        (["x", "y", "--latex"], "--latex makes one table: give one directory"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "scores.csv").write_text(CSV)
    done = report(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]


@pytest.mark.fault(65)
def test_unfinished_and_damaged_directories(directory: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(directory, copy)
    page = (copy / "report.html").read_bytes()
    run = copy / "runs" / "balanced-3.npz"
    content = run.read_bytes()
    run.write_bytes(content[: len(content) // 2])
    done = report(copy)
    assert done.returncode == 2
    assert "balanced-3.npz is not a whole run file" in done.stderr
    run.unlink()
    done = report(copy)
    assert done.returncode == 2
    assert "1 of 12 runs are not finished, the first is balanced seed 3" in done.stderr
    assert (copy / "report.html").read_bytes() == page
