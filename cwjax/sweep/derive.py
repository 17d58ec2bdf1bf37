"""From the cells' run files to the sweep's tables, comparison and report: one family of verdicts.

Reads the directory only, so it can be derived again at any time, without JAX and the data sets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cwjax.analysis.comparison import arm_pairs
from cwjax.analysis.family import Comparison, compare_family
from cwjax.analysis.metrics import METRICS
from cwjax.analysis.pairing import Pair
from cwjax.analysis.rules import rules_for
from cwjax.analysis.stats import trend
from cwjax.config import AnalysisConfig
from cwjax.plan import NULL_CONTROL
from cwjax.results.contents import arm_names
from cwjax.results.derive import arm_scores, derive
from cwjax.results.record import RunRecord
from cwjax.results.store import Store, open_store
from cwjax.results.tables import scores_table, to_parquet
from cwjax.sweep.directory import CellStatus, cell_directory, read_statuses, read_sweep
from cwjax.sweep.report import write_sweep_report


@dataclass(frozen=True)
class _Scored:
    """What the family of a sweep needs of one cell; its logits are not kept in memory."""

    pairs: list[Pair]
    table: pd.DataFrame
    is_complete: bool


def derive_sweep(store: Store) -> dict[str, Any]:
    """Writes every derived file of a sweep; returns the content of its `comparison.json`.

    All cells are one family. Runs that a failed cell lacks count as failed, and the cell's
    comparisons are refused; cells without a missing run get tables and a report of their own.

    Raises:
        ConfigError: a file is missing or damaged.
    """
    sweep = read_sweep(store)
    analysis = AnalysisConfig(**sweep["settings"]["analysis"])
    statuses = read_statuses(store, list(sweep["cells"]))
    scored = {cell: _scored(store, sweep, cell) for cell in sweep["cells"]}
    family = [pair for cell in scored.values() for pair in cell.pairs]
    compared = compare_family(family, rules_for(analysis, analysis.metric))
    entries = []
    for cell in sweep["cells"]:
        judged = [comparison for comparison in compared if comparison.cell == cell]
        if scored[cell].is_complete:
            with open_store(cell_directory(store.directory, cell)) as cell_store:
                entries += derive(cell_store, judged)["comparisons"]
        else:
            entries += [dataclasses.asdict(comparison) for comparison in judged]
    table = pd.concat([cell.table for cell in scored.values()], ignore_index=True)
    comparison = {
        "metric": analysis.metric,
        "confidence": analysis.confidence,
        "smallest_effect": analysis.smallest_effect,
        "baseline": sweep["settings"]["baseline"],
        "arms": list(arm_names(sweep)),
        "seeds": sweep["seeds"],
        "num_ok_runs": int((table.status == "ok").sum()),
        "cells": [_cell_facts(cell, sweep, statuses[cell]) for cell in sweep["cells"]],
        "comparisons": entries,
        "trends": _trends(sweep, compared, analysis.confidence),
    }
    store.write_bytes("scores.parquet", to_parquet(table))
    store.write_json("comparison.json", comparison)
    write_sweep_report(store, sweep, comparison)
    return comparison


def _scored(store: Store, sweep: Mapping[str, Any], cell: str) -> _Scored:
    """Every run of a cell, those that are missing as failed."""
    cell_store = Store(cell_directory(store.directory, cell))
    arms, seeds, metric = arm_names(sweep), sweep["seeds"], sweep["settings"]["analysis"]["metric"]
    keys = [(arm, seed) for arm in arms for seed in seeds]
    records = {key: cell_store.read_run(*key) for key in keys if cell_store.has_run(*key)}
    runs: dict[str, dict[int, RunRecord]] = {arm: {} for arm in arms}
    for (arm, seed), record in records.items():
        runs[arm][seed] = record
    rows = scores_table(records.values()) if records else pd.DataFrame()
    failed = [
        {"arm": arm, "seed": seed, "status": "failed", **dict.fromkeys(METRICS, np.nan)}
        for arm, seed in keys
        if (arm, seed) not in records
    ]
    table = pd.concat([rows, pd.DataFrame(failed)] if failed else [rows], ignore_index=True)
    for place, (name, value) in enumerate(_data_columns(sweep, cell).items()):
        table.insert(place, name, value)
    config = cell_store.read_config() or {"equal_arms": {}}
    return _Scored(
        arm_pairs(
            [arm_scores(arm, runs[arm], seeds, metric) for arm in arms],
            sweep["settings"]["baseline"],
            controls={NULL_CONTROL} & set(arms),
            same_as=config["equal_arms"],
            cell=cell,
        ),
        table,
        is_complete=not failed,
    )


def _data_columns(sweep: Mapping[str, Any], cell: str) -> dict[str, Any]:
    """What tells a cell from the others: its name, data set, profile and factor (1 without one)."""
    data = sweep["cells"][cell]
    factor = 1.0 if data["imbalance"] == "none" else data["imbalance_factor"]
    return {
        "cell": cell,
        "dataset": data["dataset"],
        "imbalance": data["imbalance"],
        "imbalance_factor": factor,
    }


def _cell_facts(cell: str, sweep: Mapping[str, Any], status: CellStatus) -> dict[str, Any]:
    return _data_columns(sweep, cell) | {"state": status.state, "reasons": list(status.reasons)}


def _trends(
    sweep: Mapping[str, Any], compared: Sequence[Comparison], confidence: float
) -> list[dict[str, Any]]:
    """For each data set, profile and arm: how the difference changes with the factor.

    Only seeds that every factor has are used; a line needs two factors.
    """
    lines: dict[tuple[str, str, str], list[tuple[float, Comparison]]] = {}
    for comparison in compared:
        data = _data_columns(sweep, comparison.cell)
        if comparison.estimates is not None and data["imbalance"] != "none":
            line = (data["dataset"], data["imbalance"], comparison.treatment)
            lines.setdefault(line, []).append((data["imbalance_factor"], comparison))
    trends = []
    for (dataset, imbalance, treatment), points in lines.items():
        common = sorted(set.intersection(*(set(c.seeds) for _, c in points)))
        if len(points) < 2 or not common:
            continue
        by_seed = [dict(zip(c.seeds, c.differences, strict=True)) for _, c in points]
        table = [[differences[seed] for differences in by_seed] for seed in common]
        factors = [factor for factor, _ in points]
        estimate = dataclasses.asdict(trend(table, factors, confidence))
        about = {"dataset": dataset, "imbalance": imbalance, "treatment": treatment}
        trends.append({**about, "factors": factors, "seeds": common, **estimate})
    return trends
