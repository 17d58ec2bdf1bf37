"""`report.html`: one file that needs no network and no script."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import numpy as np

from cwjax.analysis.metrics import METRICS
from cwjax.results import class_plots, measured
from cwjax.results.contents import Contents
from cwjax.results.figures import ReportFigure, styles_of
from cwjax.results.record import RunRecord
from cwjax.results.summary import (
    SHOWN_METRICS,
    UNDEFINED,
    arm_rows,
    comparison_rows,
    headline,
    listed,
    unit,
)

Cell = str | Mapping[str, str]  # a verdict's badge is a mapping of key and label

_OPENING, _TRAINING = {"differences"}, {"learning_curves", "paired_curves"}


@dataclass(frozen=True)
class Table:
    """A table of a page; the first cell of a row is its heading."""

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    by_arm: bool = False  # the first column holds arms: they get their colour
    words: bool = False  # text rather than numbers

    @property
    def text_columns(self) -> set[int]:
        """Columns that are no numbers and stand left: the first, and badges."""
        badges = {i for row in self.rows for i, cell in enumerate(row) if not isinstance(cell, str)}
        return {0, *badges}


def html_report(
    contents: Contents, comparison: Mapping[str, Any], figures: Sequence[ReportFigure]
) -> str:
    """The page: verdict, table, figures, classes, training, how it was measured, every run.

    Args:
        contents: of the directory.
        comparison: the content of its `comparison.json`.
        figures: as `report_figures` draws them.
    """
    config, entries = contents.config, comparison["comparisons"]
    metric = METRICS[comparison["metric"]]
    facts = list(measured.facts(config).items())
    settings = list(measured.settings(config).items())
    return environment().get_template("report.html.jinja").render(
        title=measured.title(config),
        headline=headline(comparison),
        question=_question(contents, comparison),
        looks=styles_of(contents),
        differences=differences_table(comparison) if entries else None,
        verdicts=[{"arm": e["treatment"], "words": e["verdict"]["words"]} for e in entries],
        scores=scores_table(comparison, SHOWN_METRICS),
        all_scores=scores_table(comparison, METRICS),
        secondary=_secondary_table(comparison),
        metric_title=metric.title,
        figures={
            "differences": [figure for figure in figures if figure.name in _OPENING],
            "comparison": [f for f in figures if f.name not in _OPENING | _TRAINING],
            "training": [figure for figure in figures if figure.name in _TRAINING],
        },
        classes=_class_table(contents),
        untrained=[arm for arm, runs in contents.runs.items() if not _has_history(runs.values())],
        facts=Table("Data, seeds and versions", ("what", "value"), facts, words=True),
        settings=Table("Settings of every run", ("setting", "value"), settings, words=True),
        command=measured.command(config),
        raw=_raw_table(contents),
    )  # fmt: skip


def environment() -> jinja2.Environment:
    """Templates of this package; whatever is put into them is escaped."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("cwjax", "results"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _has_history(runs: Any) -> bool:
    return any(run.history for run in runs)


def _question(contents: Contents, comparison: Mapping[str, Any]) -> str:
    metric, counts = METRICS[comparison["metric"]], measured.class_counts(contents.config)
    largest, smallest = max(high for _, high in counts), min(low for low, _ in counts)
    arms = [arm for arm in contents.config["arms"] if arm != contents.baseline]
    effect = comparison["smallest_effect"]
    sentences = [
        f"{len(contents.seeds)} seeds, the same for every arm; {largest:,} down to {smallest:,} "
        f"training examples a class; judged on {contents.config['dataset']['num_test']:,} test "
        "images."
    ]
    if arms:
        sentences.insert(
            0,
            f"Asked: {'do' if len(arms) > 1 else 'does'} {listed(arms)} change {metric.title}, "
            f"compared with {contents.baseline}?",
        )
    if effect is not None:
        sentences.append(f"Differences within ±{metric.format(effect)} do not matter.")
    if contents.config["null_control"]:
        sentences.append("The A/A control, the baseline under other keys, shows what noise does.")
    return " ".join(sentences)


