"""What a page says, whatever it is written in: sections of tables, figures and paragraphs."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from cwjax.report.tables import Table

if TYPE_CHECKING:  # a page without figures needs no matplotlib
    from cwjax.report.style import ArmStyle


@dataclass(frozen=True)
class Paragraph:
    """A few sentences."""

    kind: ClassVar[str] = "paragraph"

    text: str


@dataclass(frozen=True)
class Remarks:
    """Sentences below a table, in small print."""

    kind: ClassVar[str] = "remarks"

    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Verdicts:
    """A sentence for each comparison."""

    kind: ClassVar[str] = "verdicts"

    sentences: tuple[tuple[str, str], ...]
    """Arm (for its colour) and sentence."""


@dataclass(frozen=True)
class Code:
    """A command."""

    kind: ClassVar[str] = "code"

    text: str


@dataclass(frozen=True)
class Links:
    """Other pages of the study."""

    kind: ClassVar[str] = "links"

    links: tuple[tuple[str, str], ...]
    """Words and address."""


@dataclass(frozen=True)
class Folded:
    """What most readers do not need; pages that cannot fold leave it out."""

    kind: ClassVar[str] = "folded"

    summary: str
    blocks: tuple[Paragraph | Table | Verdicts, ...]


@dataclass(frozen=True)
class ReportFigure:
    """One figure, ready for a page."""

    kind: ClassVar[str] = "figure"

    name: str  # of its file, without the ending
    title: str
    caption: str
    alt: str
    svg: str
    pdf: bytes | None = None

    @property
    def data_uri(self) -> str:
        """For an `<img>`: its ids cannot collide with another's, and no script in it can run."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg.encode()).decode()


Block: TypeAlias = Paragraph | Remarks | Verdicts | Code | Links | Folded | Table | ReportFigure


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    id: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page:
    """A report: the answer, what it rests on, and the details."""

    title: str
    """The data, in a few words."""
    headline: str
    lead: str
    """What was asked, and how."""
    opening: tuple[Block, ...]
    """What is seen without scrolling."""
    sections: tuple[Section, ...]
    styles: Mapping[str, ArmStyle]
    up: tuple[str, str] | None = field(default=None, kw_only=True)
    """Words and address of the page that links here."""

    @property
    def figures(self) -> list[ReportFigure]:
        """Every figure of the page."""
        blocks = [*self.opening, *(block for section in self.sections for block in section.blocks)]
        return [block for block in blocks if isinstance(block, ReportFigure)]


def section(id: str, title: str, *blocks: Block | Sequence[Block] | None) -> list[Section]:
    """A section of the blocks that there are; none without any.

    Args:
        id: what links point to.
        title: the heading.
        *blocks: each a block, several, or None.
    """
    kept: list[Block] = []
    for block in blocks:
        if isinstance(block, Sequence):
            kept += block
        elif block is not None:
            kept.append(block)
    return [Section(id, title, tuple(kept))] if kept else []
