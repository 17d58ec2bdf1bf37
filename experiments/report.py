"""Renders results again: of one directory, of several side by side, or of a CSV of scores.

python -m experiments.report results/mnist5k-long_tailed-50-1234abcd
python -m experiments.report results/one results/other --out both.html
python -m experiments.report results/one --latex
python -m experiments.report --merge results/shard-1 results/shard-2 --out results/merged
python -m experiments.report --csv scores.csv --baseline uniform --metric accuracy

A directory may be a sweep's. Nothing is trained, and neither JAX nor the data set is needed. The
CSV has the columns arm, seed and the metric's: one row a run, trained anywhere.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from cwjax.errors import ConfigError
from experiments import command_line


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Flags of `report`: what is rendered, and how."""

    directories: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Directories of results."""
    merge: bool = False
    """Put directories of one experiment or sweep that were trained apart together, in --out."""
    allow_environment_change: bool = False
    """With --merge: also runs of different versions or devices; the change is recorded."""
    out: Path | None = None
    """File of the page on which several directories stand side by side [default:
    side_by_side.html]; with --merge the directory that they become."""
    latex: bool = False
    """Print the table of arms for a paper (booktabs) and write nothing."""
    csv: Path | None = None
    """Scores of runs from elsewhere, instead of directories."""
    baseline: str | None = None
    """With --csv: the arm that the others are compared with."""
    metric: str = "balanced_accuracy"
    """With --csv: the column to compare."""
    lower_is_better: bool = False
    """With --csv: of a metric of your own, smaller values are better."""
    smallest_effect: float | None = None
    """With --csv: smallest difference that would matter, in the unit of the column."""
    confidence: float = 0.95
    """With --csv: confidence of the intervals."""


def main() -> int:
    """The script; returns its exit code."""
    flags = command_line.parse(Flags, __doc__)
    if flags.csv is not None:
        if flags.directories:
            raise ConfigError("--csv and directories exclude each other: give one of them")
        return _report_csv(flags, flags.csv)
    if not flags.directories:
        raise ConfigError("nothing to render: give directories of results, or --csv FILE")
    if flags.merge:
        return _merge(flags)
    if len(flags.directories) == 1:
        return _report_directory(flags.directories[0], latex=flags.latex)
    if flags.latex:
        raise ConfigError("--latex makes one table: give one directory")
    return _report_side_by_side(flags.directories, flags.out or Path("side_by_side.html"))


def _report_directory(directory: Path, *, latex: bool) -> int:
    from cwjax.results.contents import read_contents
    from cwjax.results.latex import latex_table
    from cwjax.results.report import read_comparison, stored_comparison, write_report
    from cwjax.results.store import Store, open_store
    from cwjax.results.summary import headline

    if (directory / "sweep.json").is_file():
        return _report_sweep(directory, latex=latex)
    _check(directory)
    if latex:
        print(latex_table(read_comparison(Store(directory))[1]), end="")
        return 0
    with open_store(directory) as store:
        contents = read_contents(store)
        comparison = stored_comparison(store, contents)
        if comparison is None:
            from cwjax.results.derive import derive  # statistics take seconds to import

            comparison = derive(store)
        else:
            write_report(store, contents, comparison)
    print(headline(comparison))
    print(f"files: {directory}/report.html, report.md, figures")
    return 0


def _report_sweep(directory: Path, *, latex: bool) -> int:
    from cwjax.results.store import open_store
    from cwjax.sweep.derive import derive_sweep
    from cwjax.sweep.directory import SWEEP
    from cwjax.sweep.report import sweep_headline

    if latex:
        raise ConfigError("--latex makes the table of one experiment: give one of the cells")
    with open_store(directory, SWEEP) as store:
        print(sweep_headline(derive_sweep(store)))
    print(f"files: {directory}/report.html, report.md, figures")
    return 0


def _merge(flags: Flags) -> int:
    from cwjax.results.summary import headline
    from cwjax.sweep.merge import merge
    from cwjax.sweep.report import sweep_headline

    if len(flags.directories) < 2 or flags.out is None:
        raise ConfigError("--merge needs at least two directories and --out, the merged one")
    allowed = flags.allow_environment_change
    comparison = merge(flags.directories, flags.out, allow_environment_change=allowed)
    judge = sweep_headline if "cells" in comparison else headline
    print(judge(comparison))
    print(f"files: {flags.out}")
    unfinished = [cell for cell in comparison.get("cells", []) if cell["state"] != "finished"]
    for cell in unfinished:
        print(f"{cell['state']}: {cell['cell']}: {'; '.join(cell['reasons'])}", file=sys.stderr)
    return 1 if unfinished else 0


def _report_side_by_side(directories: tuple[Path, ...], out: Path) -> int:
    from cwjax.results.files import write_atomically
    from cwjax.results.report import read_comparison
    from cwjax.results.side_by_side import html_side_by_side
    from cwjax.results.store import Store

    for directory in directories:
        _check(directory)
    if len(directories) > 26:
        raise ConfigError(f"{len(directories)} directories: give at most 26")
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise ConfigError(f"--out {out}: give a file in a directory that exists")
    page = html_side_by_side([read_comparison(Store(directory)) for directory in directories])
    write_atomically(out, page.encode())
    print(f"file: {out}")
    return 0


def _check(directory: Path) -> None:
    if not directory.is_dir():
        raise ConfigError(f"{directory}: no such directory: give a directory of results")
    if (directory / "sweep.json").is_file():
        raise ConfigError(f"{directory} is a sweep's: give one of its cells, {directory}/cells/…")
    if not (directory / "config.json").is_file():
        raise ConfigError(f"{directory} holds no config.json: give a directory of results")


def _report_csv(flags: Flags, path: Path) -> int:
    from cwjax.analysis.rules import Rules
    from cwjax.results.csv_scores import compare_scores, csv_metric, read_scores
    from cwjax.results.latex import latex_table
    from experiments.display import print_comparison

    if flags.baseline is None:
        raise ConfigError("--csv needs --baseline: the arm that the others are compared with")
    metric = csv_metric(flags.metric, lower_is_better=flags.lower_is_better)
    rules = Rules(metric=metric, smallest_effect=flags.smallest_effect, confidence=flags.confidence)
    comparison = compare_scores(read_scores(path, metric), flags.baseline, rules)
    if flags.latex:
        print(latex_table(comparison, [metric]), end="")
    else:
        print_comparison(comparison, [metric])
    return 0


if __name__ == "__main__":
    command_line.run_main(main)
