"""A write that is cut short or finds no space leaves what was there; a rerun repairs the rest."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from comparisons import Compare, files, log

pytestmark = pytest.mark.slow

KILLED = -signal.SIGKILL


@pytest.mark.fault(2, 3)
def test_killed_in_a_checkpoint_write_the_previous_serves(
    compare: Compare, unbroken: Path, tmp_path: Path
) -> None:
    for name, pattern, nth in [
        ("kill", "*/study.json", 1),
        ("tear", "*.checkpoint", 7),
        ("kill", "*.checkpoint", 3),
    ]:
        code, _ = compare(tmp_path, faults=[(name, pattern, nth)], checkpoint_seconds=0)
        assert code == KILLED
        assert list(tmp_path.rglob(".tmp-*"))
    assert compare(tmp_path) == (0, "")
    assert [event["continued"] for event in log(tmp_path) if event["event"] == "training"] == [
        0,
        2,
        2,
    ]
    assert files(tmp_path) == files(unbroken)


@pytest.mark.fault(3, 4)
def test_killed_while_results_are_written(compare: Compare, unbroken: Path, tmp_path: Path) -> None:
    for pattern, nth in [("*/runs/*/*.npz", 2), ("*/scores.parquet", 1), ("*/comparison.json", 1)]:
        code, _ = compare(tmp_path, faults=[("kill", pattern, nth)])
        assert code == KILLED
    assert compare(tmp_path) == (0, "")
    assert files(tmp_path) == files(unbroken)


@pytest.mark.fault(5)
def test_killed_while_the_report_is_written_the_old_one_is_whole(
    compare: Compare, unbroken: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(unbroken, out)
    more = ("--num-seeds", "3")
    assert compare(out, *more, faults=[("kill", "*/report.html", 1)])[0] == KILLED
    report = (unbroken / "report.html").read_bytes()
    assert (out / "report.html").read_bytes() == report
    assert compare(out, *more) == (0, "")
    assert (out / "report.html").read_bytes() != report


@pytest.mark.fault(8, 9)
def test_a_full_disk_is_one_clear_line_and_nothing_is_lost(
    compare: Compare, unbroken: Path, tmp_path: Path
) -> None:
    for pattern, nth, name in [
        ("*.checkpoint", 7, ".checkpoint"),
        ("*/runs/*/*.npz", 2, ".npz"),
        ("*history.parquet", 1, "history.parquet"),
    ]:
        before = files(tmp_path)
        code, errors = compare(tmp_path, faults=[("full", pattern, nth)], checkpoint_seconds=0)
        assert (code, errors.count("\n")) == (2, 1)
        assert errors.startswith("error: ")
        assert errors.endswith(f"{name}: No space left on device\n")
        after = files(tmp_path)
        assert not any(".tmp-" in path for path in after)
        kept = {path for path in before if not path.startswith("checkpoints")}
        assert {path: after[path] for path in kept} == {path: before[path] for path in kept}
    assert compare(tmp_path) == (0, "")
    assert files(tmp_path) == files(unbroken)
