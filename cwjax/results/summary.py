"""The two tables everyone looks at first, as text: for the terminal and for `report.md`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cwjax.analysis.metrics import METRICS

SHOWN_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "worst_class_recall")
"""Columns of the table of arms, besides the primary metric."""

UNDEFINED = "–"


def arm_rows(comparison: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row an arm: its runs, and mean ± standard deviation of each shown metric.

    Args:
        comparison: the content of `comparison.json`.
    """
    metrics = dict.fromkeys([comparison["metric"], *SHOWN_METRICS])
    rows = []
    for arm in comparison["arms"]:
        runs = str(arm["num_runs"])
        if arm["num_ok"] != arm["num_runs"]:
            runs = f"{arm['num_ok']} of {runs}"
        row = {"arm": arm["arm"], "n": runs}
        for name in metrics:
            row[METRICS[name].title] = _mean_std(name, arm["scores"][name])
        rows.append(row)
    return rows


def _mean_std(metric: str, score: Mapping[str, float | None]) -> str:
    if score["mean"] is None:
        return UNDEFINED
    mean = METRICS[metric].format(score["mean"])
    return mean if score["std"] is None else f"{mean} ± {METRICS[metric].format(score['std'])}"


def comparison_rows(comparison: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row a comparison on the primary metric: difference, both intervals, p, P(better), n.

    Args:
        comparison: the content of `comparison.json`.
    """
    confidence = f"{100 * comparison['confidence']:g}%"
    rows = []
    for entry in comparison["comparisons"]:
        metric = METRICS[entry["metric"]]
        estimates = entry["estimates"] or {}
        evidence = entry["evidence"] or {}
        probability = estimates.get("probability_better")
        rows.append(
            {
                "arm": entry["treatment"],
                metric.title: _or_undefined(estimates.get("difference"), metric.format_signed),
                f"{confidence} interval, this test set": _interval(
                    estimates.get("seed_interval"), metric.format_signed
                ),
                "new test sets": _interval(entry["new_test_sets"], metric.format_signed),
                "p": _or_undefined(estimates.get("p_value"), "{:.2g}".format),
                "p (Holm)": _or_undefined(evidence.get("p_holm"), "{:.2g}".format),
                "P(better)": _or_undefined(probability, "{:.2f}".format),
                "n": str(len(entry["seeds"])),
            }
        )
    return rows


def _or_undefined(value: float | None, text: Any) -> str:
    return UNDEFINED if value is None else text(value)


def _interval(interval: Mapping[str, float] | None, text: Any) -> str:
    if interval is None:
        return UNDEFINED
    return f"{text(interval['ci_low'])} to {text(interval['ci_high'])}"
