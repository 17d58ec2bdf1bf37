"""From finished runs to tables: one row a run, a run and class, a run and epoch."""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
import pandas as pd

from cwjax.results.store import RunRecord


def scores_table(records: Iterable[RunRecord]) -> pd.DataFrame:
    """A row a run: arm, seed, status and every metric (NaN where undefined or diverged)."""
    return pd.DataFrame(
        [
            {"arm": record.arm, "seed": record.seed, "status": record.status, **record.scores}
            for record in records
        ]
    )


def class_scores_table(records: Iterable[RunRecord], class_names: tuple[str, ...]) -> pd.DataFrame:
    """A row a run and class: recall, precision, f1, n_train, n_test."""
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "arm": record.arm,
                    "seed": record.seed,
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
    """A row a run and epoch (from 1): training loss, validation loss and accuracies.

    Post-hoc arms are not trained and have no rows.
    """
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "arm": record.arm,
                    "seed": record.seed,
                    "epoch": np.arange(1, len(record.history["train_loss"]) + 1),
                    **record.history,
                }
            )
            for record in records
            if record.history
        ],
        ignore_index=True,
    )


def to_parquet(table: pd.DataFrame) -> bytes:
    """The table as a Parquet file: the same table gives the same bytes."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False, engine="pyarrow")
    return buffer.getvalue()
