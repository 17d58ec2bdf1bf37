"""Every fault is tried or it is said why not, and the table of faults says what happened."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from faults.table import FAULTS, Case, markdown

pytest_plugins = ["pytester"]

TESTS = Path(__file__).parents[1]

EXAMPLE = """
import pytest

@pytest.mark.fault(3, 25)
def test_good(): ...

@pytest.mark.parametrize("x", [1, pytest.param(2, marks=pytest.mark.fault(26)), 3])
@pytest.mark.fault(25)
def test_cases(x):
    if x == 3:
        pytest.skip("no | there")

@pytest.mark.fault(26)
def test_bad(): assert False

@pytest.mark.fault(27)
@pytest.mark.exhaustive
def test_long(): ...

def test_other(): ...
"""


def marked_rows() -> set[int]:
    """The rows that the marks in the source of the tests name; collecting them would take long."""
    return {
        argument.value
        for file in TESTS.rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.fault"
        for argument in node.args
    }


def test_every_row_has_a_test_and_every_mark_a_row() -> None:
    assert list(FAULTS) == [*range(1, 89), *range(91, 101)]
    assert marked_rows() == FAULTS.keys()


@pytest.mark.parametrize("processes", ["0", "2"])
def test_the_table_says_what_became_of_each_test(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, processes: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    pytester.makepyfile(EXAMPLE)
    pytester.makeini("[pytest]\nmarkers =\n  exhaustive\n  fault(row)")
    selection = ["-p", "faults.table", "-m", "fault and not exhaustive", "-n", processes]
    pytester.runpytest_subprocess(*selection, "--fault-table", "table.md")
    page = Path("table.md").read_text("utf-8")
    name = "`test_the_table_says_what_became_of_each_test.py::test_"
    rows = {line.split(" | ")[0]: line.split(" | ", 3)[-1] for line in page.splitlines()}
    assert rows["| 3"] == f"{name}good` | passed |"
    assert rows["| 25"] == (
        f"{name}cases` (3 cases)<br>{name}good` | "
        r"passed<br>`test_cases`: 2 passed, 1 skipped: no \| there |"
    )
    assert rows["| 26"] == f"{name}bad`<br>{name}cases` | passed<br>`test_bad`: 1 failed |"
    assert rows["| 27"] == f"{name}long` | `test_long`: 1 not run (exhaustive) |"
    assert rows["| 28"] == " | no test |"
    tally = "1 failed, 1 not run (exhaustive), 3 passed, 1 skipped: no | there."
    totals = f"{len(FAULTS)} faults, {tally}"
    assert f"-m 'fault and not exhaustive' -n {processes} --fault-table table.md`" in page
    assert totals in page


def test_a_mark_of_no_row_is_refused(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.fault(999)\ndef test_it(): ...")
    result = pytester.runpytest_inprocess("-p", "faults.table", "-n0")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*test_it: faults.toml has no row *999*"])


def test_reasons_stand_beside_the_tests() -> None:
    page = markdown({"tests/a.py::test_b": Case([57], "not run", "passed")}, "pytest")
    (line,) = (line for line in page.splitlines() if line.startswith("| 57 |"))
    assert f"`tests/a.py::test_b`<br>{FAULTS[57].untried} | passed |" in line
