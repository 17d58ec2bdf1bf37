"""The tables everyone looks at first, and the answer in one sentence: for terminal and reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cwjax.analysis.metrics import METRICS, Metric

SHOWN_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "worst_class_recall")
"""Columns of the table of arms, besides the primary metric."""

UNDEFINED = "–"

VERDICT_LABELS = {
    "better": "better",
    "worse": "worse",
    "equivalent": "equivalent",
    "suggestive": "suggestive",
    "no_detectable_difference": "no detectable difference",
    "identical": "identical",
    "too_few_seeds": "too few seeds",
    "no_verdict": "no verdict",
    "refused": "refused",
}
"""A verdict's key in words, in the order in which the headline tells them."""

_MAX_NAMES = 4  # of arms that the headline lists under one verdict


def headline(comparison: Mapping[str, Any], metric: Metric | None = None) -> str:
    """The answer in one sentence: the verdict of one comparison, or the verdicts of all, grouped.

    Args:
        comparison: the content of `comparison.json`.
        metric: the primary metric, where it is none of `METRICS`.
    """
    metric = metric or METRICS[comparison["metric"]]
    entries = [entry for entry in comparison["comparisons"] if not entry["control"]]
    if not entries:
        return f"{comparison['baseline']} alone was trained: there is nothing to compare it with."
    if len(entries) == 1:
        return _without_notes(entries[0])
    keys = {entry["verdict"]["key"] for entry in entries}
    if keys == {"too_few_seeds"}:
        evidence, who = entries[0]["evidence"], listed([entry["treatment"] for entry in entries])
        return (
            f"Too few seeds to judge {who} in {metric.title}: {evidence['num_comparisons']} "
            f"comparisons need {evidence['seeds_floor']}, there are {len(entries[0]['seeds'])}."
        )
    clauses = []
    for key in VERDICT_LABELS:
        members = [entry for entry in entries if entry["verdict"]["key"] == key]
        if members:
            clauses.append(_clause(key, members, metric))
    return f"In {metric.title}, {'; '.join(clauses)}."


def _without_notes(entry: Mapping[str, Any]) -> str:
    words, notes = entry["verdict"]["words"], " ".join(entry["notes"])
    return words.removesuffix(notes).rstrip()


def _clause(key: str, entries: Sequence[Mapping[str, Any]], metric: Metric) -> str:
    numbered = key in ("better", "worse", "equivalent", "suggestive", "no_detectable_difference")
    names = [
        f"{entry['treatment']} ({metric.format_signed(entry['estimates']['difference'])})"
        if numbered
        else entry["treatment"]
        for entry in entries
    ]
    who, verb = listed(names), "are" if len(names) > 1 else "is"
    baseline = entries[0]["baseline"]
    if key == "equivalent":
        effect = metric.format(entries[0]["evidence"]["smallest_effect"])
        return f"{who} {verb} equivalent to {baseline} within {effect}"
    if key == "too_few_seeds":
        evidence, seeds = entries[0]["evidence"], entries[0]["seeds"]
        return f"{who}: too few seeds ({len(seeds)} of at least {evidence['seeds_floor']})"
    return {
        "better": f"{who} {verb} better than {baseline}",
        "worse": f"{who} {verb} worse than {baseline}",
        "identical": f"{who} {verb} identical to {baseline}",
        "suggestive": f"{who}: suggestive, not established",
        "no_detectable_difference": f"{who}: no detectable difference from {baseline}",
        "no_verdict": f"{who}: no verdict",
        "refused": f"{who}: no verdict, runs diverged or failed",
    }[key]


