"""How every figure looks: one palette, one size of type, SVG that reads on light and dark pages."""

from __future__ import annotations

import functools
import io
import os
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, ParamSpec

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from cwjax.report import words

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
        with _style():
            return draw(*args, **kwargs)

    return wrapper


@contextmanager
def _style(**settings: Any) -> Iterator[None]:
    """Matplotlib's own defaults and this module's settings, whatever the user's matplotlibrc."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # readers have their own fonts
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC | settings)
        yield


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

    When all is drawn, `align` gives them common scales.

    Args:
        number: of panels.
        height: of one panel, in inches.
        left: room for the labels of the y axis, which all panels share, in inches.
        bottom: room for the labels of the x axis, in inches.
        share_x: whether the labels of the x axis stand below each column only.
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
        axis = figure.add_axes(
            ((left + column * pitch) / width, y / total, (pitch - gap) / width, height / total)
        )
        made.append(Panel(axis, column == 0, not share_x or index + columns >= number))
    return figure, made


def align(made: Sequence[Panel], *, share_x: bool = True, grid: Literal["x", "y"] | None) -> None:
    """Gives panels one scale, which holds what each of them shows.

    Labels and ticks stand at the outer panels; inner ones have only the lines of the grid.
    Matplotlib's own shared axes would take time that grows with the square of their number.

    Args:
        made: the panels, with all that is drawn in them.
        share_x: whether they have the x axis in common too; the y axis always.
        grid: across which axis there are lines.
    """
    _align(made, "y", [panel.starts_row for panel in made], with_grid=grid == "y")
    if share_x:
        _align(made, "x", [panel.ends_column for panel in made], with_grid=grid == "x")


def _align(
    made: Sequence[Panel], name: Literal["x", "y"], labelled: Sequence[bool], *, with_grid: bool
) -> None:
    shown = [getattr(panel.axis, f"get_{name}lim")() for panel in made]
    low, high = np.min(shown), np.max(shown)
    limits = (high, low) if shown[0][0] > shown[0][1] else (low, high)
    for panel in made:
        getattr(panel.axis, f"set_{name}lim")(*limits)
    first: Axis = getattr(made[labelled.index(True)].axis, f"{name}axis")
    width = _RC["grid.linewidth"]
    places = [place for place in first.get_majorticklocs() if low <= place <= high]
    for panel, has_labels in zip(made, labelled, strict=True):
        if has_labels:
            panel.axis.grid(visible=with_grid, axis=name)
            continue
        getattr(panel.axis, f"{name}axis").set_visible(False)
        if with_grid:
            lines = panel.axis.vlines if name == "x" else panel.axis.hlines
            across = getattr(panel.axis, f"get_{name}axis_transform")()
            lines(places, 0, 1, transform=across, color=GRID, linewidth=width, zorder=0.5)


def draw_lines(
    axis: Axes, lines: Sequence[tuple[np.ndarray, np.ndarray]], color: str, alpha: float
) -> None:
    """Thin lines of one colour, each `(x, y)`, as one artist: an artist a line takes seconds."""
    gap = [np.nan]
    x, y = (np.concatenate([part for line in lines for part in (line[i], gap)]) for i in (0, 1))
    axis.plot(x, y, color=color, linewidth=0.9, alpha=alpha)


def shorten(name: str, length: int = 30) -> str:
    """A name that fits: the middle of a long one becomes an ellipsis; nothing in it is hidden."""
    name = words.one_line(name)
    escaped = _escaped_characters.get()
    if escaped is not None:
        missing = {character for character in name if _font_with(character) is None}
        escaped |= missing
        name = "".join(words.escape(c) if c in missing else c for c in name)
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
    with _style(**{"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r' d="[^"]*"', _round_path, svg)
    return svg.replace("</style>", f"\n{_dark_rules()}</style>", 1)


_escaped_characters: ContextVar[set[str] | None] = ContextVar("escaped", default=None)
"""While a figure is drawn that embeds its fonts: the characters that none of them has."""


def to_pdf(draw: Callable[[], Figure]) -> bytes:
    """A figure as PDF, with its fonts: the same figure gives the same bytes on one machine.

    Characters that the figures' own font lacks are taken from an installed font that has them;
    where there is none they are written as escapes, and the figure says so.

    Args:
        draw: a `styled` function, ready to be called.
    """
    escaped: set[str] = set()
    token = _escaped_characters.set(escaped)
    try:
        figure = draw()
    finally:
        _escaped_characters.reset(token)
    texts = "".join(text.get_text() for text in figure.findobj(Text))
    fonts = dict.fromkeys(filter(None, map(_font_with, sorted(set(texts)))))
    buffer = io.BytesIO()
    dated = os.environ.pop("SOURCE_DATE_EPOCH", None)  # matplotlib reads it, however wrong it is
    try:
        with _style(**{"font.sans-serif": [*_RC["font.sans-serif"][:1], *fonts]}):
            if escaped:
                note = f"{words.escape(min(escaped))} …: no installed font has these characters"
                figure.text(0.004, 0.004, note, fontsize=6, color=MUTED, va="bottom")
            nothing = dict.fromkeys(("CreationDate", "Creator", "Producer"))
            figure.savefig(buffer, format="pdf", metadata=nothing)
    finally:
        if dated is not None:
            os.environ["SOURCE_DATE_EPOCH"] = dated
    return buffer.getvalue()


@functools.lru_cache(maxsize=10_000)
def _font_with(character: str) -> str | None:
    """The name of an installed font that has the character, the figures' own if it has it."""
    own = _RC["font.sans-serif"][0]
    fonts = {entry.name: entry.fname for entry in reversed(font_manager.fontManager.ttflist)}
    for name in sorted(fonts, key=lambda name: (name != own, name)):
        if not name.startswith("Last Resort") and character in _characters(fonts[name]):
            return name
    return None


@functools.cache
def _characters(path: str) -> frozenset[str]:
    """What a font can draw; nothing, if matplotlib cannot use it (bitmaps, as of emoji)."""
    try:
        font = FT2Font(path)
        font.set_size(10, 72)
        characters = frozenset(map(chr, font.get_charmap()))
        font.load_char(ord(next(iter(characters))))
    except (RuntimeError, OSError, StopIteration):
        return frozenset()
    return characters


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
