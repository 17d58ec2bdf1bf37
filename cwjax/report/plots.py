"""Figures of the comparison itself: differences by seed, slopes of the pairs, a sweep's heat map.

A figure is drawn from numbers that are stored; nothing is estimated here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cwjax.analysis.metrics import Metric
from cwjax.results.style import (
    BLUE,
    GRID,
    INK,
    MUTED,
    VERMILION,
    WIDTH,
    ArmStyle,
    panels,
    shorten,
    styled,
)

Entry = Mapping[str, Any]  # of `comparisons` in comparison.json


def in_print(metric: Metric, values: Any) -> Any:
    """Fractions become percent, everything else stays."""
    return np.asarray(values, float) * (100 if metric.is_fraction else 1)


def score_label(metric: Metric) -> str:
    """Of an axis of scores."""
    return f"{metric.title}, %" if metric.is_fraction else metric.title


def difference_label(metric: Metric, baseline: str) -> str:
    """Of an axis of differences."""
    unit = ", percentage points" if metric.is_fraction else ""
    direction = "(better →)" if metric.higher_is_better else "(← better)"
    return f"difference from {shorten(baseline)} in {metric.title}{unit}  {direction}"


@styled
def differences(entries: Sequence[Entry], metric: Metric, styles: Mapping[str, ArmStyle]) -> Figure:
    """Each arm's differences from the baseline: seeds, mean, both intervals, what is detectable.

    Args:
        entries: comparisons on one metric that have estimates, at least one.
        metric: of the entries.
        styles: of the arms.
    """
    row, top, bottom = 0.56, 0.1, 0.72
    left = 0.35 + 0.078 * max(len(shorten(entry["treatment"])) for entry in entries)
    height = top + row * len(entries) + bottom
    figure = Figure(figsize=(WIDTH, height))
    axis = figure.add_axes(
        (left / WIDTH, bottom / height, 1 - (left + 0.15) / WIDTH, row * len(entries) / height)
    )
    effect = (entries[0]["evidence"] or {}).get("smallest_effect")
    if effect is not None:
        band = in_print(metric, effect)
        axis.axvspan(-band, band, color=GRID, alpha=0.55, linewidth=0, zorder=0)
    axis.axvline(0, color=INK, linewidth=1, zorder=1)
    for place, entry in enumerate(entries):
        _difference_row(axis, place, entry, metric, styles[entry["treatment"]])
    axis.set_ylim(len(entries) - 0.45, -0.55)
    names = [shorten(entry["treatment"]) for entry in entries]
    axis.set_yticks(range(len(entries)), names, color=INK, fontsize=9)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x")
    axis.margins(x=0.03)
    axis.set_xlabel(difference_label(metric, entries[0]["baseline"]))
    key = [
        "dots: seeds",
        "diamond: mean",
        "bar: interval over seeds, this test set",
        "line: new test sets",
        "ticks: detectable effect",
        *(["grey: smaller than matters"] if effect is not None else []),
    ]
    figure.text(left / WIDTH, 0.1 / height, "  ·  ".join(key), color=MUTED, fontsize=8)
    return figure


def _difference_row(axis: Axes, y: float, entry: Entry, metric: Metric, style: ArmStyle) -> None:
    estimates, evidence = entry["estimates"], entry["evidence"] or {}

    def interval(bounds: Mapping[str, float] | None, **line: Any) -> None:
        if bounds is not None:
            ends = in_print(metric, [bounds["ci_low"], bounds["ci_high"]])
            axis.plot(ends, [y - 0.12] * 2, solid_capstyle="butt", **line)

    interval(entry["new_test_sets"], color=MUTED, linewidth=1, marker="|", markersize=7)
    interval(estimates["seed_interval"], color=style.color, linewidth=8, alpha=0.55)
    mean = in_print(metric, estimates["difference"])
    axis.plot(mean, y - 0.12, "D", color=style.color, markersize=7, markeredgecolor=INK)
    if evidence.get("detectable_effect") is not None:
        for sign in (-1, 1):
            tick = sign * in_print(metric, evidence["detectable_effect"])
            axis.plot([tick] * 2, [y - 0.3, y + 0.34], color=MUTED, linewidth=1.2, linestyle=":")
    dots = in_print(metric, entry["differences"])
    axis.plot(
        dots,
        np.full(len(dots), y + 0.22),
        style.marker,
        color=style.color,
        markersize=5,
        markeredgecolor=INK,
        markeredgewidth=0.4,
        alpha=0.75,
    )


@styled
def slopes(
    scores: Mapping[str, Mapping[int, float]],
    entries: Sequence[Entry],
    metric: Metric,
    styles: Mapping[str, ArmStyle],
) -> Figure:
    """A panel an arm: one line a seed from the baseline's score to the arm's, the mean thick.

    Args:
        scores: arm -> seed -> score.
        entries: comparisons on one metric with at least one pair.
        metric: of the scores.
        styles: of the arms.
    """
    figure, made = panels(len(entries), height=2.2, bottom=0.3, share_x=False)
    for panel, entry in zip(made, entries, strict=True):
        axis = panel.axis
        baseline, treatment = entry["baseline"], entry["treatment"]
        pairs = in_print(
            metric,
            [[scores[arm][seed] for seed in entry["seeds"]] for arm in (baseline, treatment)],
        )
        style = styles[treatment]
        axis.plot([0, 1], pairs, color=style.color, linewidth=0.9, alpha=0.8)
        axis.plot(np.zeros(pairs.shape[1]), pairs[0], "o", color=styles[baseline].color, ms=3)
        axis.plot(np.ones(pairs.shape[1]), pairs[1], style.marker, color=style.color, ms=3)
        axis.plot([0, 1], pairs.mean(axis=1), color=INK, linewidth=2.2)
        axis.set_title(shorten(treatment))
        axis.set_xlim(-0.08, 1.08)
        axis.set_xticks([0, 1], [shorten(baseline, 16), shorten(treatment, 16)])
        left, right = axis.get_xticklabels()  # aligned so that long names stay within the panel
        left.set_horizontalalignment("left")
        right.set_horizontalalignment("right")
        axis.grid(axis="y")
        if panel.starts_row:
            axis.set_ylabel(score_label(metric))
    return figure


@styled
def heat_map(
    entries: Sequence[Sequence[Entry | None]],
    row_names: Sequence[str],
    column_names: Sequence[str],
    metric: Metric,
    labels: Mapping[str, str],
    largest: float,
) -> Figure:
    """One arm over a sweep: data set × imbalance factor, with the verdict in each cell.

    Args:
        entries: a comparison a cell, `[num_rows][num_columns]`, None where there is none.
        row_names: data sets.
        column_names: imbalance factors.
        metric: of all entries.
        labels: verdict's key -> word.
        largest: the absolute difference that has the strongest colour.
    """
    cell_width, cell_height, left, bottom = 1.7, 0.72, 0.078 * max(map(len, row_names)) + 0.3, 0.6
    width, height = (
        left + cell_width * len(column_names) + 0.1,
        bottom + cell_height * len(row_names) + 0.1,
    )
    figure = Figure(figsize=(width, height))
    axis = figure.add_axes(
        (
            left / width,
            bottom / height,
            cell_width * len(column_names) / width,
            cell_height * len(row_names) / height,
        )
    )
    drawn = [
        (y, x, in_print(metric, entry["estimates"]["difference"]), entry["verdict"]["key"])
        for y, row in enumerate(entries)
        for x, entry in enumerate(row)
        if entry is not None and entry["estimates"] is not None
    ]
    strongest = float(in_print(metric, largest)) or 1.0
    for y, x, value, key in drawn:
        improved = (value > 0) == metric.higher_is_better
        # At most half opaque, so that ink stays readable on it, on white and on black.
        axis.fill(
            [x - 0.5, x + 0.5, x + 0.5, x - 0.5],
            [y - 0.5, y - 0.5, y + 0.5, y + 0.5],
            color=BLUE if improved else VERMILION,
            alpha=0.5 * float(abs(value)) / strongest,
            linewidth=0,
        )
        axis.text(x, y - 0.12, f"{value:+.2f}", ha="center", va="center", weight="bold")
        axis.text(x, y + 0.22, labels[key], ha="center", va="center", fontsize=7.5)
    axis.set_xlim(-0.5, len(column_names) - 0.5)
    axis.set_ylim(len(row_names) - 0.5, -0.5)
    axis.set_xticks(range(len(column_names)), list(column_names), color=INK)
    axis.set_yticks(range(len(row_names)), list(row_names), color=INK)
    axis.tick_params(length=0)
    axis.set_xlabel("imbalance factor")
    for spine in axis.spines.values():
        spine.set_visible(False)
    return figure
