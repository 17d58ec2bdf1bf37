"""Figures of the comparison itself: differences by seed, slopes of the pairs, heat maps of cells.

A figure is drawn from numbers that are stored; nothing is estimated here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cwjax.analysis.family import Comparison
from cwjax.analysis.intervals import Interval
from cwjax.analysis.metrics import Metric
from cwjax.analysis.results import DeploymentScore
from cwjax.report import words
from cwjax.report.style import (
    BLUE,
    GRID,
    INK,
    MUTED,
    VERMILION,
    WIDTH,
    ArmStyle,
    align,
    draw_lines,
    panels,
    shorten,
    styled,
)
from cwjax.store.examples import evenly

MAX_DRAWN = 500
"""Seeds of an arm that are drawn; of more an even selection, means and intervals are of all."""


def in_print(metric: Metric, values: Any) -> Any:
    """Values as they are printed: fractions become percent, everything else stays."""
    return np.asarray(values, float) * (100 if metric.is_fraction else 1)


def score_label(metric: Metric) -> str:
    """The label of an axis of scores."""
    return f"{metric.title}, %" if metric.is_fraction else shorten(metric.title)


def difference_label(metric: Metric, baseline: str) -> str:
    """The label of an axis of differences."""
    unit = ", percentage points" if metric.is_fraction else ""
    direction = "(better →)" if metric.higher_is_better else "(← better)"
    return f"difference from {shorten(baseline)} in {shorten(metric.title)}{unit}  {direction}"


@styled
def differences(
    entries: Sequence[Comparison],
    metric: Metric,
    effect: float | None,
    styles: Mapping[str, ArmStyle],
    covered: str = "this test set",
) -> Figure:
    """Each arm's differences from the baseline: seeds, mean, both intervals, what is detectable.

    Args:
        entries: comparisons on one metric that have estimates, at least one.
        metric: of the entries.
        effect: the smallest one of interest, if one was given.
        styles: of the arms.
        covered: what the bars hold for.
    """
    row, top, bottom = 0.56, 0.1, 0.72
    left = 0.35 + 0.078 * max(len(shorten(entry.pairing.treatment)) for entry in entries)
    height = top + row * len(entries) + bottom
    figure = Figure(figsize=(WIDTH, height))
    axis = figure.add_axes(
        (left / WIDTH, bottom / height, 1 - (left + 0.15) / WIDTH, row * len(entries) / height)
    )
    if effect is not None:
        band = in_print(metric, effect)
        axis.axvspan(-band, band, color=GRID, alpha=0.55, linewidth=0, zorder=0)
    axis.axvline(0, color=INK, linewidth=1, zorder=1)
    for place, entry in enumerate(entries):
        _difference_row(axis, place, entry, metric, styles[entry.pairing.treatment])
    axis.set_ylim(len(entries) - 0.45, -0.55)
    names = [shorten(entry.pairing.treatment) for entry in entries]
    axis.set_yticks(range(len(entries)), names, color=INK, fontsize=9)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x")
    axis.margins(x=0.03)
    axis.set_xlabel(difference_label(metric, entries[0].pairing.baseline))
    key = [
        "dots: seeds",
        "diamond: mean",
        f"bar: {covered}",
        *(["line: new test sets"] if any(entry.new_test_sets for entry in entries) else []),
        *(["dotted lines: detectable difference"] if any(e.power for e in entries) else []),
        *(["grey: smaller than matters"] if effect is not None else []),
    ]
    figure.text(left / WIDTH, 0.1 / height, "  ·  ".join(key), color=MUTED, fontsize=8)
    return figure


def _difference_row(
    axis: Axes, y: float, entry: Comparison, metric: Metric, style: ArmStyle
) -> None:
    estimates, judged = entry.estimates, entry.judged
    assert estimates is not None

    def interval(bounds: Interval | None, **line: Any) -> None:
        if bounds is not None:
            ends = in_print(metric, [bounds.ci_low, bounds.ci_high])
            axis.plot(ends, [y - 0.12] * 2, solid_capstyle="butt", **line)

    interval(entry.new_test_sets, color=MUTED, linewidth=1, marker="|", markersize=7)
    together = None if judged is None else judged.interval
    interval(together, color=style.color, linewidth=8, alpha=0.55)
    mean = in_print(metric, estimates.difference)
    axis.plot(mean, y - 0.12, "D", color=style.color, markersize=7, markeredgecolor=INK)
    if entry.power is not None:
        for sign in (-1, 1):
            tick = sign * in_print(metric, entry.power.detectable_effect)
            axis.plot([tick] * 2, [y - 0.3, y + 0.34], color=MUTED, linewidth=1.2, linestyle=":")
    dots = in_print(metric, selection(entry.differences))
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


def selection(items: Sequence[Any]) -> Sequence[Any]:
    """The items that are drawn, at most `MAX_DRAWN`, evenly spaced."""
    return [items[place] for place in evenly(np.arange(len(items)), MAX_DRAWN)]


@dataclass(frozen=True)
class Strip:
    """One tuned setting of an arm."""

    arm: str
    setting: str
    tried: tuple[float, ...]
    chosen: tuple[float, ...]  # one value per seed


@styled
def chosen_settings(strips: Sequence[Strip], styles: Mapping[str, ArmStyle]) -> Figure:
    """A strip per tuned setting: its values, and over each the number of seeds that chose it.

    Args:
        strips: at least one.
        styles: of the arms.
    """
    row, names = 0.5, [f"{shorten(strip.arm)}  {strip.setting}" for strip in strips]
    left, height = 0.35 + 0.078 * max(map(len, names)), row * len(strips) + 0.1
    num_values = max(len(strip.tried) for strip in strips)
    width = min(WIDTH, left + 1.1 * num_values)
    figure = Figure(figsize=(width, height))
    axis = figure.add_axes((left / width, 0, 1 - left / width, 1))
    for y, strip in enumerate(strips):
        places = np.arange(len(strip.tried))
        numbers = np.array([strip.chosen.count(value) for value in strip.tried])
        axis.plot(places[[0, -1]], [y - 0.1] * 2, color=GRID, linewidth=1, zorder=1)
        # The area is the share of the seeds, so that strips of unequal seeds compare.
        sizes = 330 * numbers / max(1, len(strip.chosen))
        axis.scatter(places, [y - 0.1] * len(places), sizes, styles[strip.arm].color, zorder=2)
        for x, (value, number) in enumerate(zip(strip.tried, numbers, strict=True)):
            text = f"{value:g}" + (f" ({number})" if number else "")
            color = INK if number else MUTED
            axis.text(x, y + 0.42, text, ha="center", va="center", fontsize=8, color=color)
    axis.set_xlim(-0.55, num_values - 0.45)
    axis.set_ylim(len(strips) - 0.4, -0.55)
    axis.set_xticks([])
    axis.set_yticks(range(len(strips)), names, color=INK)
    axis.tick_params(axis="y", length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return figure


@styled
def slopes(
    scores: Mapping[str, Mapping[int, float]],
    entries: Sequence[Comparison],
    metric: Metric,
    styles: Mapping[str, ArmStyle],
) -> Figure:
    """One panel per arm: a line per seed from the baseline's score to the arm's, the mean thick.

    Args:
        scores: arm -> seed -> score.
        entries: comparisons on one metric with at least one pair.
        metric: of the scores.
        styles: of the arms.
    """
    figure, made = panels(len(entries), height=2.2, bottom=0.3, share_x=False)
    for panel, entry in zip(made, entries, strict=True):
        axis = panel.axis
        baseline, treatment = entry.pairing.baseline, entry.pairing.treatment
        means = in_print(metric, _means(entry))
        pairs = in_print(
            metric,
            [
                [scores[arm][seed] for seed in selection(entry.seeds)]
                for arm in (baseline, treatment)
            ],
        )
        style = styles[treatment]
        ends = np.array([0, 1])
        draw_lines(axis, [(ends, pair) for pair in pairs.T], style.color, alpha=0.8)
        axis.plot(np.zeros(pairs.shape[1]), pairs[0], "o", color=styles[baseline].color, ms=3)
        axis.plot(np.ones(pairs.shape[1]), pairs[1], style.marker, color=style.color, ms=3)
        axis.plot([0, 1], means, color=INK, linewidth=2.2)
        axis.set_title(shorten(treatment))
        axis.set_xlim(-0.08, 1.08)
        axis.set_xticks([0, 1], [shorten(baseline, 16), shorten(treatment, 16)])
        left, right = axis.get_xticklabels()  # aligned so that long names stay within the panel
        left.set_horizontalalignment("left")
        right.set_horizontalalignment("right")
        if panel.starts_row:
            axis.set_ylabel(score_label(metric))
    align(made, share_x=False, grid="y")
    return figure


def _means(entry: Comparison) -> tuple[float, float]:
    assert entry.estimates is not None
    return entry.estimates.baseline_mean, entry.estimates.treatment_mean


@styled
def test_priors(scores: Sequence[DeploymentScore], styles: Mapping[str, ArmStyle]) -> Figure:
    """One panel for logits left and one for adjusted ones: each arm's score over class priors.

    Args:
        scores: of one metric, at least one.
        styles: of the arms.
    """
    hows = list(dict.fromkeys(score.how for score in scores))
    figure, made = panels(len(hows), height=2.6, bottom=0.35)
    for panel, how in zip(made, hows, strict=True):
        shown = [score for score in scores if score.how == how]
        arms = dict.fromkeys(arm for score in shown for arm in score.summaries)
        for place, arm in enumerate(arms):
            style, summaries = styles[arm], [score.summaries[arm] for score in shown]
            panel.axis.errorbar(
                np.arange(len(shown)) + 0.06 * (place - (len(arms) - 1) / 2),
                in_print(shown[0].metric, [each.mean for each in summaries]),
                in_print(shown[0].metric, [each.std or 0 for each in summaries]),
                color=style.color,
                marker=style.marker,
                markersize=5,
                linewidth=1.2,
                label=shorten(arm),
            )
        panel.axis.set_title(f"logits {how}")
        panel.axis.set_xticks(range(len(shown)), [shorten(score.place, 14) for score in shown])
        panel.axis.set_xlim(-0.4, len(shown) - 0.6)
        if panel.starts_row:
            panel.axis.set_ylabel(score_label(shown[0].metric))
    align(made, grid="y")
    made[0].axis.legend(fontsize=7.5, frameon=False)
    return figure


@styled
def heat_map(
    entries: Sequence[Sequence[Comparison | None]],
    row_names: Sequence[str],
    column_names: Sequence[str],
    metric: Metric,
    largest: float,
) -> Figure:
    """One arm over all cells: data set × imbalance factor, with the verdict in each cell.

    Args:
        entries: one comparison per cell, `[num_rows][num_columns]`, None where there is none.
        row_names: data sets.
        column_names: imbalance factors.
        metric: of all entries.
        largest: the absolute difference that has the strongest colour.
    """
    row_names = [shorten(name, 60) for name in row_names]
    cell_width, cell_height = 1.7, 0.72
    left, bottom = 0.078 * max(map(len, row_names)) + 0.3, 0.6
    inner_width, inner_height = cell_width * len(column_names), cell_height * len(row_names)
    width, height = left + inner_width + 0.1, bottom + inner_height + 0.1
    figure = Figure(figsize=(width, height))
    axis = figure.add_axes(
        (left / width, bottom / height, inner_width / width, inner_height / height)
    )
    strongest = float(in_print(metric, largest)) or 1.0
    for y, row in enumerate(entries):
        for x, entry in enumerate(row):
            if entry is not None and entry.estimates is not None:
                _heat_map_cell(axis, x, y, entry, metric, strongest)
    axis.set_xlim(-0.5, len(column_names) - 0.5)
    axis.set_ylim(len(row_names) - 0.5, -0.5)
    axis.set_xticks(range(len(column_names)), list(column_names), color=INK)
    axis.set_yticks(range(len(row_names)), list(row_names), color=INK)
    axis.tick_params(length=0)
    axis.set_xlabel("imbalance factor")
    for spine in axis.spines.values():
        spine.set_visible(False)
    return figure


def _heat_map_cell(
    axis: Axes, x: int, y: int, entry: Comparison, metric: Metric, strongest: float
) -> None:
    assert entry.estimates is not None
    value = float(in_print(metric, entry.estimates.difference))
    improved = (value > 0) == metric.higher_is_better
    # At most half opaque, so that ink stays readable on it, on white and on black.
    axis.fill(
        [x - 0.5, x + 0.5, x + 0.5, x - 0.5],
        [y - 0.5, y - 0.5, y + 0.5, y + 0.5],
        color=BLUE if improved else VERMILION,
        alpha=0.5 * abs(value) / strongest,
        linewidth=0,
    )
    text = words.signed(metric, entry.estimates.difference)
    axis.text(x, y - 0.12, text, ha="center", va="center", weight="bold")
    axis.text(x, y + 0.22, words.verdict_label(entry), ha="center", va="center", fontsize=7.5)
