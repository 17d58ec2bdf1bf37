"""What `cwjax describe` shows of a data set: one page, for a terminal and as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from cwjax.data.dataset import Dataset
from cwjax.data.summary import Summary
from cwjax.report import terminal, words
from cwjax.report.page import Block, Code, Page, Paragraph, Remarks, section
from cwjax.report.pages import load_matplotlib
from cwjax.report.tables import Table
from cwjax.store.examples import evenly

if TYPE_CHECKING:  # matplotlib takes a second to import
    from matplotlib.figure import Figure

    from cwjax.report.page import ReportFigure

Row = TypeVar("Row")

MAX_ROWS = 20
"""Rows of a table; of longer ones the first and the last are shown."""

IMAGES_PER_CLASS = 10
_STRIP_WIDTH = 4.0  # inches


def describe_page(
    dataset: Dataset, summary: Summary, seconds: float, command: str, *, with_figure: bool = True
) -> Page:
    """All that is known before training.

    Args:
        dataset: what is described.
        summary: its facts.
        seconds: what the default study takes here, roughly.
        command: that trains it.
        with_figure: show images.
    """
    seen = words.resolution_sentence(dataset, summary)
    figure = [_images(dataset)] if with_figure and not dataset.is_features else None
    notes = [Remarks(dataset.notes)] if dataset.notes else None
    return Page(
        title=dataset.name,
        headline=words.data_headline(dataset, summary),
        lead=words.data_lead(dataset),
        opening=(_classes(dataset, summary),),
        sections=(
            *section("images", "Images", figure),
            *section("columns", "Columns", _columns(summary)),
            *section("duplicates", "Duplicates", Paragraph(words.duplicates_sentence(summary))),
            *section("resolution", "What can be seen", Paragraph(seen)),
            *section("notes", "Notes of the reader", notes),
            *section("next", "Next", Paragraph(words.time_sentence(seconds)), Code(command)),
        ),
        styles={},
    )


def print_page(page: Page) -> None:
    """Prints a page without its figures."""
    terminal.say(page.headline, style="bold")
    terminal.say(page.lead)
    for block in page.opening:
        _print_block(block)
    for each in page.sections:
        lines = [block for block in each.blocks if block.kind != "figure"]
        if lines:
            terminal.say("")
            terminal.say(each.title, style="bold")
        for block in lines:
            _print_block(block)


def _print_block(block: Block) -> None:
    match block:
        case Table():
            terminal.say(block.caption)
            terminal.say_table(block)
        case Paragraph() | Code():
            terminal.say(block.text)
        case Remarks():
            for sentence in block.sentences:
                terminal.say(f"- {sentence}")


def _classes(dataset: Dataset, summary: Summary) -> Table:
    total = summary.train_counts.sum()
    order = np.argsort(-summary.train_counts, kind="stable")
    rows = [
        (
            dataset.class_names[label],
            f"{summary.train_counts[label]:,}",
            f"{100 * summary.train_counts[label] / total:.1f}",
            f"{summary.test_counts[label]:,}",
        )
        for label in order
    ]
    return Table(
        _shown("Examples per class, in percent of the training file", len(rows), "classes"),
        ("class", "training", "percent", "test"),
        _cut(rows),
    )


def _columns(summary: Summary) -> list[Table]:
    def text(value: float | None) -> str:
        return "–" if value is None else f"{value:.4g}"

    numbers = [
        (n.name, *map(text, (n.mean, n.std, n.low, n.high)), f"{n.num_missing:,}")
        for n in summary.numbers
    ]
    categories = [
        (c.name, f"{c.num_levels:,}", f"{c.most_frequent} ({100 * c.share:.0f}%)")
        for c in summary.categories
    ]
    tables = [
        Table(
            _shown("Numbers", len(numbers), "columns"),
            ("column", "mean", "std", "smallest", "largest", "missing"),
            _cut(numbers),
        ),
        Table(
            _shown("Categories", len(categories), "columns"),
            ("column", "levels", "most frequent"),
            _cut(categories),
        ),
    ]
    return [table for table in tables if table.rows]


def _shown(caption: str, number: int, noun: str) -> str:
    return caption if number <= MAX_ROWS else f"{caption} ({MAX_ROWS} of {number:,} {noun})"


def _cut(rows: Sequence[Row]) -> tuple[Row, ...]:
    if len(rows) <= MAX_ROWS:
        return tuple(rows)
    half = MAX_ROWS // 2
    return (*rows[:half], *rows[-half:])


def _images(dataset: Dataset) -> ReportFigure:
    load_matplotlib()
    from cwjax.report.figures import Studio

    studio = Studio((), "", with_pdf=False)
    labels = _cut(range(dataset.num_classes))
    return studio.figure(
        "images",
        "Training images",
        f"Up to {IMAGES_PER_CLASS} evenly spaced images of each class"
        + ("." if len(labels) == dataset.num_classes else f", {len(labels)} classes shown."),
        "Training images, a row per class.",
        lambda: _draw(dataset, labels),
    )


def _draw(dataset: Dataset, labels: Sequence[int]) -> Figure:
    from matplotlib.figure import Figure

    from cwjax.report.class_plots import to_picture
    from cwjax.report.style import shorten, styled

    @styled
    def draw() -> Figure:
        height, width = dataset.input_shape[:2]
        tile = _STRIP_WIDTH / IMAGES_PER_CLASS * height / width
        figure = Figure(figsize=(_STRIP_WIDTH + 2, tile * len(labels) + 0.2))
        rows = figure.subplots(len(labels), 1, squeeze=False)[:, 0]
        for axes, label in zip(rows, labels, strict=True):
            members = np.flatnonzero(dataset.train_labels == label)
            images = dataset.inputs[evenly(members, IMAGES_PER_CLASS)]
            blank = np.full_like(images[:1], 255)
            missing = [blank[0]] * (IMAGES_PER_CLASS - len(images))
            strip = to_picture(np.concatenate([*images, *missing], axis=1))
            axes.imshow(strip, cmap="gray", vmin=0, vmax=255, interpolation="none")
            axes.set_axis_off()
            name = shorten(dataset.class_names[label])
            axes.text(-0.01, 0.5, name, transform=axes.transAxes, ha="right", va="center")
        return figure

    return draw()
