"""From finished runs to data frames: one row per run, per run and class, per run and epoch."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from cwjax.analysis.metrics import METRICS
from cwjax.store.schema import RunHeader, RunRecord, StudyFile
from cwjax.training.runs import RunKey


def scores_table(
    study: StudyFile, expected: Sequence[RunKey], runs: Mapping[RunKey, RunHeader]
) -> pd.DataFrame:
    """One row per run: cell, its data, arm, seed, status and every metric.

    `candidate` marks the runs that are of no arm: tuned arms are chosen from them.

    Args:
        study: gives the order of the runs.
        expected: the runs that the study needed.
        runs: those that are stored; the others have failed.
    """
    rows, wanted = [], set(expected)
    for cell, stored in study.cells.items():
        about = {
            "cell": cell,
            "dataset": stored.data.dataset,
            "imbalance": stored.data.imbalance,
            "imbalance_factor": stored.data.factor,
        }
        for arm in study.run_names:
            candidate = arm not in study.arm_names
            for seed in study.seeds:
                if (key := RunKey(cell, arm, seed)) not in wanted:
                    continue
                run = runs.get(key)
                status = "failed" if run is None else run.status
                scores = dict.fromkeys(METRICS, np.nan) if run is None else _with_nan(run)
                name = {"arm": arm, "seed": seed, "status": status, "candidate": candidate}
                rows.append({**about, **name, **scores})
    return pd.DataFrame(rows)


def _with_nan(run: RunHeader) -> dict[str, float]:
    return {name: np.nan if score is None else score for name, score in run.scores.items()}


def class_scores_table(records: Iterable[RunRecord], class_names: Sequence[str]) -> pd.DataFrame:
    """One row per run and class: recall, precision, f1, n_train, n_test."""
    return pd.concat(
        [
            pd.DataFrame(
                {
                    **_key_columns(record.key),
                    "class_index": np.arange(len(class_names)),
                    "class_name": class_names,
                    **record.class_scores,
                }
            )
            for record in records
        ],
        ignore_index=True,
    )


def history_table(records: Iterable[RunRecord]) -> pd.DataFrame:
    """One row per run and epoch (from 1): training loss, validation loss and accuracies.

    Post-hoc arms are not trained and have no rows.
    """
    return pd.concat(
        [
            pd.DataFrame(
                {
                    **_key_columns(record.key),
                    "epoch": np.arange(1, len(record.history["train_loss"]) + 1),
                    **record.history,
                }
            )
            for record in records
            if record.history
        ],
        ignore_index=True,
    )


def _key_columns(key: RunKey) -> dict[str, str | int]:
    return {"cell": key.cell, "arm": key.arm, "seed": key.seed}


def to_parquet(table: pd.DataFrame) -> bytes:
    """The table as a Parquet file: the same table gives the same bytes."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False, engine="pyarrow")
    return buffer.getvalue()
