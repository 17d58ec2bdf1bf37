"""`cwjax report`: what it writes, what it says, and what it does not import."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from calls import Call
from drawn_runs import SWEEP, SWEEP_EFFECTS, make_dataset, write_study

from cwjax.cli import report
from cwjax.config import DataConfig
from cwjax.store.directory import StudyDirectory, open_study
from cwjax.study.derive import derive

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
from cwjax.cli import command_line, report
command_line.run_main(report.main)
"""


def derived(path: Path) -> Path:
    with open_study(path) as directory:
        derive(directory)
    return path


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("results") / "one"
    write_study(path, {"uniform": 0.0, "balanced": 0.9}, 6)
    return derived(path)


@pytest.fixture(scope="module")
def sweep_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("results") / "sweep"
    write_study(path, SWEEP_EFFECTS, 4, data=SWEEP)
    return derived(path)


def contents(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.name not in (".lock", "log.jsonl")
    }


def test_it_renders_again_without_jax_and_gives_the_same_bytes(directory: Path) -> None:
    before = contents(directory)
    for name in ("report.html", "comparison.json", "scores.parquet"):
        (directory / name).unlink()
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_JAX, str(directory)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(root)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("balanced is better than uniform")
    assert contents(directory) == before


def test_an_edited_comparison_is_not_believed(directory: Path, tmp_path: Path, call: Call) -> None:
    copy = shutil.copytree(directory, tmp_path / "copy")
    honest = (copy / "comparison.json").read_bytes()
    (copy / "comparison.json").write_bytes(honest.replace(b'"better"', b'"worse"'))
    assert "balanced is better than uniform" in call(report.main, copy).out
    assert (copy / "comparison.json").read_bytes() == honest


def test_a_sweep_is_rendered_again_and_has_a_latex_table(sweep_directory: Path, call: Call) -> None:
    before = contents(sweep_directory)
    (sweep_directory / "report.html").unlink()
    ended = call(report.main, sweep_directory)
    assert ended.code == 0
    assert "No verdict yet: 6 seeds needed, 4 run" in ended.out
    assert contents(sweep_directory) == before
    table = call(report.main, sweep_directory, "--latex").out
    assert table.count(r"\midrule") == 3  # below the headings, and between three cells
    assert table.count("balanced &") == 3


def test_figures_as_pdf(directory: Path, tmp_path: Path, call: Call) -> None:
    copy = shutil.copytree(directory, tmp_path / "copy")
    svg = {path.stem for path in (copy / "figures").glob("*.svg")}
    assert call(report.main, copy, "--figures", "pdf").code == 0
    pdf = list((copy / "figures").glob("*.pdf"))
    assert {path.stem for path in pdf} == svg
    assert all(path.read_bytes().startswith(b"%PDF") for path in pdf)


def test_two_directories_stand_side_by_side(directory: Path, tmp_path: Path, call: Call) -> None:
    other = tmp_path / "two"
    write_study(other, {"uniform": 0.0, "focal": 0.05}, 2, data=DataConfig(imbalance_factor=10.0))
    derived(other)
    files = sorted(directory.rglob("*"))
    ended = call(report.main, directory, other, "--out", tmp_path / "page.html")
    assert (ended.code, ended.err) == (0, "")
    page = (tmp_path / "page.html").read_text()
    assert "long-tailed, imbalance factor 50" in page
    assert "long-tailed, imbalance factor 10" in page
    assert str(tmp_path) not in page
    assert sorted(directory.rglob("*")) == files


def test_a_merge_is_the_whole_and_its_failures_are_named(tmp_path: Path, call: Call) -> None:
    effects = {"uniform": 0.0, "balanced": 0.9}
    write_study(tmp_path / "a", effects, seeds=(0, 1, 2))
    write_study(tmp_path / "b", effects, seeds=(3, 4, 5), failures={("balanced", 4): "no luck"})
    ended = call(report.main, "--merge", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "all")
    assert ended.code == 1
    assert f"files: {tmp_path / 'all'}" in ended.out
    assert ended.err == "failed: balanced seed 4: no luck\n"
    assert len(list((tmp_path / "all").glob("runs/*/*"))) == 11
    again = call(report.main, tmp_path / "all")
    assert (again.code, again.err) == (1, ended.err)


