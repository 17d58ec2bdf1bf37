"""Results that are torn or foreign are refused by name, and none is dropped or overwritten."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from comparisons import files
from drawn_runs import CELL, make_dataset, write_study

from cwjax.config import RuntimeConfig, StudyConfig
from cwjax.errors import ConfigError
from cwjax.store.directory import StudyDirectory
from cwjax.study.derive import compare, derive
from cwjax.study.run import run

pytestmark = [pytest.mark.fault(65)]

ROOT = Path(__file__).parents[2]


def cut_short(runs: Path) -> None:
    path = runs / "balanced-1.npz"
    path.write_bytes(path.read_bytes()[:-100])


def emptied(runs: Path) -> None:
    (runs / "balanced-1.npz").write_bytes(b"")


def flipped(runs: Path) -> None:
    path = runs / "balanced-1.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def of_another_seed(runs: Path) -> None:
    shutil.copyfile(runs / "balanced-0.npz", runs / "balanced-1.npz")


def of_an_unknown_arm(runs: Path) -> None:
    shutil.copyfile(runs / "balanced-0.npz", runs / "focal-1.npz")


DAMAGES = [
    pytest.param(cut_short, r"balanced-1\.npz is damaged \(", id="cut"),
    pytest.param(emptied, r"balanced-1\.npz is damaged \(", id="empty"),
    pytest.param(flipped, r"balanced-1\.npz is damaged \(", id="flipped"),
    pytest.param(
        of_another_seed,
        r"balanced-1\.npz holds balanced seed 0 of .*, not balanced seed 1",
        id="seed",
    ),
    pytest.param(of_an_unknown_arm, r"focal-1\.npz is of no arm and seed of this", id="arm"),
]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("drawn") / "results"
    write_study(directory, {"uniform": 0.0, "balanced": 0.5}, 2)
    derive(StudyDirectory(directory))
    return directory


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_reports_refuse_them(
    drawn: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    directory = tmp_path / "results"
    shutil.copytree(drawn, directory)
    damage(directory / "runs" / CELL)
    before = files(directory, with_log=True)
    with pytest.raises(ConfigError, match=message):
        compare(StudyDirectory(directory))
    assert files(directory, with_log=True) == before


def test_a_run_of_another_study_is_refused(drawn: Path, tmp_path: Path) -> None:
    other = make_dataset(num_test_per_class=21)
    write_study(tmp_path / "other", {"uniform": 0.0, "balanced": 0.5}, 2, dataset=other)
    shutil.copytree(drawn, tmp_path / "results")
    name = f"runs/{CELL}/balanced-1.npz"
    shutil.copyfile(tmp_path / "other" / name, tmp_path / "results" / name)
    with pytest.raises(ConfigError, match=r"balanced-1\.npz is of another study: .*\(63, 3\)"):
        compare(StudyDirectory(tmp_path / "results"))


@pytest.mark.usefixtures("no_report")
def test_a_continued_study_refuses_them_before_it_trains(
    tiny_config: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_core = RuntimeConfig(max_parallel_runs=1)
    list(run(tiny_config, tmp_path / "good", one_core))
    monkeypatch.setattr("cwjax.training.local.Engine", None)  # nothing may be compiled
    (cell,) = tiny_config.cells
    for number, case in enumerate(DAMAGES):
        damage, message = case.values
        directory = tmp_path / str(number)
        shutil.copytree(tmp_path / "good", directory)
        (directory / "runs" / cell / "uniform-0.npz").unlink()  # something to train
        damage(directory / "runs" / cell)
        before = files(directory, with_log=True)
        with pytest.raises(ConfigError, match=message):
            list(run(tiny_config, directory, one_core))
        assert files(directory, with_log=True) == before


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("b,1", "scores.csv line 5 has more or fewer fields than line 1"),
        ("b,1,0.7\nb,1,0.8", "scores.csv line 6: arm 'b' seed 1 is there already: give it once"),
        ("b,1,0.7x", "scores.csv line 5: accuracy is '0.7x': give a finite number"),
        (
            "b,one,0.7",
            "scores.csv line 5: seed is 'one': give an integer of at least 0, with at most 18 "
            "digits",
        ),
    ],
)
def test_rows_of_a_csv_file(tmp_path: Path, row: str, message: str) -> None:
    (tmp_path / "scores.csv").write_text(f"arm,seed,accuracy\na,0,0.5\na,1,0.6\nb,0,0.6\n{row}\n")
    command = [sys.executable, "-m", "experiments.report", "--csv", f"{tmp_path}/scores.csv"]
    command += ["--baseline", "a", "--metric", "accuracy"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {message}\n"
