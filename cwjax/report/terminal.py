"""What a terminal shows of a study: the tables and sentences of the reports, at any width.

Nothing is cut. Where the columns of a table do not fit, names move above their rows; where that is
not enough, rows are stacked. Characters that the output cannot encode become plain ones.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from cwjax.analysis.results import StudyComparison
from cwjax.report import tables, words
from cwjax.report.tables import Table

GAP = 2
"""Blanks between columns, and before what belongs to a name."""

_PLAIN = {"±": "+-", "–": "-", "…": "...", "×": "x", "α": "alpha", "’": "'"}


def print_study(
    study: StudyComparison, file: TextIO | None = None, width: int | None = None
) -> None:
    """Prints the tables of a study, and its verdicts in sentences.

    Args:
        study: what was found.
        file: where to [default: standard output].
        width: in columns [default: the terminal's].
    """
    file = file or sys.stdout
    console = Console(file=file, width=width)
    for table in _tables(study):
        say(table.caption, file, style="bold")
        for line in table_lines(table, console.width):
            say(line, file)
        say("", file)
    if len(study.cells) == 1 and study.comparisons:
        for entry in study.comparisons:
            say(words.full_verdict(entry, study.metric), file)
    else:
        titles = {cell.cell: tables.cell_title(cell) for cell in study.cells}
        for entry in study.comparisons:
            for note in words.notes(entry, study.metric):
                say(f"{titles[entry.pairing.cell]}: {note}", file)
        say(words.headline(study), file)
    if study.family_size > 1:
        say(words.family_sentence(study), file)


def _tables(study: StudyComparison) -> Iterator[Table]:
    if len(study.cells) == 1:
        yield tables.scores(study)
    if study.comparisons:
        yield tables.differences(study)
    others = [
        tables.secondary(study, words.shown_metrics(study)) if len(study.cells) == 1 else None,
        tables.trends(study),
        tables.chosen_settings(study),
        tables.failures(study),
    ]
    yield from (table for table in others if table is not None)


def say(text: str, file: TextIO | None = None, style: str = "") -> None:
    """Prints one line, however long: nothing in it is hidden or cut.

    Args:
        text: without line breaks.
        file: where to [default: standard output].
        style: rich's, where the output is a terminal.
    """
    file = file or sys.stdout
    line = printable(text, file.encoding)
    Console(file=file).print(Text(line, style=style), soft_wrap=True)


def printable(text: str, encoding: str | None) -> str:
    """The text with escapes for what is hidden, and plain characters for what cannot be encoded.

    Args:
        text: any.
        encoding: of the output; None takes every character.
    """
    visible = words.visible(text)
    try:
        visible.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        return "".join(_encodable(character, encoding or "utf-8") for character in visible)
    return visible


def _encodable(character: str, encoding: str) -> str:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return _PLAIN.get(character) or words.escape(character)
    return character


def table_lines(table: Table, width: int) -> list[str]:
    """The lines of a table, none wider than `width` where its words allow it.

    Args:
        table: any.
        width: in columns.
    """
    headings = list(table.headings)
    rows = [[words.one_line(str(cell)) for cell in row] for row in table.rows]
    left = table.text_columns
    lines = _aligned(headings, rows, left)
    if _fit(lines, width):
        return lines
    names = [", ".join(row[: table.num_names]) for row in rows]
    others = [row[table.num_names :] for row in rows]
    left = frozenset(column - table.num_names for column in left)
    aligned = _aligned(headings[table.num_names :], others, left)
    indented = [" " * GAP + line for line in aligned]
    if _fit(indented, width) and not table.is_text:
        num_headings = len(indented) - len(rows)
        lines = indented[:num_headings]
        for name, line in zip(names, indented[num_headings:], strict=True):
            lines += [*_wrapped(name, width), line]
        return lines
    lines = []
    for name, row in zip(names, others, strict=True):
        lines += _wrapped(name, width)
        lines += _packed(zip(headings[table.num_names :], row, strict=True), width)
    return lines


def _aligned(
    headings: Sequence[str], rows: Sequence[Sequence[str]], left: frozenset[int]
) -> list[str]:
    """Headings, a rule, and a line per row; headings are broken between words."""
    widths = [
        max(map(cell_len, [*heading.split(), *(row[column] for row in rows)]))
        for column, heading in enumerate(headings)
    ]
    broken = [
        textwrap.wrap(heading, size, break_long_words=False)
        for heading, size in zip(headings, widths, strict=True)
    ]
    height = max(map(len, broken))
    above = [[""] * (height - len(parts)) + parts for parts in broken]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell + " " * (size - cell_len(cell))
            if column in left
            else " " * (size - cell_len(cell)) + cell
            for column, (cell, size) in enumerate(zip(cells, widths, strict=True))
        ]
        return (" " * GAP).join(padded).rstrip()

    rule = "-" * (sum(widths) + GAP * (len(widths) - 1))
    return [*(line([parts[i] for parts in above]) for i in range(height)), rule, *map(line, rows)]


def _packed(items: Iterator[tuple[str, str]], width: int) -> list[str]:
    """`heading: value` one after the other, as many in a line as fit."""
    lines = [""]
    for heading, value in items:
        text = f"{heading}: {value}"
        longer = f"{lines[-1]};  {text}" if lines[-1] else text
        if lines[-1] and cell_len(longer) > width - GAP:
            lines.append(text)
        else:
            lines[-1] = longer
    return [" " * GAP + part for line in lines for part in _wrapped(line, width - GAP)]


def _wrapped(text: str, width: int) -> list[str]:
    if cell_len(text) <= width:
        return [text]
    return textwrap.wrap(text, max(width, 1), break_on_hyphens=False) or [""]


def _fit(lines: Sequence[str], width: int) -> bool:
    return all(cell_len(line) <= width for line in lines)
