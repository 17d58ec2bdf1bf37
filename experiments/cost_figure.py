"""The figure of `scaling`."""

from __future__ import annotations

import statistics
from typing import TypeAlias

from matplotlib.figure import Figure

from cwjax.report.style import BLUE, MUTED, align, panels, styled, to_svg

Ladders: TypeAlias = dict[str, dict[int, list[float]]]
"""What grows -> its size -> microseconds per example of a run, in each repeat."""


def cost_figure(ladders: Ladders) -> str:
    """SVG with one panel per ladder: every repeat as a point, a line through the medians.

    Costs are relative to the least median of their panel, whose title says what that is.
    """
    return to_svg(_draw(ladders), "cost")


@styled
def _draw(ladders: Ladders) -> Figure:
    figure, made = panels(len(ladders), height=2.0, share_x=False)
    for panel, (title, costs) in zip(made, ladders.items(), strict=True):
        axis, sizes = panel.axis, list(costs)
        medians = [statistics.median(costs[size]) for size in sizes]
        least = min(medians)
        for size, repeats in costs.items():
            relative = [cost / least for cost in repeats]
            axis.plot([size] * len(repeats), relative, "o", color=MUTED, ms=3, alpha=0.6)
        axis.plot(sizes, [median / least for median in medians], color=BLUE, lw=1.6)
        axis.set_title(f"1 is {least:.3g} µs")
        axis.set_xscale("log")
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes], minor=False)
        axis.minorticks_off()
        axis.set_ylim(bottom=0)
        axis.set_xlabel(title)
        if panel.starts_row:
            axis.set_ylabel("relative cost of an\nexample of a run")
    align(made, share_x=False, grid="y")
    return figure
