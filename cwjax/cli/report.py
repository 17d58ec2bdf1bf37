"""Renders results again: of one directory, of several side by side, or of a CSV of scores.

cwjax report results/mnist5k-long_tailed-50-1234abcd
cwjax report results/one results/other --out both.html
cwjax report results/one --latex --out table.tex
cwjax report --merge results/seeds-0-4 results/seeds-5-9 --out results/merged
cwjax report --csv scores.csv --baseline uniform --metric accuracy --out results/elsewhere

Nothing is trained, and neither JAX nor the data set is needed. The CSV has the columns arm, seed
and the metric's: one row per run, trained anywhere.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from cwjax.cli import command_line
from cwjax.errors import ConfigError
from cwjax.store.files import check_new_file, write_atomically

if TYPE_CHECKING:  # statistics take a second to import, and a wrong flag is told without
    from cwjax.analysis.results import StudyComparison

MAX_SIDE_BY_SIDE = 26
"""They are named by letters."""

_CSV_FLAGS = ("--baseline", "--metric", "--lower-is-better", "--smallest-effect", "--confidence")


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What is rendered, and how."""

    directories: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Directories of results."""
    out: Path | None = None
    """With several directories the file of the page on which they stand side by side [default:
    side_by_side.html]; with --merge the directory that they become; with --latex the file of the
    table [default: print it]; with --csv a directory for comparison.json, report and figures
    [default: print the tables]."""
    latex: bool = False
    """Make the table of arms for a paper (booktabs), and nothing else."""
    figures: Literal["svg", "pdf"] = "svg"
    """Format of the files in figures/; pdf writes both."""
    merge: bool = False
    """Put directories of one study that were trained apart together, in --out."""
    allow_environment_change: bool = False
    """With --merge: also runs of different versions or devices; the change is recorded."""
    csv: Path | None = None
    """Compare the scores of this file instead of directories."""
    baseline: str | None = None
    """With --csv: the arm that the others are compared with."""
    metric: str | None = None
    """With --csv: the column to compare [default: the only column besides arm and seed]."""
    lower_is_better: bool = False
    """With --csv: of a metric of your own, smaller values are better."""
    smallest_effect: float | None = None
    """With --csv: smallest difference that would matter, in the unit of the column."""
    confidence: float = 0.95
    """With --csv: confidence of the intervals."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code.

    Args:
        arguments: what follows its name [default: the process's].
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    flags = command_line.parse(Flags, __doc__, "report", arguments)
    if flags.csv is not None and flags.directories:
        raise ConfigError("--csv and directories exclude each other: give one of them")
    if flags.csv is None and not flags.directories:
        raise ConfigError("nothing to render: give directories of results, or --csv FILE")
    _refuse_useless(flags, command_line.given_flags(arguments))
    if flags.csv is not None:
        return _report_csv(flags, flags.csv)
    if flags.merge:
        return _merge(flags)
    if len(flags.directories) > 1:
        return _report_side_by_side(flags.directories, flags.out or Path("side_by_side.html"))
    return _report_directory(flags, flags.directories[0])


def _refuse_useless(flags: Flags, given: set[str]) -> None:
    """Checks that every flag has a part in what is asked for."""
    if flags.csv is not None:
        mode, useful = "--csv", {"--csv", *_CSV_FLAGS, "--out", "--latex"}
        if flags.out is not None:
            useful.add("--figures")
    elif flags.merge:
        mode, useful = "--merge", {"--merge", "--allow-environment-change", "--out", "--figures"}
    elif len(flags.directories) > 1:
        mode, useful = "several directories", {"--out"}
        if flags.latex:
            raise ConfigError("--latex makes one table: give one directory")
    else:
        mode, useful = "one directory", {"--latex", "--figures"}
        if flags.latex:
            useful.add("--out")
    if flags.latex:
        mode, useful = "--latex", useful - {"--figures"}
    for flag in sorted(given - useful):
        if flag == "--out":
            raise ConfigError(
                "--out has no effect here, the report stays in its directory: leave it out"
            )
        raise ConfigError(f"{flag} has no effect with {mode}: leave it out")


def _report_directory(flags: Flags, path: Path) -> int:
    from cwjax.store.directory import StudyDirectory, open_study
    from cwjax.study.derive import compare, derive

    StudyDirectory(path).known_study()  # nothing is created where there is none
    if flags.latex:
        _latex(compare(StudyDirectory(path)), flags.out)
        return 0
    with open_study(path) as directory:
        comparison = derive(directory, flags.figures)
    return _conclude(comparison, f"{path}/report.html, report.md, figures")


def _conclude(comparison: StudyComparison, files: str) -> int:
    """Prints the headline, the files and every failed run; returns the exit code."""
    from cwjax.report import terminal, words

    terminal.say(words.headline(comparison))
    terminal.say(f"files: {files}")
    return 1 if terminal.print_failures(comparison) else 0


def _latex(comparison: StudyComparison, out: Path | None) -> None:
    """Prints the table, or writes it to a file."""
    from cwjax.report.latex import latex_table

    table = latex_table(comparison)
    if out is None:
        print(table, end="")
        return
    check_new_file("--out", out)
    write_atomically(out, table.encode())
    print(f"file: {out}")


def _merge(flags: Flags) -> int:
    from cwjax.study.merge import merge

    if len(flags.directories) < 2 or flags.out is None:
        raise ConfigError("--merge needs at least two directories and --out, the merged one")
    comparison = merge(
        flags.directories,
        flags.out,
        allow_environment_change=flags.allow_environment_change,
        figures=flags.figures,
    )
    return _conclude(comparison, str(flags.out))


def _report_side_by_side(paths: Sequence[Path], out: Path) -> int:
    from cwjax.report.pages import side_by_side
    from cwjax.store.directory import StudyDirectory
    from cwjax.study.derive import compare

    if len(paths) > MAX_SIDE_BY_SIDE:
        raise ConfigError(f"{len(paths)} directories: give at most {MAX_SIDE_BY_SIDE}")
    check_new_file("--out", out)
    studies = [StudyDirectory(path).known_study() for path in paths]
    comparisons = [compare(StudyDirectory(path)) for path in paths]
    page = side_by_side(list(zip(studies, comparisons, strict=True)))
    write_atomically(out, page.encode())
    print(f"file: {out}")
    return 0


def _report_csv(flags: Flags, path: Path) -> int:
    from cwjax.analysis.rules import Rules
    from cwjax.report import pages, terminal
    from cwjax.report.csv_scores import compare_scores, read_scores

    if flags.baseline is None:
        raise ConfigError("--csv needs --baseline: the arm that the others are compared with")
    given = read_scores(path, flags.metric, lower_is_better=flags.lower_is_better)
    rules = Rules(
        metric=given.metric, smallest_effect=flags.smallest_effect, confidence=flags.confidence
    )
    comparison = compare_scores(given, flags.baseline, rules)
    if flags.latex:
        _latex(comparison, flags.out)
        return 0
    terminal.print_comparison(comparison)
    if flags.out is not None:
        pages.write_csv_report(flags.out, comparison, given.scores, flags.figures)
        print(f"files: {flags.out}/report.html, report.md, comparison.json, figures")
    return 0
