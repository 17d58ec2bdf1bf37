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

from cwjax.analysis.results import DeploymentFacts, StudyComparison
from cwjax.report import tables, words
from cwjax.report.deployment import SITUATIONS, deployment_tables
from cwjax.report.tables import Table

GAP = 2
"""Blanks between columns, and before what belongs to a name."""

_PLAIN = {"±": "+-", "–": "-", "…": "...", "×": "x", "α": "alpha", "’": "'"}


def print_comparison(
    study: StudyComparison, file: TextIO | None = None, width: int | None = None
) -> None:
    """Prints the tables of a study, and its verdicts in sentences.

    Args:
        study: what was found.
        file: where to [default: standard output].
        width: in columns [default: the terminal's].
    """
    file = file or sys.stdout
    for table in _tables(study):
        say(table.caption, file, style="bold")
        say_table(table, file, width)
        say("", file)
    for sentence in _sentences(study):
        say(sentence, file)


def print_deployment(deployment: Sequence[DeploymentFacts], study: StudyComparison) -> None:
    """Prints what was asked about the models in use.

    Args:
        deployment: the answers, one per cell.
        study: theirs.
    """
    for facts in deployment:
        for situation in SITUATIONS:
            for table in deployment_tables(facts, situation, study):
                about = "" if len(study.cells) == 1 else f"{facts.cell}: "
                say(about + table.caption, style="bold")
                say_table(table)
                say("")


def _sentences(study: StudyComparison) -> Iterator[str]:
    """The verdicts one by one, or the headline alone: of many cells, or with too few seeds."""
    metric, one_by_one = study.metric, len(study.cells) == 1 and len(study.judged) > 0
    if not one_by_one or words.needs_more_seeds(study):
        yield words.headline(study)
        titles = {cell.cell: tables.cell_title(cell) for cell in study.cells}
        for entry in study.comparisons:
            about = "" if len(titles) == 1 else f"{titles[entry.pairing.cell]}: "
            yield from (about + note for note in words.notes(entry, metric))
    else:
        yield from (words.full_verdict(entry, metric) for entry in study.comparisons)
    yield from words.training_notes(study)
    yield from words.tuning_notes(study)
    yield " ".join(words.design_sentences(study))


def _tables(study: StudyComparison) -> Iterator[Table]:
    if len(study.cells) == 1:
        yield tables.scores(study)
    if study.comparisons:
        yield tables.differences(study)
    metrics = words.shown_metrics(study)
    secondary = tables.secondary(study, metrics) if len(study.cells) == 1 else None
    if secondary is not None and len(secondary.headings) > len(metrics):
        secondary = secondary.transposed()
    others = [
        secondary,
        tables.looks(study),
        tables.trends(study),
        tables.chosen_settings(study),
        tables.failures(study),
    ]
    yield from (table for table in others if table is not None)


def say_table(table: Table, file: TextIO | None = None, width: int | None = None) -> None:
    """Prints a table without its caption; arguments as of `print_comparison`."""
    file = file or sys.stdout
    for line in table_lines(table, Console(file=file, width=width).width):
        say(line, file)


class _Console(Console):
    """rich ends the program where nobody reads its output any more; here the caller decides."""

    def on_broken_pipe(self) -> None:
        raise  # the BrokenPipeError that is being handled


def print_failures(study: StudyComparison) -> int:
    """A line on standard error for each run that failed, now or before.

    Returns:
        The exit code: 1 where a run failed or none ended well.
    """
    many_cells = len(study.cells) > 1
    failed = [(cell.cell, failure) for cell in study.cells for failure in cell.failures]
    for cell, failure in failed:
        say(words.failure_line(cell, failure, many_cells=many_cells), sys.stderr)
    return 1 if failed or not study.num_ok_runs else 0


def say(text: str, file: TextIO | None = None, style: str = "") -> None:
    """Prints one line, however long: nothing in it is hidden or cut.

    Args:
        text: without line breaks.
        file: where to [default: standard output].
        style: rich's, where the output is a terminal.
    """
    file = file or sys.stdout
    line = printable(text, file.encoding)
    _Console(file=file).print(Text(line, style=style), soft_wrap=True)


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
    lines = _aligned(headings, rows, table.text_columns)
    if _fit(lines, width):
        return lines
    about = [c for c in range(len(headings)) if c in table.text_columns and not table.is_text]
    about = about or list(range(table.num_names))  # verdicts move up too, words do not
    others = [column for column in range(len(headings)) if column not in about]
    names = [_name([row[column] for column in about], table.num_names) for row in rows]
    headings = [headings[column] for column in others]
    rows = [[row[column] for column in others] for row in rows]
    indented = [" " * GAP + line for line in _aligned(headings, rows, frozenset())]
    if _fit(indented, width) and not table.is_text:
        num_headings = len(indented) - len(rows)
        lines = indented[:num_headings]
        for name, line in zip(names, indented[num_headings:], strict=True):
            lines += [*_wrapped(name, width), line]
        return lines
    lines = []
    for name, row in zip(names, rows, strict=True):
        lines += _wrapped(name, width)
        lines += _packed(zip(headings, row, strict=True), width)
    return lines


def _name(texts: Sequence[str], num_names: int) -> str:
    """The names of a row and its verdict: `balanced, mnist: better`."""
    return ": ".join([", ".join(texts[:num_names]), *texts[num_names:]])


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
