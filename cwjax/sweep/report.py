"""The report of a sweep: verdicts of every arm over data sets and factors, as HTML and Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from cwjax.analysis.metrics import METRICS, Metric
from cwjax.plan import NULL_CONTROL
from cwjax.results.figures import ReportFigure
from cwjax.results.html import Table, environment
from cwjax.results.report import escape, markdown_table
from cwjax.results.store import CELLS, Store
from cwjax.results.style import arm_styles, to_svg
from cwjax.results.summary import (
    VERDICT_LABELS,
    comparison_rows,
    interval_text,
    listed,
    unit,
)


def write_sweep_report(
    store: Store, sweep: Mapping[str, Any], comparison: Mapping[str, Any]
) -> None:
    """Writes `report.md`, `report.html` and `figures/`: the same results give the same bytes.

    Args:
        store: of the sweep's directory.
        sweep: the content of `sweep.json`.
        comparison: the content of the sweep's `comparison.json`.
    """
    figures = [
        heat_map_figure(comparison, arm)
        for arm in dict.fromkeys(
            entry["treatment"] for entry in comparison["comparisons"] if entry["estimates"]
        )
    ]
    (store.directory / "figures").mkdir(exist_ok=True)
    for figure in figures:
        store.write_text(f"figures/{figure.name}.svg", figure.svg)
    store.write_text("report.md", _markdown(comparison))
    store.write_text("report.html", _html(sweep, comparison, figures))


def sweep_headline(comparison: Mapping[str, Any]) -> str:
    """The answer in one sentence: in how many cells each arm got which verdict."""
    entries = [entry for entry in comparison["comparisons"] if not entry["control"]]
    arms = list(dict.fromkeys(entry["treatment"] for entry in entries))
    if not arms:
        return f"{comparison['baseline']} alone was trained: there is nothing to compare it with."
    metric = METRICS[comparison["metric"]]
    clauses = [_arm_clause(arm, [e for e in entries if e["treatment"] == arm]) for arm in arms[:4]]
    if len(arms) > len(clauses):
        clauses.append(f"{len(arms) - len(clauses)} more arms below")
    return f"In {metric.title}, compared with {comparison['baseline']}: {'; '.join(clauses)}."


def _arm_clause(arm: str, entries: Sequence[Mapping[str, Any]]) -> str:
    counts = Counter(entry["verdict"]["key"] for entry in entries)
    parts = [f"{label} in {counts[key]}" for key, label in VERDICT_LABELS.items() if counts[key]]
    return f"{arm}: {listed(parts)} of {len(entries)} cells"


def heat_map_figure(comparison: Mapping[str, Any], arm: str) -> ReportFigure:
    """One arm over data sets and factors, the verdict in each cell."""
    from cwjax.results import plots  # matplotlib takes a second to import

    metric = METRICS[comparison["metric"]]
    by_cell = {e["cell"]: e for e in comparison["comparisons"] if e["treatment"] == arm}
    facts = {cell["cell"]: cell for cell in comparison["cells"]}
    rows = list(dict.fromkeys(_row_name(cell) for cell in facts.values()))
    factors = sorted({cell["imbalance_factor"] for cell in facts.values()})
    grid = [
        [
            next(
                (
                    by_cell[name]
                    for name, cell in facts.items()
                    if (_row_name(cell), cell["imbalance_factor"]) == (row, factor)
                    and name in by_cell
                ),
                None,
            )
            for factor in factors
        ]
        for row in rows
    ]
    # One scale for all arms, so that their maps can be compared.
    estimates = [e["estimates"] for e in comparison["comparisons"] if e["estimates"] is not None]
    largest = max((abs(estimate["difference"]) for estimate in estimates), default=0.0)
    columns = [f"{factor:g}" for factor in factors]
    name = f"heat_map_{_place(comparison, arm)}"
    words = "; ".join(
        f"{cell} {row['difference']} ({row['verdict']})"
        for cell, row in zip(by_cell, comparison_rows(list(by_cell.values())), strict=True)
    )
    return ReportFigure(
        name=name,
        title=f"{arm}: difference from {comparison['baseline']}",
        caption=f"Mean difference in {metric.title}, {unit(metric)}, with the verdict; blue is "
        "better, red is worse, and the stronger the larger.",
        alt=f"{arm} compared with {comparison['baseline']} in {metric.title}: {words}.",
        svg=to_svg(plots.heat_map(grid, rows, columns, metric, VERDICT_LABELS, largest), name),
    )


def _place(comparison: Mapping[str, Any], arm: str) -> int:
    return list(dict.fromkeys(e["treatment"] for e in comparison["comparisons"])).index(arm)


def _row_name(cell: Mapping[str, Any]) -> str:
    profile = cell["imbalance"].replace("_", "-")
    return cell["dataset"] if profile == "none" else f"{cell['dataset']}, {profile}"


def difference_rows(comparison: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row a cell and arm: difference, intervals, adjusted p, verdict."""
    entries = comparison["comparisons"]
    return [
        {"arm": row["arm"], "cell": entry["cell"], "verdict": row["verdict"]}
        | {name: row[name] for name in ("difference", "interval", "p (Holm)", "new test sets", "n")}
        for entry, row in zip(entries, comparison_rows(entries), strict=True)
    ]


