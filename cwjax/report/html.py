"""A page as HTML: one file that needs no network and no script."""

from __future__ import annotations

import functools

import jinja2
from markupsafe import Markup

from cwjax.report import words
from cwjax.report.page import Page


def html_page(page: Page) -> str:
    """The page; the same page gives the same bytes."""
    return _environment().get_template("page.html.jinja").render(page=page, looks=page.styles)


@functools.cache
def _environment() -> jinja2.Environment:
    """Templates of this package: what is put into them is escaped, and nothing in it is hidden."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("cwjax", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else words.visible(str(value)),
    )
