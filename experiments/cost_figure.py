"""The figure of `scaling`."""

from __future__ import annotations

import statistics
from typing import TypeAlias

from matplotlib.figure import Figure

from cwjax.report.style import BLUE, MUTED, panels, styled, to_svg

Ladders: TypeAlias = dict[str, dict[int, list[float]]]
"""What grows -> its size -> microseconds per example of a run, in each repeat."""


def cost_figure(ladders: Ladders) -> str:
    """SVG with one panel per ladder: every repeat as a point, a line through the medians."""
    return to_svg(_draw(ladders), "cost")


@styled
def _draw(ladders: Ladders) -> Figure:
    figure, made = panels(len(ladders), height=2.0, share_x=False)
    for panel, (title, costs) in zip(made, ladders.items(), strict=True):
        axis, sizes = panel.axis, list(costs)
        for size, repeats in costs.items():
            axis.plot([size] * len(repeats), repeats, "o", color=MUTED, ms=3, alpha=0.6)
        axis.plot(sizes, [statistics.median(costs[size]) for size in sizes], color=BLUE, lw=1.6)
        axis.set_xscale("log")
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes], minor=False)
        axis.minorticks_off()
        axis.set_ylim(bottom=0)
        axis.grid(axis="y")
        axis.set_xlabel(title)
        if panel.starts_row:
            axis.set_ylabel("microseconds per\nexample of a run")
    return figure
