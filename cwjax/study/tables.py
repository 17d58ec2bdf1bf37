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
    classes = {"class_index": np.arange(len(class_names)), "class_name": np.array(class_names)}
    return _stacked([(record.key, {**classes, **record.class_scores}) for record in records])


def history_table(records: Iterable[RunRecord]) -> pd.DataFrame:
    """One row per run and epoch (from 1): training loss, validation loss and accuracies.

    Post-hoc arms are not trained and have no rows.
    """
    parts = []
    for record in records:
        if record.history:
            epochs = np.arange(1, len(record.history["train_loss"]) + 1)
            parts.append((record.key, {"epoch": epochs, **record.history}))
    return _stacked(parts)


def _stacked(parts: Sequence[tuple[RunKey, Mapping[str, np.ndarray]]]) -> pd.DataFrame:
    """The columns of all runs one below the other, after those of the key.

    Whole columns at a time: a data frame per run takes a millisecond each.
    """
    sizes = [len(next(iter(columns.values()))) for _, columns in parts]
    keys = {
        "cell": np.repeat([key.cell for key, _ in parts], sizes),
        "arm": np.repeat([key.arm for key, _ in parts], sizes),
        "seed": np.repeat([key.seed for key, _ in parts], sizes),
    }
    names = parts[0][1]
    columns = {name: np.concatenate([part[name] for _, part in parts]) for name in names}
    return pd.DataFrame(keys | columns)


def to_parquet(table: pd.DataFrame) -> bytes:
    """The table as a Parquet file: the same table gives the same bytes."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False, engine="pyarrow")
    return buffer.getvalue()