def trend_rows(comparison: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row a data set, profile and arm: the slope over log₂(factor) with its interval."""
    metric = METRICS[comparison["metric"]]
    return [
        {
            "arm": entry["treatment"],
            "data": _row_name(entry),
            "factors": ", ".join(f"{factor:g}" for factor in entry["factors"]),
            "change a doubling": metric.format_signed(entry["slope"]),
            "interval": interval_text(entry["interval"], metric.format_signed),
            "n": str(len(entry["seeds"])),
        }
        for entry in comparison["trends"]
    ]


def cell_rows(comparison: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row a cell that is not finished: what became of it and why."""
    return [
        {
            "cell": cell["cell"],
            "state": cell["state"],
            "reason": "; ".join(cell["reasons"]) or "runs are missing",
        }
        for cell in comparison["cells"]
        if cell["state"] != "finished"
    ]


def _markdown(comparison: Mapping[str, Any]) -> str:
    confidence = f"{100 * comparison['confidence']:g}%"
    lines = [f"# {escape(sweep_headline(comparison))}", "", _method(comparison), ""]
    if unfinished := cell_rows(comparison):
        lines += ["## Cells that are not finished", "", markdown_table(unfinished), ""]
    if rows := difference_rows(comparison):
        metric, baseline = METRICS[comparison["metric"]], escape(comparison["baseline"])
        lines += [
            f"## Difference from {baseline} in {metric.title}, paired by seed",
            "",
            f"In {unit(metric)}; {confidence} intervals over seeds, and over new test sets.",
            "",
            markdown_table(rows),
            "",
        ]
    if trends := trend_rows(comparison):
        lines += ["## Trend with the imbalance factor", "", markdown_table(trends), ""]
    return "\n".join(lines)


def _method(comparison: Mapping[str, Any]) -> str:
    in_family = [e for e in comparison["comparisons"] if not e["control"]]
    return (
        f"{len(comparison['cells'])} cells, {len(comparison['seeds'])} seeds in each. All "
        f"{len(in_family)} comparisons are one family: their p-values are adjusted together "
        "(Holm), so the chance of any false finding is at most "
        f"{100 * (1 - comparison['confidence']):.2g}%."
    )


def _html(
    sweep: Mapping[str, Any], comparison: Mapping[str, Any], figures: Sequence[ReportFigure]
) -> str:
    metric = METRICS[comparison["metric"]]
    controls = {NULL_CONTROL} & set(comparison["arms"])
    settings = [
        (name, "not set" if value is None else str(value))
        for part in ("train", "analysis")
        for name, value in sweep["settings"][part].items()
    ]
    return environment().get_template("sweep.html.jinja").render(
        title=f"Sweep over {len(comparison['cells'])} cells",
        headline=sweep_headline(comparison),
        lead=_method(comparison),
        looks=arm_styles(comparison["arms"], comparison["baseline"], controls),
        unfinished=_table("Cells that are not finished", cell_rows(comparison), words=True),
        differences=_differences_table(comparison, metric),
        trends=_table(
            f"Change of the difference in {metric.title} per doubling of the imbalance factor, "
            f"{unit(metric)}: one slope a seed, interval over seeds",
            trend_rows(comparison),
            by_arm=True,
        ),
        figures=figures,
        cells=[
            {"name": cell["cell"], "href": f"{CELLS}/{cell['cell']}/report.html"}
            for cell in comparison["cells"]
            if cell["state"] == "finished"
        ],
        settings=Table("Settings of every run", ("setting", "value"), settings, words=True),
    )  # fmt: skip


def _differences_table(comparison: Mapping[str, Any], metric: Metric) -> Table | None:
    rows = difference_rows(comparison)
    for row, entry in zip(rows, comparison["comparisons"], strict=True):
        row["verdict"] = {"key": entry["verdict"]["key"], "label": row["verdict"]}  # type: ignore[assignment]
    caption = f"Difference from {comparison['baseline']} in {metric.title}, {unit(metric)}"
    return _table(caption, rows, by_arm=True)


def _table(caption: str, rows: Sequence[Mapping[str, Any]], **kind: bool) -> Table | None:
    if not rows:
        return None
    return Table(caption, list(rows[0]), [list(row.values()) for row in rows], **kind)
