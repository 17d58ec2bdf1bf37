"""From the run files to everything else in the directory: tables, `comparison.json`, the report.

Reads stored results only, so a directory can be derived again at any time, without JAX.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from cwjax.analysis.comparison import compare_arms
from cwjax.analysis.family import Comparison, Rules
from cwjax.analysis.metrics import METRICS
from cwjax.analysis.new_test_sets import new_test_set_interval
from cwjax.analysis.pairing import ArmScores
from cwjax.plan import NULL_CONTROL, Plan
from cwjax.results.record import RunRecord
from cwjax.results.report import markdown_report
from cwjax.results.store import Store
from cwjax.results.tables import class_scores_table, history_table, scores_table, to_parquet


def derive(store: Store, plan: Plan) -> dict[str, Any]:
    """Writes every derived file from the stored runs of a plan; returns the comparison.

    Raises:
        ConfigError: a run file is missing or damaged.
    """
    records = [store.read_run(arm, seed) for arm in plan.arm_names for seed in plan.splits]
    store.write_bytes("scores.parquet", to_parquet(scores_table(records)))
    classes = class_scores_table(records, plan.dataset.class_names)
    store.write_bytes("class_scores.parquet", to_parquet(classes))
    store.write_bytes("history.parquet", to_parquet(history_table(records)))
    comparison = compare(plan, records)
    store.write_json("comparison.json", comparison)
    store.write_text("report.md", markdown_report(comparison, plan))
    return comparison


def compare(plan: Plan, records: Sequence[RunRecord]) -> dict[str, Any]:
    """The content of `comparison.json`: every arm against the baseline, on every metric.

    Args:
        plan: for the settings fixed before training.
        records: every run of the plan.
    """
    analysis = plan.config.analysis
    primary = [
        dataclasses.replace(
            comparison, new_test_sets=_new_test_sets(plan, comparison, records)
        )
        for comparison in _comparisons(plan, records, analysis.metric)
    ]
    secondary = [
        comparison
        for metric in METRICS
        if metric != analysis.metric
        for comparison in _comparisons(plan, records, metric)
    ]
    bad_runs = [
        {"arm": record.arm, "seed": record.seed, "status": record.status}
        for record in records
        if record.status != "ok"
    ]
    return {
        "metric": analysis.metric,
        "confidence": analysis.confidence,
        "smallest_effect": analysis.smallest_effect,
        "baseline": plan.config.baseline,
        "num_seeds": len(plan.splits),
        "num_ok_runs": len(records) - len(bad_runs),
        "bad_runs": bad_runs,
        "equal_arms": plan.equal_arms,
        "arms": [_arm_summary(arm, records) for arm in plan.arm_names],
        "comparisons": [dataclasses.asdict(comparison) for comparison in primary],
        "secondary": [dataclasses.asdict(comparison) for comparison in secondary],
    }


def _comparisons(
    plan: Plan, records: Sequence[RunRecord], metric: str
) -> tuple[Comparison, ...]:
    arms = [
        ArmScores(
            arm,
            {r.seed: r.scores[metric] for r in records if r.arm == arm and r.status == "ok"},
            {r.seed: r.status for r in records if r.arm == arm and r.status != "ok"},
        )
        for arm in plan.arm_names
    ]
    analysis = plan.config.analysis
    primary = metric == analysis.metric
    rules = Rules(
        metric=METRICS[metric],
        smallest_effect=analysis.smallest_effect if primary else None,
        confidence=analysis.confidence,
        diverged=analysis.diverged,
        primary=primary,
    )
    controls = [NULL_CONTROL] if plan.config.null_control else []
    return compare_arms(
        arms, plan.config.baseline, rules, controls=controls, same_as=plan.equal_arms
    )


def _new_test_sets(plan: Plan, comparison: Comparison, records: Sequence[RunRecord]) -> Any:
    by_run = {(record.arm, record.seed): record for record in records}
    pairs = [
        (by_run[comparison.baseline, seed], by_run[comparison.treatment, seed])
        for seed in comparison.seeds
    ]
    if not pairs or any(r.status != "ok" for pair in pairs for r in pair):
        return None
    return new_test_set_interval(
        comparison.metric,
        [baseline.test_logits for baseline, _ in pairs],
        [treatment.test_logits for _, treatment in pairs],
        plan.dataset.test_labels,
        np.stack([baseline.class_counts for baseline, _ in pairs]),
        plan.config.analysis.confidence,
    )


def _arm_summary(arm: str, records: Sequence[RunRecord]) -> dict[str, Any]:
    """Mean and standard deviation over the runs that ended well; null where a score is undefined."""
    ok = [record for record in records if record.arm == arm and record.status == "ok"]
    summary = {}
    for metric in METRICS:
        values = np.array([record.scores[metric] for record in ok])
        defined = len(values) > 0 and bool(np.isfinite(values).all())
        summary[metric] = {
            "mean": float(values.mean()) if defined else None,
            "std": float(values.std(ddof=1)) if defined and len(values) > 1 else None,
        }
    return {
        "arm": arm,
        "num_runs": sum(record.arm == arm for record in records),
        "num_ok": len(ok),
        "scores": summary,
    }
