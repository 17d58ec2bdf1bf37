"""Renders results again: of one directory, of several side by side, or of a CSV of scores.

cwjax report results/mnist5k-long_tailed-50-1234abcd
cwjax report results/one results/other --out both.html
cwjax report results/one --latex --out table.tex
cwjax report results/one --test-prior training uniform --calibrate --cost-matrix costs.csv
cwjax report --merge results/seeds-0-4 results/seeds-5-9 --out results/merged
cwjax report --csv scores.csv --baseline uniform --metric accuracy --out results/elsewhere

Nothing is trained, and neither JAX nor the data set is needed. The CSV has the columns arm, seed
and the metric's: one row per run, trained anywhere.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from cwjax.cli import command_line
from cwjax.errors import ConfigError
from cwjax.store.files import check_new_file, write_atomically

if TYPE_CHECKING:  # statistics take a second to import, and a wrong flag is told without
    from cwjax.analysis.deployment import Questions
    from cwjax.analysis.results import StudyComparison

MAX_SIDE_BY_SIDE = 26
"""They are named by letters."""

_DEPLOYMENT_FLAGS = (
    "--test-prior", "--calibrate", "--cost-matrix", "--at-recall", "--at-precision"
)  # fmt: skip
_CSV_FLAGS = ("--baseline", "--metric", "--lower-is-better", "--smallest-effect", "--confidence")


@dataclass(frozen=True, kw_only=True)
class DeploymentFlags:
    """Where the models will be used; of one directory, from what its runs stored."""

    test_prior: tuple[str, ...] = ()
    """Accuracy if the classes were as common as in: training, uniform, reversed (the training's the
    other way round), or a JSON file {class: share}; logits left as they are, and adjusted."""
    calibrate: bool = False
    """Fit a temperature on each run's validation examples; log loss, Brier score and calibration
    error before and after."""
    cost_matrix: Path | None = None
    """CSV (a row per true class, a column per predicted one, both named) or JSON {true: {predicted:
    cost}}: expected cost of the likeliest class, and of the class that costs least."""
    at_recall: float | None = None
    """Of two classes: precision of the rarer one at this recall; the threshold is chosen on
    validation examples."""
    at_precision: float | None = None
    """Of two classes: recall of the rarer one at this precision."""


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
    deployment: DeploymentFlags = field(default_factory=DeploymentFlags)


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
        mode, useful = "one directory", {"--latex", "--figures", *_DEPLOYMENT_FLAGS}
        if flags.latex:
            useful.add("--out")
    if flags.latex:
        mode, useful = "--latex", useful - {"--figures", *_DEPLOYMENT_FLAGS}
    for flag in sorted(given - useful):
        if flag == "--out":
            raise ConfigError(
                "--out has no effect here, the report stays in its directory: leave it out"
            )
        raise ConfigError(f"{flag} has no effect with {mode}: leave it out")


def _report_directory(flags: Flags, path: Path) -> int:
    from cwjax.report import terminal
    from cwjax.store.directory import StudyDirectory, open_study
    from cwjax.study.deploy import deployed
    from cwjax.study.derive import compare, derive

    StudyDirectory(path).known_study()  # nothing is created where there is none
    if flags.latex:
        _latex(compare(StudyDirectory(path)), flags.out)
        return 0
    questions = _questions(flags.deployment)
    with open_study(path) as directory:
        deployment = () if questions is None else deployed(directory, questions)
        comparison = derive(directory, flags.figures, deployment)
    terminal.print_deployment(deployment, comparison)
    return _conclude(comparison, f"{path}/report.html, report.md, figures")


def _questions(flags: DeploymentFlags) -> Questions | None:
    """What is asked about the models in use; None where nothing is.

    Raises:
        ConfigError: a prior, cost matrix or number that cannot be used.
    """
    if flags == DeploymentFlags():
        return None
    from cwjax.analysis.costs import read_costs
    from cwjax.analysis.deployment import Questions, read_prior

    return Questions(
        priors=tuple(read_prior(text) for text in dict.fromkeys(flags.test_prior)),
        calibrate=flags.calibrate,
        costs=None if flags.cost_matrix is None else read_costs(flags.cost_matrix),
        at_recall=flags.at_recall,
        at_precision=flags.at_precision,
    )


def _conclude(comparison: StudyComparison, files: str) -> int:
    """Prints the headline, the files and every failed run; returns the exit code."""
    from cwjax.report import terminal, words

    terminal.say(words.headline(comparison))
    terminal.say(f"files: {files}")
    return terminal.print_failures(comparison)


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