def listed(names: Sequence[str]) -> str:
    """`a, b and c`; of many names the first three and the number of the others."""
    if len(names) > _MAX_NAMES:
        names = [*names[: _MAX_NAMES - 1], f"{len(names) - _MAX_NAMES + 1} more"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def shown_metrics(comparison: Mapping[str, Any]) -> list[Metric]:
    """The columns of the table of arms, the primary metric first."""
    return [METRICS[name] for name in dict.fromkeys([comparison["metric"], *SHOWN_METRICS])]


def arm_rows(
    comparison: Mapping[str, Any], metrics: Sequence[Metric] | None = None
) -> list[dict[str, str]]:
    """A row an arm: its runs, and mean ± standard deviation of each metric.

    Args:
        comparison: the content of `comparison.json`.
        metrics: the columns [default: `shown_metrics`].
    """
    rows = []
    for arm in comparison["arms"]:
        runs = str(arm["num_runs"])
        if arm["num_ok"] != arm["num_runs"]:
            runs = f"{arm['num_ok']} of {runs}"
        row = {"arm": arm["arm"], "n": runs}
        for metric in metrics or shown_metrics(comparison):
            row[metric.title] = mean_std(metric, arm["scores"][metric.name])
        rows.append(row)
    return rows


def mean_std(metric: Metric, score: Mapping[str, float | None], plus_minus: str = " ± ") -> str:
    """`97.31 ± 0.52`: percent for fractions; the standard deviation only where there is one.

    Args:
        metric: of the score.
        score: `mean` and `std`, from `comparison.json`.
        plus_minus: what stands between the two.
    """
    if score["mean"] is None:
        return UNDEFINED
    mean = metric.format(score["mean"])
    return mean if score["std"] is None else mean + plus_minus + metric.format(score["std"])


def comparison_rows(
    entries: Sequence[Mapping[str, Any]], metric: Metric | None = None
) -> list[dict[str, str]]:
    """A row a comparison: difference, intervals, p, P(better); what matters most stands left.

    Args:
        entries: of `comparisons` or `secondary` in `comparison.json`.
        metric: of all entries, where it is none of `METRICS`.
    """
    return [_comparison_row(entry, metric or METRICS[entry["metric"]]) for entry in entries]


def secondary_rows(comparison: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row an arm and shown metric that is not the primary one: estimates without a verdict.

    Args:
        comparison: the content of `comparison.json`.
    """
    rows = []
    for entry in comparison["secondary"]:
        if entry["metric"] in SHOWN_METRICS:
            row = _comparison_row(entry, METRICS[entry["metric"]])
            names = ("difference", "interval", "P(better)", "n")
            title = {"arm": row["arm"], "metric": METRICS[entry["metric"]].title}
            rows.append(title | {name: row[name] for name in names})
    return rows


def _comparison_row(entry: Mapping[str, Any], metric: Metric) -> dict[str, str]:
    estimates, evidence = entry["estimates"] or {}, entry["evidence"] or {}
    seed_interval = estimates.get("seed_interval")
    p = "{:.2g}".format
    verdict = entry["verdict"]
    return {
        "arm": entry["treatment"],
        "difference": _or_undefined(estimates.get("difference"), metric.format_signed),
        "interval": interval_text(seed_interval, metric.format_signed),
        "p (Holm)": _or_undefined(evidence.get("p_holm"), p),
        "P(better)": _or_undefined(estimates.get("probability_better"), "{:.2f}".format),
        "n": str(len(entry["seeds"])),
        "new test sets": interval_text(entry["new_test_sets"], metric.format_signed),
        "p": _or_undefined(estimates.get("p_value"), p),
        "detectable": _or_undefined(evidence.get("detectable_effect"), metric.format),
        "verdict": VERDICT_LABELS[verdict["key"]] if verdict else UNDEFINED,
    }


def unit(metric: Metric) -> str:
    """Of differences as the tables print them."""
    return "percentage points" if metric.is_fraction else metric.title


def _or_undefined(value: float | None, text: Callable[[float], str]) -> str:
    return UNDEFINED if value is None else text(value)


def interval_text(interval: Mapping[str, float] | None, text: Callable[[float], str]) -> str:
    """`low to high`, each bound in the words of `text`."""
    if interval is None:
        return UNDEFINED
    return f"{text(interval['ci_low'])} to {text(interval['ci_high'])}"
