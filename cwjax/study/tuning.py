"""How good runs are on validation, and which of a tuned arm's candidates is its run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cwjax.analysis.metrics import METRICS, score
from cwjax.store.schema import RunRecord


def best_on_validation(
    candidates: Sequence[RunRecord], validation_labels: np.ndarray, metric: str
) -> RunRecord:
    """The candidate with the best score on validation; test logits are not looked at.

    Equal scores are told apart by the balanced log loss on validation, then by the order; so are
    all where the metric is undefined, as the recall of classes without a validation example is.
    Diverged runs are chosen only where there is no other.

    Args:
        candidates: runs of one seed, at least one, in the order of the grid.
        validation_labels: int `[num_validation]`.
        metric: a name in `METRICS`.
    """

    def rank(record: RunRecord) -> tuple[float, float]:
        gain, tie_break = (
            validation_gain(record, validation_labels, name) for name in (metric, "balanced_nll")
        )
        return 0.0 if np.isnan(gain) else -gain, -tie_break

    ok = [record for record in candidates if record.status == "ok"]
    return min(ok, key=rank) if ok else candidates[0]


def validation_gain(record: RunRecord, validation_labels: np.ndarray, metric: str) -> float:
    """A run's score on validation, its sign such that larger is better; NaN where undefined.

    Args:
        record: of the run.
        validation_labels: int `[num_validation]`.
        metric: a name in `METRICS`.
    """
    value = score(metric, record.validation_logits, validation_labels, record.class_counts)
    return value if METRICS[metric].higher_is_better else -value
