"""Every table, once: typed rows that terminal, HTML, Markdown and LaTeX show alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from cwjax.analysis.decision import Key
from cwjax.analysis.family import Comparison
from cwjax.analysis.metrics import METRICS, Metric
from cwjax.analysis.results import CellFacts, StudyComparison
from cwjax.report import measured, words
from cwjax.store.contents import CellContents


@dataclass(frozen=True)
class Badge:
    """A verdict in a cell of a table."""

    key: Key
    label: str

    def __str__(self) -> str:
        return self.label


@dataclass(frozen=True)
class Table:
    """Headings and rows of equal length."""

    kind: ClassVar[str] = "table"

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str | Badge, ...], ...]
    num_names: int = 1
    """Columns on the left that say what a row is about."""
    by_arm: bool = False
    """The first column holds arms."""
    is_text: bool = False
    """The cells are words rather than numbers."""

    @cached_property  # the template asks for every cell
    def text_columns(self) -> frozenset[int]:
        """Columns that are no numbers: names, and verdicts."""
        if self.is_text:
            return frozenset(range(len(self.headings)))
        badges = (i for row in self.rows for i, cell in enumerate(row) if isinstance(cell, Badge))
        return frozenset([*range(self.num_names), *badges])

    def transposed(self) -> Table:
        """Rows as columns, of a table of text with one column of names."""
        columns = zip(self.headings, *self.rows, strict=True)
        headings, *rows = [tuple(map(str, column)) for column in columns]
        return replace(self, headings=headings, rows=tuple(rows))


def in_percent(metrics: Iterable[Metric], unit: str = "in percent") -> str:
    """What a caption says of the unit of fractions; nothing where no metric is one."""
    by_kind: dict[bool, list[str]] = {True: [], False: []}
    for metric in metrics:
        by_kind[metric.is_fraction].append(metric.title)
    if not by_kind[True]:
        return ""
    return f"; {unit}" + (f", except {words.listed(by_kind[False])}" if by_kind[False] else "")


def _titles(study: StudyComparison) -> dict[str, str]:
    """Cell -> its data; empty where there is one cell only, which needs no column."""
    return {} if len(study.cells) == 1 else {cell.cell: cell_title(cell) for cell in study.cells}


def cell_title(cell: CellFacts) -> str:
    """The data of a cell in a few words."""
    dataset = words.dataset_name(cell.dataset)
    return words.data_title(dataset, cell.imbalance, cell.imbalance_factor)


def scores(study: StudyComparison, metrics: Sequence[Metric] | None = None) -> Table:
    """A row per arm, and per cell where there are several.

    Args:
        study: what was found.
        metrics: the columns [default: `words.shown_metrics`].
    """
    metrics = metrics or words.shown_metrics(study)
    titles = _titles(study)
    rows = []
    for summary in study.summaries:
        runs = str(summary.num_runs)
        if summary.num_ok != summary.num_runs:
            runs = f"{summary.num_ok} of {runs}"
        about = [summary.arm, *([titles[summary.cell]] if titles else [])]
        texts = [words.mean_std(metric, summary.scores[metric.name]) for metric in metrics]
        rows.append((*about, runs, *texts))
    return Table(
        "Mean ± standard deviation over seeds" + in_percent(metrics),
        ("arm", *(["data"] if titles else []), "seeds", *(metric.title for metric in metrics)),
        tuple(rows),
        num_names=2 if titles else 1,
        by_arm=True,
    )


def differences(study: StudyComparison) -> Table:
    """A row per comparison on the primary metric; what matters most stands left."""
    metric, titles = study.metric, _titles(study)
    confidence, over_test_sets = words.percent(study.confidence), words.has_new_test_sets(study)
    looks, several = bool(study.design.planned_looks), study.family_size > 1
    return Table(
        f"Difference from {study.baseline} in {metric.title}, {words.unit(metric)}",
        (
            "arm",
            *(["data"] if titles else []),
            "verdict",
            "difference",
            f"{confidence} interval, {words.covered(study)}",
            *([f"{confidence} interval, new test sets"] if over_test_sets else []),
            "|t|" if looks else "p, adjusted",
            "P(better)",
            *(["interval alone"] if several else []),
            "seeds",
        ),
        tuple(
            _difference_row(
                entry, metric, titles, over_test_sets=over_test_sets, looks=looks, several=several
            )
            for entry in study.comparisons
        ),
        num_names=2 if titles else 1,
        by_arm=True,
    )


def _difference_row(
    entry: Comparison,
    metric: Metric,
    titles: dict[str, str],
    *,
    over_test_sets: bool,
    looks: bool,
    several: bool,
) -> tuple[str | Badge, ...]:
    estimates, judged = entry.estimates, entry.judged
    assert entry.verdict is not None
    test = None if judged is None else judged.t if looks else judged.p
    return (
        entry.pairing.treatment,
        *([titles[entry.pairing.cell]] if titles else []),
        Badge(entry.verdict.key, words.verdict_label(entry)),
        words.UNDEFINED if estimates is None else words.signed(metric, estimates.difference),
        words.interval(metric, None if judged is None else judged.interval),
        *([words.interval(metric, entry.new_test_sets)] if over_test_sets else []),
        words.optional(test, "{:.1f}".format if looks else words.p_value),
        words.optional(
            None if estimates is None else estimates.probability_better, "{:.2f}".format
        ),
        *(
            [words.interval(metric, None if judged is None else judged.interval_alone)]
            if several
            else []
        ),
        str(len(entry.seeds)),
    )


def looks(study: StudyComparison) -> Table | None:
    """A row per planned look that was taken; None where none was planned."""
    if not study.design.looks:
        return None
    titles = _titles(study)

    def name(cell: str, arm: str) -> str:
        return f"{arm} ({titles[cell]})" if titles else arm

    return Table(
        "Planned looks",
        ("seeds", "|t| that decides", "|t| of each comparison", "decided"),
        tuple(
            (
                str(look.num_seeds),
                words.optional(look.boundary, "{:.1f}".format),
                ", ".join(
                    f"{name(c, a)} {words.optional(t, '{:.1f}'.format)}" for c, a, t in look.t
                ),
                words.listed([name(*each) for each in look.decided]) or words.UNDEFINED,
            )
            for look in study.design.looks
        ),
        is_text=True,
    )


def secondary(study: StudyComparison, metrics: Iterable[Metric]) -> Table | None:
    """A row per metric that is not the primary one, a column per arm; None where there is none.

    Args:
        study: of one cell.
        metrics: those that are shown, if they were compared.
    """
    arms = list(dict.fromkeys(entry.pairing.treatment for entry in study.secondary))
    found = {(entry.metric, entry.pairing.treatment): entry for entry in study.secondary}
    shown = [m for m in metrics if arms and (m.name, arms[0]) in found]
    if not shown:
        return None
    confidence, points = words.percent(study.confidence), in_percent(shown, "percentage points")
    return Table(
        f"Other metrics: difference from {study.baseline} and {confidence} interval over seeds, "
        f"not adjusted, no verdict{points}",
        ("metric", *arms),
        tuple(
            (metric.title, *(_with_interval(found[metric.name, arm], metric) for arm in arms))
            for metric in shown
        ),
    )


def _with_interval(entry: Comparison, metric: Metric) -> str:
    if entry.estimates is None:
        return words.UNDEFINED
    text = words.signed(metric, entry.estimates.difference)
    bounds = entry.estimates.seed_interval
    return text if bounds is None else f"{text} ({words.interval(metric, bounds)})"


def trends(study: StudyComparison) -> Table | None:
    """A row per data set, profile and arm: the slope over log₂(factor); None without any."""
    if not study.trends:
        return None
    metric = study.metric
    return Table(
        f"Change of the difference in {metric.title} per doubling of the imbalance factor, "
        f"{words.unit(metric)}: one slope per seed, {words.percent(study.confidence)} interval "
        "over seeds",
        ("arm", "data", "factors", "change per doubling", "interval", "seeds"),
        tuple(
            (
                trend.treatment,
                words.profile_title(words.dataset_name(trend.dataset), trend.imbalance),
                ", ".join(f"{factor:g}" for factor in trend.factors),
                words.signed(metric, trend.slope),
                words.interval(metric, trend.interval),
                str(len(trend.seeds)),
            )
            for trend in study.trends
        ),
        num_names=2,
        by_arm=True,
    )


def failures(study: StudyComparison) -> Table | None:
    """A row per run that failed, and why; None without any."""
    rows = [
        (cell_title(cell), *failure.split(": ", 1))
        for cell in study.cells
        for failure in cell.failures
    ]
    if not rows:
        return None
    return Table("Runs that failed", ("data", "run", "reason"), tuple(rows), is_text=True)


def chosen_settings(study: StudyComparison) -> Table | None:
    """A row per arm and setting that was chosen on validation; None without any."""
    titles, any_tuned = _titles(study), any(summary.tuning for summary in study.summaries)
    rows = [
        (
            summary.arm,
            *([titles[summary.cell]] if titles else []),
            setting,
            words.chosen_text(values),
            *([words.tried_text(tried.get(setting, ()))] if any_tuned else []),
        )
        for summary in study.summaries
        for tried in [summary.tuning.tried if summary.tuning else {}]
        for setting, values in summary.chosen.items()
    ]
    if not rows:
        return None
    return Table(
        "Settings that each run chose on its validation examples",
        (
            "arm",
            *(["data"] if titles else []),
            "setting",
            "values over seeds",
            *(["tried"] if any_tuned else []),
        ),
        tuple(rows),
        num_names=2 if titles else 1,
        by_arm=True,
        is_text=True,
    )


def stages(contents: CellContents) -> Table | None:
    """A row per arm that was trained in steps: those of each stage; None without any."""
    steps = measured.stage_steps(contents)
    if not steps:
        return None
    return Table(
        "Optimiser steps of each stage; a stage begins where class weights set in, mixing ends or "
        "the features are frozen",
        ("arm", "steps of each stage", "steps in all"),
        tuple(
            (arm, ", then ".join(f"{number:,}" for number in of_arm), f"{sum(of_arm):,}")
            for arm, of_arm in steps.items()
        ),
        by_arm=True,
        is_text=True,
    )


def classes(contents: CellContents) -> Table:
    """A row per class, from head to tail: examples, then each arm's mean recall."""
    counts = measured.class_counts(contents.cell)
    num_test = np.stack([record.class_scores["n_test"] for record in contents.records])
    arms = [arm for arm in contents.arms if contents.ok_runs(arm)]
    recall = [measured.recalls(contents.ok_runs(arm)) for arm in arms]
    return Table(
        "Recall of each class, in percent, mean ± standard deviation over seeds",
        ("class", "training examples", "test examples", *arms),
        tuple(
            (
                contents.class_names[c],
                words.span(*counts[c]),
                words.span(num_test[:, c].min(), num_test[:, c].max()),
                *(_recall(values[:, c]) for values in recall),
            )
            for c in measured.class_order(contents.cell)
        ),
    )


def _recall(values: np.ndarray) -> str:
    """In percent; undefined for a class that the test set lacks."""
    if not np.isfinite(values).all():
        return words.UNDEFINED
    spread = f" ± {100 * values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{100 * values.mean():.1f}{spread}"


def runs(contents: CellContents) -> Table:
    """A row per finished run, with every score."""
    metrics = METRICS.values()
    return Table(
        "Scores of every run" + in_percent(metrics),
        ("arm", "seed", "status", *(metric.title for metric in metrics)),
        tuple(
            (
                record.key.arm,
                str(record.key.seed),
                record.status,
                *(
                    words.score(metric, value) if np.isfinite(value) else words.UNDEFINED
                    for metric in metrics
                    for value in [record.scores[metric.name]]
                ),
            )
            for record in contents.records
        ),
        by_arm=True,
    )


def pairs(caption: str, values: dict[str, str]) -> Table:
    """Names and values.

    Args:
        caption: of the table.
        values: name -> value.
    """
    return Table(caption, ("what", "value"), tuple(values.items()), is_text=True)