def test_latex_is_printed_or_written(directory: Path, tmp_path: Path, call: Call) -> None:
    printed = call(report.main, directory, "--latex").out
    assert r"\begin{tabular}" in printed
    assert r"$^{\ast}$" in printed
    ended = call(report.main, directory, "--latex", "--out", tmp_path / "table.tex")
    assert ended.out == f"file: {tmp_path / 'table.tex'}\n"
    assert (tmp_path / "table.tex").read_text() == printed


def test_csv_of_runs_from_elsewhere(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "scores.csv").write_text(CSV)
    flags = ["--csv", tmp_path / "scores.csv", "--baseline", "A"]  # one column: no --metric
    ended = call(report.main, *flags)
    assert ended.code == 0, ended.err
    assert "B is better than A on this test set: +5.04 percentage points in accuracy" in ended.out
    assert max(map(len, ended.out.split("B is better")[0].splitlines())) <= 80
    table = call(report.main, *flags, "--latex").out
    assert r"A & 8 & 73.50 $\pm$ 2.45 \\" in table
    assert re.search(r"B & 8 & 78\.54 \$\\pm\$ 2\.\d\d\$\^\{\\ast\}\$ ", table)
    call(report.main, *flags, "--latex", "--out", tmp_path / "table.tex")
    assert (tmp_path / "table.tex").read_text() == table