def differences_table(comparison: Mapping[str, Any]) -> Table:
    """The table of differences with a badge for each verdict."""
    metric = METRICS[comparison["metric"]]
    entries = comparison["comparisons"]
    rows = comparison_rows(entries)
    confidence = f"{100 * comparison['confidence']:g}%"
    headings = {
        "arm": "arm",
        "verdict": "verdict",
        "difference": "difference",
        "interval": f"{confidence} interval, this test set",
        "p (Holm)": "p, adjusted",
        "P(better)": "P(better)",
        "new test sets": f"{confidence} interval, new test sets",
        "n": "seeds",
    }
    for row, entry in zip(rows, entries, strict=True):
        row["verdict"] = {"key": entry["verdict"]["key"], "label": row["verdict"]}  # type: ignore[assignment]
    return Table(
        f"Difference from {comparison['baseline']} in {metric.title}, {unit(metric)}",
        list(headings.values()),
        [[row[name] for name in headings] for row in rows],
        by_arm=True,
    )


def scores_table(comparison: Mapping[str, Any], metrics: Iterable[str]) -> Table:
    """The table of arms: the primary metric and others, by their names in `METRICS`."""
    primary = comparison["metric"]
    names = dict.fromkeys([primary, *metrics])
    rows = arm_rows(comparison, [METRICS[name] for name in names])
    return Table(
        "Mean ± standard deviation over seeds; percent, but for the loss",
        ["seeds" if heading == "n" else heading for heading in rows[0]],
        [list(row.values()) for row in rows],
        by_arm=True,
    )


def _secondary_table(comparison: Mapping[str, Any]) -> Table | None:
    """A row a metric, a column an arm."""
    arms = list(dict.fromkeys(entry["treatment"] for entry in comparison["secondary"]))
    if not arms:
        return None
    cells: dict[str, dict[str, str]] = {}
    for entry, row in zip(
        comparison["secondary"], comparison_rows(comparison["secondary"]), strict=True
    ):
        text = row["difference"]
        if row["interval"] != UNDEFINED:
            text += f" ({row['interval']})"
        cells.setdefault(entry["metric"], {})[entry["treatment"]] = text
    return Table(
        f"Difference from {comparison['baseline']} with its interval over seeds; percentage "
        "points, but for the loss",
        ["metric", *arms],
        [[METRICS[name].title, *(row[arm] for arm in arms)] for name, row in cells.items()],
    )


def _class_table(contents: Contents) -> Table:
    """A row a class, from head to tail: examples, then each arm's mean recall."""
    counts = measured.class_counts(contents.config)
    num_test = contents.records[0].class_scores["n_test"]
    arms = [arm for arm in contents.arms if contents.ok_runs(arm)]
    recall = [class_plots.recalls(contents.ok_runs(arm)) for arm in arms]
    rows = [
        [
            contents.class_names[c],
            measured.span(*counts[c]),
            str(num_test[c]),
            *(_mean_std(values[:, c]) for values in recall),
        ]
        for c in class_plots.class_order(contents)
    ]
    return Table(
        "Recall of each class, percent, mean ± standard deviation over seeds",
        ["class", "training examples", "test examples", *arms],
        rows,
    )


def _mean_std(values: np.ndarray) -> str:
    """Percent; undefined for a class that the test set lacks."""
    if not np.isfinite(values).all():
        return UNDEFINED
    spread = f" ± {100 * values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{100 * values.mean():.1f}{spread}"


def _raw_table(contents: Contents) -> Table:
    return Table(
        "Scores of every run; percent, but for the loss",
        ["arm", "seed", "status", *(metric.title for metric in METRICS.values())],
        [
            [record.arm, str(record.seed), record.status, *_raw_scores(record)]
            for record in contents.records
        ],
        by_arm=True,
    )


def _raw_scores(record: RunRecord) -> list[str]:
    return [
        metric.format(record.scores[name]) if np.isfinite(record.scores[name]) else UNDEFINED
        for name, metric in METRICS.items()
    ]
