"""The report of a study: `report.html`, `report.md` and `figures/`, derived from its results.

The same results give the same bytes: no clock, address or path of this machine is in them.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from cwjax.analysis.results import DeploymentFacts, StudyComparison
from cwjax.errors import ConfigError, one_line
from cwjax.store.contents import CellContents
from cwjax.store.directory import STUDY, StudyDirectory
from cwjax.store.schema import StudyFile, to_json

if TYPE_CHECKING:  # matplotlib takes a second to import
    from cwjax.report.page import Page

Figures: TypeAlias = Literal["svg", "pdf"]
"""Format of the files in `figures/`: SVG, which pages always contain, or PDF as well."""


def write_cell_report(
    directory: StudyDirectory,
    contents: CellContents,
    part: StudyComparison,
    figures: Figures = "svg",
    deployment: DeploymentFacts | None = None,
) -> None:
    """Writes the report of one cell: at the top of a study's directory, or below `cells/`.

    Args:
        directory: of the study.
        contents: of the cell, with at least one run.
        part: what was found in the cell.
        figures: format of the files in `figures/`.
        deployment: what was asked about its models in use, if anything.
    """
    load_matplotlib()
    from cwjax.report.layout import CELLS, cell_page

    page = cell_page(contents, part, deployment, with_pdf=figures == "pdf")
    alone = len(contents.study.cells) == 1
    _write(directory, page, "" if alone else f"{CELLS}/{contents.name}/")


def write_study_report(
    directory: StudyDirectory,
    study: StudyFile,
    comparison: StudyComparison,
    figures: Figures = "svg",
) -> None:
    """Writes the overview of a study with several cells.

    Args:
        directory: of the study.
        study: what it is.
        comparison: what was found in all cells.
        figures: format of the files in `figures/`.
    """
    load_matplotlib()
    from cwjax.report.layout import overview_page

    _write(directory, overview_page(study, comparison, with_pdf=figures == "pdf"), "")


def write_csv_report(
    out: Path,
    comparison: StudyComparison,
    scores: Mapping[str, Mapping[int, float]],
    figures: Figures = "svg",
) -> None:
    """Writes `comparison.json` and the report of scores that were trained elsewhere.

    Args:
        out: a directory, new or of such a report.
        comparison: of `cwjax.report.csv_scores`.
        scores: arm -> seed -> the score that it was made from.
        figures: format of the files in `figures/`.

    Raises:
        ConfigError: `out` is a file, or the directory of a study, whose results stay as they are.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file: give a directory")
    if (out / STUDY).exists():
        raise ConfigError(f"--out {out} holds a study: give another directory")
    load_matplotlib()
    from cwjax.report.layout import scores_page

    directory = StudyDirectory(out)
    directory.write_bytes("comparison.json", to_json(comparison))
    _write(directory, scores_page(comparison, scores, with_pdf=figures == "pdf"), "")


def side_by_side(studies: Sequence[tuple[StudyFile, StudyComparison]]) -> str:
    """Several studies on one page of HTML, each with its own verdict.

    Args:
        studies: at most 26, as they are lettered.
    """
    load_matplotlib()
    from cwjax.report.html import html_page
    from cwjax.report.layout import side_by_side_page

    return html_page(side_by_side_page(studies))


def _write(directory: StudyDirectory, page: Page, folder: str) -> None:
    from cwjax.report.html import html_page
    from cwjax.report.markdown import markdown_page

    outdated = _figure_files(directory.path / folder)
    for figure in page.figures:
        directory.write_text(f"{folder}figures/{figure.name}.svg", figure.svg)
        outdated.discard(f"{figure.name}.svg")
        if figure.pdf is not None:
            directory.write_bytes(f"{folder}figures/{figure.name}.pdf", figure.pdf)
            outdated.discard(f"{figure.name}.pdf")
    for name in outdated:  # a figure of older results would pass for one of these
        (directory.path / folder / "figures" / name).unlink(missing_ok=True)
    directory.write_text(f"{folder}report.md", markdown_page(page))
    directory.write_text(f"{folder}report.html", html_page(page))


def _figure_files(folder: Path) -> set[str]:
    """Names in `figures/` of what the report there shows; files of the user are none."""
    try:
        text = (folder / "report.md").read_text("utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return set()
    names = re.findall(r"\]\(figures/([^/)]+)\.svg\)", text)
    return {f"{name}.{ending}" for name in names for ending in get_args(Figures)}


def load_matplotlib() -> None:
    """Imports matplotlib without MPLBACKEND, which it may refuse and the figures do not need.

    Raises:
        ConfigError: it cannot start here.
    """
    wanted = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib

        if wanted is not None:
            with contextlib.suppress(ValueError):  # a notebook's own stays in use
                matplotlib.rcParams["backend"] = wanted
    except (ValueError, ImportError) as error:  # a matplotlibrc that is no text
        raise ConfigError(f"figures cannot be drawn: matplotlib says {one_line(error)}") from error
    finally:
        if wanted is not None:
            os.environ["MPLBACKEND"] = wanted
