"""From the run files to everything else in the directory: tables, `comparison.json`, the report.

Reads the directory only, so it can be derived again at any time, without JAX and the data sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from cwjax.analysis.family import Comparison, Pair, compare_family
from cwjax.analysis.metrics import METRICS
from cwjax.analysis.new_test_sets import NewTestSetInterval, new_test_set_interval
from cwjax.analysis.pairing import ArmScores, Pairing, family_size, pairings
from cwjax.analysis.results import (
    ArmSummary,
    BadRunFact,
    CellFacts,
    ScoreSummary,
    StudyComparison,
    TrendFact,
    join,
)
from cwjax.analysis.rules import rules_for
from cwjax.analysis.stats import trend
from cwjax.report.pages import Figures, write_cell_report, write_study_report
from cwjax.store.contents import CellContents, check_complete, read_cell
from cwjax.store.directory import StudyDirectory
from cwjax.store.schema import RunHeader, StudyFile, to_json
from cwjax.study.tables import class_scores_table, history_table, scores_table, to_parquet
from cwjax.training.runs import RunKey

Runs = dict[RunKey, RunHeader]


def derive(directory: StudyDirectory, figures: Figures = "svg") -> StudyComparison:
    """Writes every derived file of a directory; returns what the study found.

    The scores of all cells are compared first, then one cell after the other is read with its
    logits, so that memory does not grow with the number of cells.

    Args:
        directory: held by this process; its runs are all stored or have failed.
        figures: format of the files in `figures/`.

    Raises:
        ConfigError: a run is missing, or a file is missing or damaged.
    """
    study = directory.known_study()
    runs, parts, classes, histories = _headers(directory, study), [], [], []
    for contents, part in _cells(directory, study, runs):
        parts.append(part)
        if contents.records:
            classes.append(class_scores_table(contents.records, contents.class_names))
            if any(record.history for record in contents.records):
                histories.append(history_table(contents.records))
            write_cell_report(directory, contents, part, figures)
    comparison = _joined(study, parts)
    directory.write_bytes("scores.parquet", to_parquet(scores_table(study, runs)))
    for name, tables in (("class_scores", classes), ("history", histories)):
        if tables:
            table = pd.concat(tables, ignore_index=True)
            directory.write_bytes(f"{name}.parquet", to_parquet(table))
    directory.write_bytes("comparison.json", to_json(comparison))
    if len(study.cells) > 1:
        write_study_report(directory, study, comparison, figures)
    return comparison


def compare(directory: StudyDirectory) -> StudyComparison:
    """What a directory's study found; only reads.

    Raises:
        ConfigError: see `derive`.
    """
    study = directory.known_study()
    parts = [part for _, part in _cells(directory, study, _headers(directory, study))]
    return _joined(study, parts)


def _headers(directory: StudyDirectory, study: StudyFile) -> Runs:
    """What the runs' files say of themselves, their arrays apart."""
    check_complete(directory, study)
    stored = [key for key in study.run_keys if directory.has_run(key)]
    return {key: directory.read_run_header(key) for key in stored}


def _joined(study: StudyFile, parts: Sequence[StudyComparison]) -> StudyComparison:
    compared = [entry for part in parts for entry in part.comparisons]
    return join(parts, _trends(study, compared))


def study_pairings(study: StudyFile) -> tuple[Pairing, ...]:
    """Who is compared with whom, in every cell: the study's one family and its controls."""
    return tuple(
        pairing
        for name, cell in study.cells.items()
        for pairing in pairings(study.arm_names, study.baseline, cell.equal_arms, name)
    )


def _cells(
    directory: StudyDirectory, study: StudyFile, runs: Runs
) -> Iterator[tuple[CellContents, StudyComparison]]:
    """One cell after the other: its contents, and its part of the study's comparisons."""
    family = study_pairings(study)
    compared = {
        metric: compare_family(
            [_pair(study, runs, pairing, metric) for pairing in family],
            rules_for(study.analysis, metric),
        )
        for metric in METRICS
    }
    for name in study.cells:
        contents = read_cell(directory, study, name)
        own = {
            metric: [entry for entry in entries if entry.pairing.cell == name]
            for metric, entries in compared.items()
        }
        primary = own.pop(study.analysis.metric)
        yield (
            contents,
            StudyComparison(
                metric=METRICS[study.analysis.metric],
                confidence=study.analysis.confidence,
                smallest_effect=study.analysis.smallest_effect,
                baseline=study.baseline,
                arms=study.arm_names,
                seeds=study.seeds,
                family_size=family_size(family),
                num_ok_runs=sum(record.status == "ok" for record in contents.records),
                bad_runs=_bad_runs(study, runs, name),
                cells=(_cell_facts(study, name),),
                summaries=tuple(_summary(contents, arm) for arm in contents.arms),
                comparisons=tuple(
                    replace(entry, new_test_sets=_new_test_sets(contents, entry))
                    for entry in primary
                ),
                secondary=tuple(entry for entries in own.values() for entry in entries),
            ),
        )


