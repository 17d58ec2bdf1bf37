"""`report.md`: the answer first, then the tables, then how it was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cwjax.plan import Plan
from cwjax.results.summary import arm_rows, comparison_rows


def markdown_report(comparison: Mapping[str, Any], plan: Plan) -> str:
    """The report as GitHub-flavoured Markdown, without clocks or paths.

    Args:
        comparison: the content of `comparison.json`.
        plan: what was run.
    """
    config, dataset = plan.config, plan.dataset
    seeds = ", ".join(map(str, plan.splits))
    counts = {
        ", ".join(map(str, split.class_counts.tolist())): None for split in plan.splits.values()
    }
    verdicts = [f"- {escape(entry['verdict']['words'])}" for entry in comparison["comparisons"]]
    settings = [
        f"| {name} | {escape(value)} |"
        for part in ("data", "train", "analysis")
        for name, value in config.settings()[part].items()
    ]
    return "\n".join(
        [
            f"# {escape(', '.join(plan.arm_names))} on {escape(dataset.name)}",
            "",
            *verdicts,
            "",
            "## Scores: mean ± standard deviation over seeds",
            "",
            markdown_table(arm_rows(comparison)),
            "",
            "## Difference from the baseline, paired by seed",
            "",
            markdown_table(comparison_rows(comparison)) if verdicts else "One arm only.",
            "",
            "## How this was measured",
            "",
            f"Test examples: {len(dataset.test_labels)}. Training examples a class: "
            f"{'; '.join(counts)}. Seeds: {seeds}. Data fingerprint (SHA-256): "
            f"`{dataset.fingerprint}`.",
            "",
            "| setting | value |",
            "|---|---|",
            *settings,
            "",
        ]
    )


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
    plain = str(text).replace("\n", " ")
    for character in "\\`*_[]<>|#":
        plain = plain.replace(character, "\\" + character)
    return plain