def test_a_csv_gets_the_files_of_a_directory(tmp_path: Path, call: Call) -> None:
    (tmp_path / "scores.csv").write_text(CSV)
    out = tmp_path / "out"
    flags = ["--csv", tmp_path / "scores.csv", "--baseline", "A", "--out", out]
    ended = call(report.main, *flags, "--figures", "pdf")
    assert ended.code == 0, ended.err
    assert {"comparison.json", "report.html", "report.md", "figures"} <= {
        path.name for path in out.iterdir()
    }
    assert "B is better than A on this test set: +5.04" in (out / "report.md").read_text()
    assert list(out.glob("figures/*.svg"))
    assert list(out.glob("figures/*.pdf"))
    first = contents(out)
    assert call(report.main, *flags, "--figures", "pdf").code == 0
    assert contents(out) == first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to render: give directories of results, or --csv FILE"),
        (["nowhere"], "nowhere: no such directory: give a directory of results"),
        (["."], ". holds no study.json: give a directory of results"),
        (["--csv", "scores.csv"], "--csv needs --baseline"),
        (["--csv", "none.csv", "--baseline", "A"], "none.csv cannot be read: No such file"),
        (
            ["--csv", "scores.csv", "--baseline", "A", "--metric", "loss"],
            "line 1 has no column loss",
        ),
        (["x", "--csv", "scores.csv"], "--csv and directories exclude each other"),
        (["x", "y", "--latex"], "--latex makes one table: give one directory"),
        (["x", "--out", "y"], "--out has no effect here"),
        (["x", "--metric", "loss"], "--metric has no effect with one directory"),
        (["x", "--allow-environment-change"], "--allow-environment-change has no effect"),
        (["x", "y", "--figures", "pdf"], "--figures has no effect with several directories"),
        (["x", "--latex", "--figures", "pdf"], "--figures has no effect with --latex"),
        (["--csv", "scores.csv", "--figures", "pdf"], "--figures has no effect with --csv"),
        (["x", "--merge", "--out", "y"], "--merge needs at least two directories"),
        (["x", "y", "--merge"], "--merge needs at least two directories and --out"),
        (["x", "y", "--calibrate"], "--calibrate has no effect with several directories"),
        (["x", "--latex", "--test-prior", "uniform"], "--test-prior has no effect with --latex"),
        (["--csv", "scores.csv", "--at-recall", "0.5"], "--at-recall has no effect with --csv"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path,
    arguments: list[str],
    message: str,
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scores.csv").write_text(CSV)
    ended = call(report.main, *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert len(ended.err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]


def test_models_used_elsewhere(directory: Path, tmp_path: Path, call: Call) -> None:
    copy, costs = shutil.copytree(directory, tmp_path / "copy"), tmp_path / "costs.csv"
    costs.write_text("true,ant,bee,cat\nant,0,1,1\nbee,1,0,1\ncat,9,9,0\n")
    share = tmp_path / "ward.json"
    share.write_text('{"ant": 1, "bee": 2, "cat": 1}')
    flags = ["--test-prior", "training", share, "--calibrate", "--cost-matrix", costs]
    asked = call(report.main, copy, *flags)
    assert asked.code == 0, asked.err
    assert "Accuracy if the classes were as common as in" in asked.out
    comparison = json.loads((copy / "comparison.json").read_text())
    (facts,) = json.loads((copy / "deployment.json").read_text())
    assert list(facts["priors"]) == ["test set", "training", "ward"]
    assert facts["priors"]["ward"] == [0.25, 0.5, 0.25]
    assert facts["carried"]["uniform"] == "training"
    page = (copy / "report.html").read_text()
    for told in (
        "Used elsewhere",
        "What would change if your test data looked like your training data",
        "Expected cost of a decision",
        "temperature",
        "intervals asked for hold",
    ):
        assert told in page
    assert (copy / "figures" / "test_priors.svg").is_file()
    # The accuracy of the test set as it is, is the accuracy.
    accuracy = next(s for s in facts["scores"] if (s["place"], s["how"]) == ("test set", "left"))
    (uniform,) = [s for s in comparison["summaries"] if s["arm"] == "uniform"]
    assert accuracy["summaries"]["uniform"] == pytest.approx(uniform["scores"]["accuracy"])
    (copy / "figures" / "mine.svg").write_text("the user's own")
    assert call(report.main, copy).code == 0
    assert "Used elsewhere" not in (copy / "report.html").read_text()
    assert not (copy / "deployment.json").exists()
    assert not (copy / "figures" / "test_priors.svg").exists()
    assert (copy / "figures" / "mine.svg").is_file()
    for wrong, message in (
        (["--at-recall", "0.9"], "--at-recall is for two classes, here are 3"),
        (["--at-recall", "9"], "--at-recall is 9: give a fraction"),
        (["--test-prior", "train"], "did you mean 'training'"),
        (["--cost-matrix", tmp_path / "no.csv"], "cannot be read"),
    ):
        ended = call(report.main, copy, *wrong)
        assert (ended.code, ended.out) == (2, "")
        assert message in ended.err


def test_of_two_classes_average_precision_is_said_to_depend_on_their_shares(
    tmp_path: Path, call: Call
) -> None:
    dataset = make_dataset(class_names=("no", "yes"))
    write_study(tmp_path / "two", {"uniform": 0.0, "balanced": 0.9}, 6, dataset=dataset)
    asked = call(report.main, tmp_path / "two", "--at-recall", "0.5", "--at-precision", "0.5")
    assert asked.code == 0, asked.err
    page = (tmp_path / "two" / "report.md").read_text()
    assert (
        "| arm | average precision, all thresholds | precision, recall 0.5 on validation |" in page
    )
    assert "McDermott et al. 2024" in page


@pytest.mark.usefixtures("no_report")
def test_every_cell_of_a_sweep_has_its_answers(sweep_directory: Path, call: Call) -> None:
    assert call(report.main, sweep_directory, "--test-prior", "reversed").code == 0
    comparison = json.loads((sweep_directory / "comparison.json").read_text())
    answers = json.loads((sweep_directory / "deployment.json").read_text())
    assert [each["cell"] for each in answers] == [cell["cell"] for cell in comparison["cells"]]


@pytest.mark.fault(65)
def test_unfinished_and_damaged_directories(directory: Path, tmp_path: Path, call: Call) -> None:
    copy = shutil.copytree(directory, tmp_path / "copy")
    page = (copy / "report.html").read_bytes()
    (run,) = copy.glob("runs/*/balanced-3.npz")
    content = run.read_bytes()
    run.write_bytes(content[: len(content) // 2])
    ended = call(report.main, copy)
    assert ended.code == 2
    assert "balanced-3.npz is damaged" in ended.err
    run.unlink()
    ended = call(report.main, copy)
    assert ended.code == 2
    assert "1 of 12 runs are not finished, the first is balanced seed 3" in ended.err
    assert (copy / "report.html").read_bytes() == page
    assert StudyDirectory(copy).read_study() is not None