def _pair(study: StudyFile, runs: Runs, pairing: Pairing, metric: str) -> Pair:
    baseline, treatment = (
        _arm_scores(study, runs, pairing.cell, arm, metric)
        for arm in (pairing.baseline, pairing.treatment)
    )
    return Pair(pairing, baseline, treatment)


def _arm_scores(study: StudyFile, runs: Runs, cell: str, arm: str, metric: str) -> ArmScores:
    """The arm's scores on one metric by seed; a seed without a run counts as failed."""
    good, bad = {}, {}
    for seed in study.seeds:
        run = runs.get(RunKey(cell, arm, seed))
        if run is None or run.status != "ok":
            bad[seed] = "failed" if run is None else run.status
        else:
            score = run.scores[metric]
            good[seed] = np.nan if score is None else score
    return ArmScores(arm, good, bad)


def _bad_runs(study: StudyFile, runs: Runs, cell: str) -> tuple[BadRunFact, ...]:
    bad = []
    for arm in study.arm_names:
        for seed in study.seeds:
            run = runs.get(RunKey(cell, arm, seed))
            status = "failed" if run is None else run.status
            if status != "ok":
                bad.append(BadRunFact(cell, arm, seed, status))
    return tuple(bad)


def _cell_facts(study: StudyFile, cell: str) -> CellFacts:
    data = study.cells[cell].data
    return CellFacts(
        cell=cell,
        dataset=data.dataset,
        imbalance=data.imbalance,
        imbalance_factor=data.factor,
        failures=tuple(
            f"{failure.run}: {failure.reason}"
            for failure in study.failures
            if failure.run.cell == cell
        ),
    )


def _summary(contents: CellContents, arm: str) -> ArmSummary:
    """Mean and standard deviation over the runs that ended well; None where one is undefined."""
    ok = contents.ok_runs(arm)
    scores = {}
    for metric in METRICS:
        values = np.array([record.scores[metric] for record in ok])
        defined = len(values) > 0 and bool(np.isfinite(values).all())
        scores[metric] = ScoreSummary(
            mean=float(values.mean()) if defined else None,
            std=float(values.std(ddof=1)) if defined and len(values) > 1 else None,
        )
    settings = dict.fromkeys(name for record in ok for name in record.chosen)
    return ArmSummary(
        cell=contents.name,
        arm=arm,
        num_runs=len(contents.seeds),
        num_ok=len(ok),
        scores=scores,
        chosen={name: tuple(record.chosen[name] for record in ok) for name in settings},
    )


def _new_test_sets(contents: CellContents, comparison: Comparison) -> NewTestSetInterval | None:
    pairing = comparison.pairing
    baseline_runs, treatment_runs = (
        contents.runs[arm] for arm in (pairing.baseline, pairing.treatment)
    )
    pairs = [(baseline_runs[seed], treatment_runs[seed]) for seed in comparison.seeds
             if seed in baseline_runs and seed in treatment_runs]  # fmt: skip
    if len(pairs) < max(1, len(comparison.seeds)):
        return None
    if any(record.status != "ok" for pair in pairs for record in pair):
        return None
    return new_test_set_interval(
        comparison.metric,
        [baseline.test_logits for baseline, _ in pairs],
        [treatment.test_logits for _, treatment in pairs],
        contents.examples.test_labels,
        np.stack([baseline.class_counts for baseline, _ in pairs]),
        contents.study.analysis.confidence,
    )


def _trends(study: StudyFile, compared: Sequence[Comparison]) -> list[TrendFact]:
    """For each data set, profile and arm: how the difference changes with the factor.

    Only seeds that every factor has are used; a line needs two factors.
    """
    lines: dict[tuple[str, str, str], list[tuple[float, Comparison]]] = {}
    for comparison in compared:
        data = study.cells[comparison.pairing.cell].data
        if comparison.estimates is not None and data.imbalance != "none":
            line = (data.dataset, data.imbalance, comparison.pairing.treatment)
            lines.setdefault(line, []).append((data.imbalance_factor, comparison))
    trends = []
    for (dataset, imbalance, treatment), points in lines.items():
        common = sorted(set.intersection(*(set(entry.seeds) for _, entry in points)))
        if len(points) < 2 or not common:
            continue
        by_seed = [dict(zip(entry.seeds, entry.differences, strict=True)) for _, entry in points]
        table = [[differences[seed] for differences in by_seed] for seed in common]
        factors = tuple(factor for factor, _ in points)
        estimate = trend(table, factors, study.analysis.confidence)
        trends.append(
            TrendFact(
                dataset=dataset,
                imbalance=imbalance,
                treatment=treatment,
                factors=factors,
                seeds=tuple(common),
                slope=estimate.slope,
                interval=estimate.interval,
                seed_slopes=estimate.seed_slopes,
            )
        )
    return trends
