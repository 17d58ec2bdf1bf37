"""What a terminal shows: every number whole at any width, nothing hidden, any encoding."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from drawn_runs import SWEEP, SWEEP_EFFECTS, write_study
from rich.cells import cell_len

from cwjax.analysis.results import StudyComparison
from cwjax.report import tables, terminal
from cwjax.report.tables import Table
from cwjax.store.directory import StudyDirectory
from cwjax.study.derive import compare

WIDTHS = [40, 60, 80, 120, 200]


@pytest.fixture(scope="module")
def one_cell(tmp_path_factory: pytest.TempPathFactory) -> StudyComparison:
    path = tmp_path_factory.mktemp("results") / "study"
    names = ["uniform", "effective_number:beta=0.99", "focal:gamma=1.5", "posthoc_logit_adjusted"]
    write_study(path, dict(zip(names, (0.0, 0.9, 0.1, 0.5), strict=True)), 8, null_control=True)
    return compare(StudyDirectory(path))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> StudyComparison:
    path = tmp_path_factory.mktemp("results") / "sweep"
    write_study(path, SWEEP_EFFECTS, 9, data=SWEEP, failures={("focal", 3): "no memory"})
    return compare(StudyDirectory(path))


def printed(study: StudyComparison, width: int, encoding: str = "utf-8") -> str:
    """What reaches the terminal."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="")
    terminal.print_comparison(study, file, width)
    file.flush()
    return raw.getvalue().decode(encoding)


def every_table(study: StudyComparison) -> list[Table]:
    return list(terminal._tables(study))


@pytest.mark.parametrize("width", WIDTHS)
def test_numbers_are_whole_and_lines_fit_at_every_width(
    one_cell: StudyComparison, sweep: StudyComparison, width: int
) -> None:
    for study in (one_cell, sweep):
        text = printed(study, width)
        for table in every_table(study):
            lines = terminal.table_lines(table, width)
            assert max(map(cell_len, lines)) <= width
            assert "\n".join(line.rstrip() for line in lines) in text
            for row in table.rows:
                for cell in map(str, row):
                    assert cell in re.sub(r"\s+", " ", text), (cell, width)


def test_rows_are_lines_then_names_move_up_then_rows_are_stacked() -> None:
    table = Table("x", ("arm", "a number", "another"), (("long_name", "1.00", "2.00 ± 3.00"),))
    assert terminal.table_lines(table, 40) == [
        "                a",
        "arm        number      another",
        "-" * 30,
        "long_name    1.00  2.00 ± 3.00",
    ]
    assert terminal.table_lines(table, 24) == [
        "       a",
        "  number      another",
        "  " + "-" * 19,
        "long_name",
        "    1.00  2.00 ± 3.00",
    ]
    assert terminal.table_lines(table, 20) == [
        "long_name",
        "  a number: 1.00",
        "  another: 2.00 ±",
        "  3.00",
    ]


def test_a_verdict_stands_with_the_name_where_columns_do_not_fit(one_cell: StudyComparison) -> None:
    lines = terminal.table_lines(tables.differences(one_cell), 80)
    assert "effective_number:beta=0.99: better" in lines
    assert any(line.startswith("effective_number") and "better" in line and "+" in line
               for line in terminal.table_lines(tables.differences(one_cell), 170))  # fmt: skip


def test_wide_characters_are_counted_as_such() -> None:
    table = Table("x", ("class", "n"), (("家家", "1"), ("a", "22")))
    assert [cell_len(line) for line in terminal.table_lines(table, 80)] == [9, 9, 9, 9]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("width", [60, 120])
def test_every_encoding_will_do(one_cell: StudyComparison, encoding: str, width: int) -> None:
    text = printed(one_cell, width, encoding)
    sign = "±" if encoding == "latin-1" else "+-"
    assert f"Mean {sign} standard deviation" in text
    assert terminal.printable("a – b… 家 ±", "ascii") == r"a - b... \u5bb6 +-"
    assert terminal.printable("a – 家 ±", None) == "a – 家 ±"


@pytest.mark.fault(63)
def test_escape_sequences_of_names_do_not_reach_the_terminal(
    shifted: Callable[..., StudyComparison],
) -> None:
    text = printed(shifted({"\x1b[31mred\u202e": 0.02, "[bold]b": 0.0}), 100)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert r"\x1b[31mred\u202e" in text
    assert "[bold]b" in text  # no markup of rich's either


def test_one_cell_has_a_sentence_for_each_comparison_and_many_cells_have_one(
    one_cell: StudyComparison, sweep: StudyComparison
) -> None:
    text = printed(one_cell, 80)
    assert "effective_number:beta=0.99 is better than uniform: +" in text
    assert "No detectable difference between null_control and uniform: " in text
    assert "The 3 comparisons are one family" in text
    text = printed(sweep, 80)
    assert "In balanced accuracy, compared with uniform: balanced: " in text
    assert "no memory" in text
    few = dataclasses.replace(
        one_cell, comparisons=tuple(_with_few_seeds(entry) for entry in one_cell.comparisons)
    )
    assert printed(few, 80).count("No verdict yet: ") == 1


def _with_few_seeds(entry):
    return dataclasses.replace(entry, seeds=entry.seeds[:3])


def test_lines_are_never_broken_in_a_pipe(one_cell: StudyComparison, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w", encoding="utf-8") as file:
        terminal.say("x" * 300, file)
    assert (tmp_path / "out").read_text() == "x" * 300 + "\n"
