"""From the run files to everything else in the directory: tables, `comparison.json`, the report.

Reads the directory only, so it can be derived again at any time, without JAX and the data set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cwjax.analysis.comparison import arm_pairs
from cwjax.analysis.family import Comparison, compare_family
from cwjax.analysis.metrics import METRICS
from cwjax.analysis.new_test_sets import NewTestSetInterval, new_test_set_interval
from cwjax.analysis.pairing import ArmScores, Pair
from cwjax.analysis.rules import Rules, rules_for
from cwjax.plan import NULL_CONTROL
from cwjax.results.contents import Contents, read_contents
from cwjax.results.record import RunRecord
from cwjax.results.report import write_report
from cwjax.results.store import Store
from cwjax.results.tables import class_scores_table, history_table, scores_table, to_parquet


def derive(store: Store, judged: Sequence[Comparison] | None = None) -> dict[str, Any]:
    """Writes every derived file of a directory whose runs are all finished; returns the comparison.

    Args:
        store: of the directory.
        judged: the comparisons on the primary metric, where they belong to a larger family.

    Raises:
        ConfigError: a file is missing or damaged.
    """
    contents = read_contents(store)
    tables = {
        "scores": scores_table(contents.records),
        "class_scores": class_scores_table(contents.records, contents.class_names),
        "history": history_table(contents.records),
    }
    for name, table in tables.items():
        store.write_bytes(f"{name}.parquet", to_parquet(table))
    comparison = compare(contents, judged)
    store.write_json("comparison.json", comparison)
    write_report(store, contents, comparison)
    return comparison


def compare(contents: Contents, judged: Sequence[Comparison] | None = None) -> dict[str, Any]:
    """The content of `comparison.json`: every arm against the baseline, on every metric.

    Args:
        contents: of the directory.
        judged: the comparisons on the primary metric, where they belong to a larger family.
    """
    analysis, records = contents.analysis, contents.records
    primary = [
        dataclasses.replace(comparison, new_test_sets=_new_test_sets(contents, comparison))
        for comparison in judged or compare_family(*family_of(contents, analysis.metric))
    ]
    secondary = [
        comparison
        for metric in METRICS
        if metric != analysis.metric
        for comparison in compare_family(*family_of(contents, metric))
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
        "baseline": contents.baseline,
        "seeds": list(contents.seeds),
        "num_ok_runs": len(records) - len(bad_runs),
        "bad_runs": bad_runs,
        "equal_arms": contents.config["equal_arms"],
        "arms": [_arm_summary(arm, records) for arm in contents.arms],
        "comparisons": [dataclasses.asdict(comparison) for comparison in primary],
        "secondary": [dataclasses.asdict(comparison) for comparison in secondary],
    }


def family_of(contents: Contents, metric: str) -> tuple[list[Pair], Rules]:
    """Every arm with the baseline on one metric, and the rules of the comparison."""
    arms = [arm_scores(arm, runs, contents.seeds, metric) for arm, runs in contents.runs.items()]
    pairs = arm_pairs(
        arms,
        contents.baseline,
        controls={NULL_CONTROL} & set(contents.arms),
        same_as=contents.config["equal_arms"],
    )
    return pairs, rules_for(contents.analysis, metric)


def arm_scores(
    arm: str, runs: Mapping[int, RunRecord], seeds: Sequence[int], metric: str
) -> ArmScores:
    """The arm's scores on one metric by seed; a seed without a run counts as failed."""
    statuses = {seed: runs[seed].status if seed in runs else "failed" for seed in seeds}
    return ArmScores(
        arm,
        {seed: runs[seed].scores[metric] for seed in seeds if statuses[seed] == "ok"},
        {seed: status for seed, status in statuses.items() if status != "ok"},
    )


def _new_test_sets(contents: Contents, comparison: Comparison) -> NewTestSetInterval | None:
    baseline_runs = contents.runs[comparison.baseline]
    treatment_runs = contents.runs[comparison.treatment]
    pairs = [(baseline_runs[seed], treatment_runs[seed]) for seed in comparison.seeds]
    if not pairs or any(r.status != "ok" for pair in pairs for r in pair):
        return None
    return new_test_set_interval(
        comparison.metric,
        [baseline.test_logits for baseline, _ in pairs],
        [treatment.test_logits for _, treatment in pairs],
        contents.examples.test_labels,
        np.stack([baseline.class_counts for baseline, _ in pairs]),
        contents.analysis.confidence,
    )


def _arm_summary(arm: str, records: Sequence[RunRecord]) -> dict[str, Any]:
    """Mean and standard deviation over the runs that ended well; null where one is undefined."""
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
