"""How every figure looks: one palette, one size of type, SVG that reads on light and dark pages."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Parameters = ParamSpec("Parameters")

INK, MUTED, GRID = "#1f2328", "#59636e", "#d1d7de"
BLUE, VERMILION = "#0072b2", "#d55e00"
ON_DARK = {INK: "#e6edf3", MUTED: "#9da7b3", GRID: "#3d444d", BLUE: "#3d9fdc"}
"""What takes their place where the reader prefers a dark page."""

ARM_COLORS = (BLUE, VERMILION, "#009e73", "#e69f00", "#cc79a7", "#56b4e9")
"""Okabe & Ito 2008, without yellow and black: those vanish on a white or a dark page."""

BASELINE_COLOR = "#7d8590"
WIDTH = 10.4  # inches of a full-width figure: 998 pixels at 96 to the inch

_RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    "font.size": 9.0,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$x$"
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titley": 1.0,  # where it stands anyway; finding that out takes longer than drawing it
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.unicode_minus": False,
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
}


@dataclass(frozen=True)
class ArmStyle:
    """How an arm is drawn, in every figure alike."""

    color: str
    line: str  # matplotlib's line style
    marker: str


def arm_styles(
    arms: Sequence[str], baseline: str, controls: Collection[str] = ()
) -> dict[str, ArmStyle]:
    """Colours by the order of the arms; from the seventh treatment on, dashed and squares.

    Args:
        arms: every arm's name.
        baseline: grey.
        controls: A/A controls: grey as well, dotted.
    """
    styles, place = {}, 0
    for arm in arms:
        if arm == baseline:
            styles[arm] = ArmStyle(BASELINE_COLOR, "-", "o")
        elif arm in controls:
            styles[arm] = ArmStyle(BASELINE_COLOR, ":", "D")
        else:
            lap, color = divmod(place, len(ARM_COLORS))
            line, marker = (("-", "o"), ("--", "s"), ("-.", "^"))[lap % 3]
            styles[arm] = ArmStyle(ARM_COLORS[color], line, marker)
            place += 1
    return styles


def styled(draw: Callable[Parameters, Figure]) -> Callable[Parameters, Figure]:
    """A function that draws a figure, made to draw it in the style of this module."""

    @functools.wraps(draw)
    def wrapper(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Figure:
        with matplotlib.rc_context(_RC):
            return draw(*args, **kwargs)

    return wrapper


@dataclass(frozen=True)
class Panel:
    """One panel of a figure, and whether it carries the labels of its row and of its column."""

    axis: Axes
    starts_row: bool
    ends_column: bool


def panels(
    number: int, *, height: float, left: float = 0.75, bottom: float = 0.5, share_x: bool = True
) -> tuple[Figure, list[Panel]]:
    """A figure of equal panels in rows of three or four; labels stand left and below.

    Args:
        number: of panels.
        height: of one panel, in inches.
        left: room for the labels of the y axis, which all panels share, in inches.
        bottom: room for the labels of the x axis, in inches.
        share_x: whether they share the x axis too, and its labels stand below each column only.
    """
    per_row = 4 if number in (4, 7, 8) or number > 9 else 3
    columns, rows = min(number, per_row), -(-number // per_row)
    title, gap, row_gap = 0.3, 0.22, 0.65
    pitch = (WIDTH - left) / per_row
    width, total = left + columns * pitch, title + rows * (height + row_gap) - row_gap + bottom
    figure = Figure(figsize=(width, total))
    made: list[Panel] = []
    for index in range(number):
        row, column = divmod(index, columns)
        y = total - title - height - row * (height + row_gap)
        shared: dict[str, Any] = {}
        if made:
            shared = {"sharey": made[0].axis} | ({"sharex": made[0].axis} if share_x else {})
        axis = figure.add_axes(
            ((left + column * pitch) / width, y / total, (pitch - gap) / width, height / total),
            **shared,
        )
        panel = Panel(axis, column == 0, not share_x or index + columns >= number)
        axis.tick_params(labelleft=panel.starts_row, labelbottom=panel.ends_column)
        made.append(panel)
    return figure, made


def shorten(name: str, length: int = 30) -> str:
    """A name that fits: the middle of a long one becomes an ellipsis."""
    name = " ".join(name.split())
    if len(name) <= length:
        return name
    half = (length - 1) // 2
    return f"{name[: length - 1 - half]}…{name[-half:]}"


def to_svg(figure: Figure, name: str) -> str:
    """The figure as SVG text: the same figure and name give the same bytes.

    Text stays text, in the reader's own fonts; on a dark page ink turns light by itself.

    Args:
        figure: drawn by a `styled` function.
        name: makes ids differ from those of other figures.
    """
    buffer = io.StringIO()
    # Ticks are made while the figure is drawn: the style must hold then too.
    with matplotlib.rc_context(_RC | {"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r' d="[^"]*"', _round_path, svg)
    return svg.replace("</style>", f"\n{_dark_rules()}</style>", 1)


def _round_path(path: re.Match[str]) -> str:
    """Hundredths of a point are finer than any screen; whole numbers and letters stay."""
    return re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", path[0])


def _dark_rules() -> str:
    rules = [
        f'[style*="{kind}: {light}"]{{{kind}:{dark}!important}}'
        for light, dark in ON_DARK.items()
        for kind in ("fill", "stroke")
    ]
    return f"@media (prefers-color-scheme: dark){{{''.join(rules)}}}"
