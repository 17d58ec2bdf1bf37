"""The report: its files, and `report.md`: the answer, the tables, how it was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cwjax.analysis.metrics import METRICS
from cwjax.errors import ConfigError
from cwjax.results import measured
from cwjax.results.contents import Contents, read_contents
from cwjax.results.store import Store
from cwjax.results.summary import arm_rows, comparison_rows, headline, unit


def read_comparison(store: Store) -> tuple[Contents, dict[str, Any]]:
    """A finished directory and its comparison, computed again where runs came since; only reads.

    Raises:
        ConfigError: a run is not finished, or a file is missing or damaged.
    """
    contents = read_contents(store)
    comparison = stored_comparison(store, contents)
    if comparison is None:
        from cwjax.results.derive import compare  # statistics take seconds to import

        comparison = compare(contents)
    return contents, comparison


def stored_comparison(store: Store, contents: Contents) -> dict[str, Any] | None:
    """The content of `comparison.json`, or None where it is missing or older than a run.

    Raises:
        ConfigError: the file is damaged.
    """
    path = store.directory / "comparison.json"
    if not path.is_file():
        return None
    try:
        comparison = json.loads(path.read_text("utf-8"))
        known = [arm["arm"] for arm in comparison["arms"]], comparison["seeds"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path.name} is damaged ({error!r}): remove it") from error
    return comparison if known == (list(contents.arms), list(contents.seeds)) else None


def write_report(store: Store, contents: Contents, comparison: Mapping[str, Any]) -> None:
    """Writes `report.md`, `report.html` and `figures/`: the same results give the same bytes.

    Args:
        store: of the directory.
        contents: what the directory holds.
        comparison: the content of its `comparison.json`.
    """
    from cwjax.results.figures import report_figures  # matplotlib takes a second to import
    from cwjax.results.html import html_report

    figures = report_figures(contents, comparison)
    (store.directory / "figures").mkdir(exist_ok=True)
    for figure in figures:
        store.write_text(f"figures/{figure.name}.svg", figure.svg)
    store.write_text("report.md", markdown_report(contents, comparison))
    store.write_text("report.html", html_report(contents, comparison, figures))


def markdown_report(contents: Contents, comparison: Mapping[str, Any]) -> str:
    """The report as GitHub-flavoured Markdown, without clocks or paths.

    Args:
        contents: of the directory.
        comparison: the content of its `comparison.json`.
    """
    config, entries = contents.config, comparison["comparisons"]
    metric = METRICS[comparison["metric"]]
    lines = [
        f"# {escape(headline(comparison))}",
        "",
        f"{escape(', '.join(contents.arms))} on {escape(measured.title(config))}; "
        f"{len(contents.seeds)} seeds.",
        "",
        *(f"- {escape(entry['verdict']['words'])}" for entry in entries),
        "",
        "## Scores: mean ± standard deviation over seeds",
        "",
        markdown_table(arm_rows(comparison)),
        "",
    ]
    if entries:
        lines += [
            f"## Difference from {escape(contents.baseline)} in {metric.title}, paired by seed",
            "",
            f"In {unit(metric)}; {100 * comparison['confidence']:g}% intervals, over seeds on this "
            "test set, and over new seeds and new test sets.",
            "",
            markdown_table(comparison_rows(entries)),
            "",
        ]
    facts = measured.facts(config) | measured.settings(config)
    lines += [
        "## How this was measured",
        "",
        markdown_table([{"what": name, "value": value} for name, value in facts.items()]),
        "",
        "```sh",
        measured.command(config),
        "```",
        "",
    ]
    return "\n".join(lines)


def markdown_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows of equal keys as a Markdown table."""
    lines = [
        "| " + " | ".join(map(escape, rows[0])) + " |",
        "|" + "---|" * len(rows[0]),
        *("| " + " | ".join(map(escape, row.values())) + " |" for row in rows),
    ]
    return "\n".join(lines)


def escape(text: object) -> str:
    """Text that means itself in Markdown: no markup, no table borders, one line."""
    plain = " ".join(str(text).split())
    for character in "\\`*_[]<>|#&~$":
        plain = plain.replace(character, "\\" + character)
    return plain
