"""Figures by class: what the classes are, and what an arm changes in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from cwjax.report import measured, words
from cwjax.report.style import INK, MUTED, WIDTH, ArmStyle, align, panels, shorten, styled
from cwjax.store.contents import CellContents
from cwjax.store.examples import evenly
from cwjax.store.schema import RunRecord

MAX_CLASSES = 20
"""Columns of the figure of classes; of more classes an even selection by size is shown."""

MAX_TILE = 0.7
"""Width of a training image in inches."""

_BLUES = LinearSegmentedColormap.from_list("blues", [(0, 0.447, 0.698, 0), (0, 0.447, 0.698, 1)])


@styled
def classes(contents: CellContents, styles: Mapping[str, ArmStyle]) -> Figure:
    """The classes from head to tail: training counts, each arm's class weights, sample images.

    Counts and weights are those of the first seed; only permuted classes differ between seeds.
    """
    order = evenly(measured.class_order(contents.cell), MAX_CLASSES)
    strip = _sample_strip(contents, order)
    left, right, gap = 0.75, 2.6, 0.12
    span = WIDTH - left - right
    shown = min(span, MAX_TILE * len(order))  # of few classes the images are not blown up
    heights = {"samples": shown * strip.shape[0] / strip.shape[1], "weights": 1.5, "counts": 1.2}
    total, y = sum(heights.values()) + 2 * gap + 0.6, 0.5
    figure = Figure(figsize=(WIDTH, total))
    axes = {}
    for name, height in heights.items():
        box = (left / WIDTH, y / total, span / WIDTH, height / total)
        axes[name] = figure.add_axes(box)
        axes[name].set_xlim(-0.5, len(order) - 0.5)
        axes[name].set_xticks([])
        y += height + gap
    _draw_counts(axes["counts"], contents, order)
    _draw_weights(axes["weights"], contents, order, styles)
    samples = axes["samples"]
    for place, column in enumerate(np.array_split(strip, len(order), axis=1)):
        half = shown / span / 2
        samples.imshow(
            column, cmap="gray", vmin=0, vmax=255, aspect="auto", interpolation="none",
            extent=(place - half, place + half, 0, 1),
        )  # fmt: skip
    samples.set_xlim(-0.5, len(order) - 0.5)
    samples.set_yticks([])
    if contents.examples.has_images:
        samples.set_ylabel("training\nimages")
    names = [shorten(contents.class_names[c], max(4, 90 // len(order))) for c in order]
    samples.set_xticks(range(len(order)), names, color=INK)
    samples.tick_params(length=0)
    for spine in samples.spines.values():
        spine.set_visible(False)
    samples.set_xlabel("class")
    return figure


def _draw_counts(axis: Axes, contents: CellContents, order: np.ndarray) -> None:
    counts = contents.records[0].class_counts[order]
    axis.bar(range(len(order)), counts, color=MUTED, width=0.62)
    for place, count in enumerate(counts):
        axis.annotate(
            f"{count:,}", (place, count), (0, 2), textcoords="offset points", ha="center",
            fontsize=8, color=INK,
        )  # fmt: skip
    axis.set_ylabel("training\nexamples")
    axis.spines["left"].set_visible(False)
    axis.set_yticks([])


def _draw_weights(
    axis: Axes, contents: CellContents, order: np.ndarray, styles: Mapping[str, ArmStyle]
) -> None:
    """One line for all arms of equal weights, named at its right end; names are kept apart."""
    lines: dict[tuple[float, ...], list[str]] = {}
    seed = contents.records[0].key.seed
    for arm in contents.trained_as_they_are:
        run = contents.runs[arm].get(seed)
        if run is not None:
            lines.setdefault(tuple(run.class_weights[order].tolist()), []).append(arm)
    axis.set_yscale("log")
    for weights, arms in lines.items():
        style = styles[arms[0]]
        axis.plot(weights, color=style.color, linestyle=style.line, marker=style.marker, ms=3.5)
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.grid(axis="y")
    axis.minorticks_off()
    low, high = axis.get_ylim()
    axis.set_ylim(low / 1.15, high * 1.15)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_ylabel("class\nweights")
    ends = sorted((weights[-1], arms) for weights, arms in lines.items())
    floor = -np.inf
    for end, arms in ends:
        place = max(
            float(axis.transAxes.inverted().transform(axis.transData.transform((0, end)))[1]), floor
        )
        floor = place + 0.13
        more = f" and {len(arms) - 2} more" if len(arms) > 2 else ""
        text = shorten(", ".join(arms[:2]), 36 - len(more)) + more
        frame: dict[str, Any] = {"transform": axis.transAxes}
        axis.text(1.015, place, text, va="center", fontsize=8, **frame)
        style = styles[arms[0]]
        axis.plot(1.005, place, style.marker, color=style.color, ms=5, clip_on=False, **frame)


def _sample_strip(contents: CellContents, order: np.ndarray) -> np.ndarray:
    """A column of images per class, uint8 `[height, width]` or `[height, width, 3]`."""
    examples = contents.examples
    if not examples.has_images:  # features: a thin blank strip
        return np.full((1, 20 * len(order)), 255, np.uint8)
    columns = [examples.samples[examples.sample_labels == label] for label in order]
    rows = min(3, max(len(column) for column in columns))
    blank = np.zeros_like(examples.samples[:1])
    strips = []
    for column in columns:
        missing = max(0, rows - len(column))
        strips.append(np.concatenate([*column[:rows], *np.repeat(blank, missing, axis=0)], axis=0))
    return to_picture(np.concatenate(strips, axis=1))


def to_picture(image: np.ndarray, largest: int = 2_000) -> np.ndarray:
    """`[height, width, channels]` as matplotlib shows it, thinned to `largest` pixels per side."""
    step = -(-max(image.shape[:2]) // largest)
    image = image[::step, ::step]
    return image[..., :3] if image.shape[-1] >= 3 else image[..., 0]


@styled
def recall_differences(
    contents: CellContents, arms: Sequence[str], styles: Mapping[str, ArmStyle]
) -> Figure:
    """One panel per arm: difference of each class's recall from the baseline, head to tail.

    Args:
        contents: of the directory.
        arms: treatments with at least one pair of good runs.
        styles: of the arms.
    """
    order = measured.class_order(contents.cell)
    counts = measured.class_counts(contents.cell)
    labels = [
        f"{shorten(contents.class_names[c], 22)} (n = {words.span(*counts[c])})" for c in order
    ]
    few = len(order) <= 40
    height = min(7.0, 0.3 + 0.21 * len(order))
    left = 0.35 + 0.066 * max(map(len, labels)) if few else 0.75
    figure, made = panels(len(arms), height=height, left=left)
    for panel, arm in zip(made, arms, strict=True):
        axis = panel.axis
        baseline, treatment = paired_runs(contents, arm)
        difference = 100 * (measured.recalls(treatment) - measured.recalls(baseline))[:, order]
        places, style = np.arange(len(order)), styles[arm]
        axis.axvline(0, color=INK, linewidth=0.8)
        low, high = difference.min(axis=0), difference.max(axis=0)
        axis.hlines(places, low, high, color=style.color, linewidth=2.5, alpha=0.6)
        edge: dict[str, Any] = {"markeredgecolor": INK, "markeredgewidth": 0.5}
        mean = difference.mean(axis=0)
        axis.plot(mean, places, style.marker, color=style.color, markersize=4.5, **edge)
        axis.set_title(shorten(arm))
        axis.set_ylim(len(order) - 0.4, -0.6)
        if panel.starts_row and few:
            axis.set_yticks(range(len(order)), labels)
        elif panel.starts_row:
            axis.set_ylabel("classes, from head to tail")
        if panel.ends_column:
            axis.set_xlabel("difference in recall, points")
    align(made, grid="x")
    return figure


def paired_runs(contents: CellContents, arm: str) -> tuple[list[RunRecord], list[RunRecord]]:
    """The good runs of baseline and arm, seed by seed, of the seeds where both are good."""
    baseline = {record.key.seed: record for record in contents.ok_runs(contents.baseline)}
    treatment = [record for record in contents.ok_runs(arm) if record.key.seed in baseline]
    return [baseline[record.key.seed] for record in treatment], treatment


@styled
def confusion_matrices(contents: CellContents) -> Figure:
    """One panel per arm: of each true class (row) the share predicted as each class, in %."""
    arms = [arm for arm in contents.arms if contents.ok_runs(arm)]
    order = measured.class_order(contents.cell)
    names = [shorten(contents.class_names[c], 10) for c in order]
    wide = max(map(len, names))
    left, bottom = 0.45 + 0.07 * wide, 0.5 if wide < 3 else 0.35 + 0.07 * wide
    figure, made = panels(len(arms), height=2.4, left=left, bottom=bottom)
    for panel, arm in zip(made, arms, strict=True):
        axis = panel.axis
        total = np.sum([run.confusion_matrix for run in contents.ok_runs(arm)], axis=0)
        total = total[np.ix_(order, order)].astype(float)
        share = total / np.maximum(total.sum(axis=1, keepdims=True), 1)
        axis.imshow(share, cmap=_BLUES, vmin=0, vmax=1, interpolation="none", aspect="auto")
        axis.set_title(shorten(arm))
        if len(order) <= 12 and len(arms) <= 6:
            for y, x in zip(*np.nonzero(share >= 0.01), strict=True):
                color = "#ffffff" if share[y, x] > 0.6 else INK
                text = f"{100 * share[y, x]:.0f}"
                axis.text(x, y, text, ha="center", va="center", fontsize=6.5, color=color)
        if panel.starts_row:
            axis.set_ylabel("true class")
            if len(order) <= 30:
                axis.set_yticks(range(len(order)), names)
        if panel.ends_column:
            axis.set_xlabel("predicted class")
            if len(order) <= 30:
                axis.set_xticks(range(len(order)), names)
            axis.tick_params(axis="x", labelrotation=0 if wide < 3 else 90)
    align(made, grid=None)
    return figure
