"""`python -m experiments.sweep`: what it reads, and what it refuses in one line."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from cwjax.sweep.directory import CellStatus, State
from cwjax.sweep.supervisor import Ended
from experiments import command_line, estimate, sweep, sweep_display


def refused(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    monkeypatch.setattr(sys, "argv", ["sweep", *arguments])
    monkeypatch.setattr("cwjax.sweep.supervisor.Worker", None)  # nothing may start
    with pytest.raises(SystemExit) as end:
        command_line.run_main(sweep.main)
    printed = capsys.readouterr()
    assert (end.value.code, printed.out) == (2, "")
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    return printed.err


WRONG = {
    "shard": (["--shard", "4/3"], "--shard is '4/3': give K/N, from 1/N to N/N"),
    "shard 0": (["--shard", "0/3"], "give K/N"),
    "shard text": (["--shard", "all"], "give K/N"),
    "both": (["--shard", "1/2", "--distributed"], "exclude each other"),
    "half": (["--distributed", "--process-id", "1"], "together"),
    "alone": (
        ["--coordinator", "a:1", "--num-processes", "2", "--process-id", "0"],
        "--coordinator is for --distributed",
    ),
    "flag": (["--factors", "10"], "--factors"),
    "factor": (["--imbalance-factor", "10", "0.2"], "--imbalance-factor is 0.2"),
    "no example": (["--imbalance-factor", "10", "1000"], "give at most 360"),
    "no data": (["--dataset", "mnist5k", "npz:/nowhere.npz"], "nowhere.npz"),
    "no spec": (["--spec", "/nowhere.toml"], "--spec /nowhere.toml: No such file"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_gets_one_line_and_exit_code_2(
    case: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments, message = WRONG[case]
    out = tmp_path / "out"
    assert message in refused([*arguments, "--out", str(out)], monkeypatch, capsys)
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_sedes = 3", "--num-sedes"),
        ("num_seeds = 'three'", "--num-seeds"),
        ("[train]\nnum_epochs = 3", "[train] is a table"),
        ("num_seeds == 3", "is not TOML"),
    ],
)
def test_a_mistake_in_a_file_is_named(
    text: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "sweep.toml").write_text(text)
    arguments = ["--spec", str(tmp_path / "sweep.toml"), "--out", str(tmp_path / "out")]
    assert message in refused(arguments, monkeypatch, capsys)


def test_a_file_gives_flags_and_the_command_line_wins(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(
        'dataset = ["mnist5k", "npz:my.npz"]\nimbalance_factor = [5, 20.5]\nnum_seeds = 4\n'
        'num_epochs = 3\narms = ["balanced", "focal:gamma=1,2"]\n'
        "null_control = true\nquiet = false\n"
    )
    arguments = sweep.with_spec(["--spec", str(path), "--num-seeds", "7"])
    flags = command_line.parse(sweep.Flags, None, arguments)
    assert flags.sweep.dataset == ("mnist5k", "npz:my.npz")
    assert flags.sweep.imbalance_factor == (5, 20.5)
    assert flags.sweep.arms == ("uniform", "balanced", "focal:gamma=1", "focal")
    assert (flags.sweep.num_seeds, flags.sweep.train.num_epochs) == (7, 3)
    assert flags.sweep.null_control
    assert not flags.quiet


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("compile_cache = false", ["--no-compile-cache"]),
        ("compile_cache = true", []),
        ("permute_classes = true", ["--permute-classes"]),
        ("permute_classes = false", []),
        ("seeds = [3, 4]", []),  # --num-seeds of the command line wins
    ],
)
def test_switches_and_seeds_of_a_file(line: str, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "sweep.toml").write_text(line)
    own = [f"--spec={tmp_path / 'sweep.toml'}", "--num-seeds", "7"]
    arguments = sweep.with_spec(own)
    assert arguments == [*words, *own]
    flags = command_line.parse(sweep.Flags, None, arguments)
    assert flags.sweep.all_seeds == tuple(range(7))
    assert flags.runtime.compile_cache == (line != "compile_cache = false")


@pytest.mark.parametrize(
    ("states", "num_ok_runs", "is_share", "code", "said"),
    [
        (["finished", "finished"], 4, False, 0, ""),
        (["finished", "failed"], 3, False, 1, "failed: b: why"),
        (["finished", "pending"], None, False, 1, "pending: b: runs are missing"),
        (["finished", "pending"], None, True, 0, ""),
        (["finished", "killed"], None, True, 1, "killed: b: why"),
        pytest.param(["finished", "finished"], 0, False, 1, "", marks=pytest.mark.fault(52)),
    ],
)
def test_the_exit_code_says_whether_every_cell_is_finished(
    states: list[State],
    num_ok_runs: int | None,
    is_share: bool,
    code: int,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reasons = [("why",) if state in ("failed", "killed") else () for state in states]
    progress = Mock(statuses=dict(zip("ab", map(CellStatus, states, reasons), strict=True)))
    comparison = None if num_ok_runs is None else {"num_ok_runs": num_ok_runs}
    ended = Ended(progress, comparison)
    assert sweep_display.conclude(ended, tmp_path, is_share=is_share, quiet=True) == code
    assert capsys.readouterr().err.strip() == said


def test_shards_have_directories_of_their_own() -> None:
    flags = sweep.Flags(shard="2/8")
    assert flags.share() == (1, 8)
    assert flags.directory().name.endswith("-shard-2-of-8")


def test_a_dry_run_says_what_the_sweep_costs_and_writes_nothing(
    tiny_npz: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(estimate, "MEASURED_SECONDS", 0.1)
    out = tmp_path / "out"
    flags = ["--dataset", tiny_npz, "--imbalance-factor", "2", "4", "--num-seeds", "3"]
    flags += ["--arms", "uniform", "balanced", "tau_norm", "--num-epochs", "1"]
    flags += ["--batch-size", "16", "--dry-run", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["sweep", *flags])
    with pytest.raises(SystemExit) as end:
        command_line.run_main(sweep.main)
    assert end.value.code == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("2 cells, 18 runs: 12 to train, ")  # tau_norm is not
    # 54 + 38 + 27 and 54 + 27 + 13 of 54 a class, one epoch, two arms, three seeds
    assert printed[1] == f"{(119 + 94) * 1 * 2 * 3:,} training examples over all epochs"
    assert re.fullmatch(r"about \d:\d\d:\d\d, at [\d,]+ examples/s measured here", printed[3])
    assert re.fullmatch(r"about \d+\.\d GiB of memory", printed[4])
    assert not out.exists()
