"""`pytest --fault-table FILE`: which tests try which fault, and how that ended, as Markdown.

Tests name the rows of `faults.toml` that they try: `@pytest.mark.fault(12, 13)`.
"""

from __future__ import annotations

import shlex
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

TOML = tomllib.loads(Path(__file__).with_name("faults.toml").read_text("utf-8"))


@dataclass(frozen=True)
class Fault:
    """One row: what goes wrong, what is promised, what no test can try, and what none tries yet."""

    row: int
    fault: str
    promise: str
    untried: str = ""


FAULTS = {entry["row"]: Fault(**entry) for entry in TOML["fault"]}


@dataclass
class Case:
    """One collected test, a parameter set of a parametrised one."""

    rows: list[int]
    not_run: str  # what to say unless it is run
    result: str = ""

    def add(self, report: pytest.TestReport) -> None:
        """Takes one of the reports on setup, call and teardown into account."""
        if report.failed:
            self.result = "failed"
        elif report.skipped:
            why = report.longrepr[2] if isinstance(report.longrepr, tuple) else "expected to fail"
            self.result = f"skipped: {why.removeprefix('Skipped: ')}"
        elif report.when == "call":
            self.result = "passed"

    def __str__(self) -> str:
        return self.result or self.not_run


class FaultTable:
    """Collects cases and their results where the tests run, and writes the table at the end.

    Under pytest-xdist only the workers know which tests there are; they tell it when they finish.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.rows: dict[str, tuple[list[int], str]] = {}
        self.reports: list[pytest.TestReport] = []

    @pytest.hookimpl(tryfirst=True)  # before -m leaves tests out
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            rows = sorted({row for mark in item.iter_markers("fault") for row in mark.args})
            unknown = [row for row in rows if row not in FAULTS]
            if unknown:
                raise pytest.UsageError(f"{item.nodeid}: faults.toml has no row {unknown}")
            if rows:
                long = item.get_closest_marker("exhaustive") is not None
                self.rows[item.nodeid] = rows, "not run (exhaustive)" if long else "not run"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.reports.append(report)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.rows |= getattr(node, "workeroutput", {}).get("faults", {})

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        path = self.config.getoption("fault_table")
        if hasattr(self.config, "workeroutput"):
            self.config.workeroutput["faults"] = self.rows
        elif path is not None:
            cases = {name: Case(*about) for name, about in sorted(self.rows.items())}
            for report in self.reports:
                if report.nodeid in cases:
                    cases[report.nodeid].add(report)
            command = shlex.join(["pytest", *self.config.invocation_params.args])
            path.write_text(markdown(cases, command), "utf-8")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fault-table", type=Path, metavar="FILE", help="write which tests try which fault"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(FaultTable(config))


def markdown(cases: Mapping[str, Case], command: str) -> str:
    """The page: preface, the command and its totals, one line a row of `faults.toml`.

    Args:
        cases: by node id.
        command: that ran them.
    """
    lines = [
        TOML["preface"].strip(),
        "",
        f"Written by `{command}`: {len(FAULTS)} faults, {_tally(cases.values())}.",
        "",
        "| # | fault | promise | tests | result |",
        "|---|---|---|---|---|",
    ]
    for fault in FAULTS.values():
        groups = _groups(cases, fault.row)
        tests = [
            f"`{name}`" + (f" ({len(group)} cases)" if len(group) > 1 else "")
            for name, group in groups.items()
        ]
        tests += filter(None, [fault.untried])
        result = _result(groups)
        cells = [str(fault.row), fault.fault, fault.promise, "<br>".join(tests), result]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _groups(cases: Mapping[str, Case], row: int) -> dict[str, list[Case]]:
    """The cases that try a row, by the name of their test without parameters."""
    groups = defaultdict(list)
    for name, case in cases.items():
        if row in case.rows:
            groups[name.partition("[")[0]].append(case)
    return groups


def _result(groups: Mapping[str, list[Case]]) -> str:
    """`passed`, or what became of the tests that did not all pass."""
    if not groups:
        return "no test"
    others = [
        f"`{name.rpartition('::')[2]}`: {_tally(group)}"
        for name, group in groups.items()
        if any(str(case) != "passed" for case in group)
    ]
    if len(others) < len(groups):
        others.insert(0, "passed")
    return "<br>".join(others)


def _tally(cases: Iterable[Case]) -> str:
    """E.g. `3 passed, 1 skipped: no browser`."""
    counts = Counter(map(str, cases))
    return ", ".join(f"{count} {result}" for result, count in sorted(counts.items()))
