"""A page as GitHub-flavoured Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cwjax.report import words
from cwjax.report.page import (
    Block,
    Code,
    Links,
    Page,
    Paragraph,
    Remarks,
    ReportFigure,
    Section,
    Verdicts,
)
from cwjax.report.tables import Table


def markdown_page(page: Page) -> str:
    """The page without what is folded; figures are files beside it."""
    lines = [f"# {escape(page.headline)}", "", f"{escape(page.title)}. {escape(page.lead)}", ""]
    for section in [Section("", "", page.opening), *page.sections]:
        blocks = [text for block in section.blocks for text in _block(block)]
        if blocks and section.title:
            lines += [f"## {escape(section.title)}", ""]
        lines += blocks
    return "\n".join(lines)


def _block(block: Block) -> list[str]:
    match block:
        case Table():
            return [escape(block.caption) + ":", "", markdown_table(block), ""]
        case Paragraph():
            return [escape(block.text), ""]
        case Remarks():
            return _items(map(escape, block.sentences))
        case Verdicts():
            return _items(escape(sentence) for _, sentence in block.sentences)
        case Code():
            return ["```sh", words.one_line(block.text), "```", ""]
        case Links():
            return _items(f"[{escape(text)}]({address})" for text, address in block.links)
        case ReportFigure():
            image = f"![{escape(block.alt)}](figures/{block.name}.svg)"
            return [f"### {escape(block.title)}", "", image, "", escape(block.caption), ""]
    return []


def _items(texts: Iterable[str]) -> list[str]:
    return [*(f"- {text}" for text in texts), ""]


def markdown_table(table: Table) -> str:
    """The rows as a Markdown table."""

    def line(cells: Sequence[object]) -> str:
        return "| " + " | ".join(escape(cell) for cell in cells) + " |"

    rule = "|" + "---|" * len(table.headings)
    return "\n".join([line(table.headings), rule, *map(line, table.rows)])


def escape(text: object) -> str:
    """Text that means itself in Markdown: no markup, no table borders, one line."""
    plain = words.one_line(str(text))
    for character in "\\`*_[]<>|#&~$":
        plain = plain.replace(character, "\\" + character)
    return plain
