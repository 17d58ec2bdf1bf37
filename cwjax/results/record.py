"""What is kept of one run, and how it comes from logits."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from cwjax.analysis.evaluation import Evaluation
from cwjax.analysis.metrics import METRICS, class_scores, score, scores

HISTORY_METRICS = {
    "val_loss": "loss",
    "val_accuracy": "accuracy",
    "val_balanced_accuracy": "balanced_accuracy",
}
"""Columns of the history besides `train_loss`, and the metric that each is on validation."""


History = list[dict[str, float]]
"""Of one run: the row of `epoch_scores` of every finished epoch."""


@dataclass(frozen=True, eq=False)
class RunRecord:
    """One finished run."""

    arm: str
    seed: int
    status: str  # ok | diverged | failed
    scores: dict[str, float]  # every metric on the test split; NaN where undefined or diverged
    class_scores: dict[str, np.ndarray]  # each [num_classes]
    history: dict[str, np.ndarray]  # each [num_epochs]; empty for a post-hoc arm
    confusion_matrix: np.ndarray  # int64 [num_classes, num_classes], rows are true classes
    test_logits: np.ndarray  # float32 [num_test, num_classes]
    validation_logits: np.ndarray  # float32 [num_validation, num_classes]
    class_counts: np.ndarray  # int64 [num_classes], of the training split
    class_weights: np.ndarray  # float32 [num_classes], as trained with
    head_kernel: np.ndarray  # float32 [num_features, num_classes]
    head_bias: np.ndarray  # float32 [num_classes]


def epoch_scores(
    train_loss: float,
    validation_logits: np.ndarray,
    validation_labels: np.ndarray,
    class_counts: np.ndarray,
) -> dict[str, float]:
    """One row of a run's history; NaN once the run has diverged.

    Args:
        train_loss: mean over the epoch's examples.
        validation_logits: float32 `[num_validation, num_classes]`.
        validation_labels: int `[num_validation]`.
        class_counts: int `[num_classes]`, of the training split.
    """
    row = {"train_loss": train_loss}
    finite = bool(np.isfinite(validation_logits).all())
    for column, metric in HISTORY_METRICS.items():
        row[column] = (
            score(metric, validation_logits, validation_labels, class_counts)
            if finite
            else float("nan")
        )
    return row


def trained_record(
    *,
    arm: str,
    seed: int,
    history: History,
    test_logits: np.ndarray,
    test_labels: np.ndarray,
    validation_logits: np.ndarray,
    class_counts: np.ndarray,
    class_weights: np.ndarray,
    head_kernel: np.ndarray,
    head_bias: np.ndarray,
) -> RunRecord:
    """The record of a run that was trained to its end; `history` has one row an epoch.

    A run has diverged when a training loss or a logit is not finite. It keeps its row, without
    scores.
    """
    num_classes = test_logits.shape[1]
    losses = [row["train_loss"] for row in history]
    record = RunRecord(
        arm=arm,
        seed=seed,
        status="diverged",
        scores=dict.fromkeys(METRICS, float("nan")),
        class_scores={
            **{name: np.full(num_classes, np.nan) for name in ("recall", "precision", "f1")},
            "n_train": class_counts.astype(np.int64),
            "n_test": np.bincount(test_labels, minlength=num_classes).astype(np.int64),
        },
        history={name: np.array([row[name] for row in history]) for name in history[0]},
        confusion_matrix=np.zeros((num_classes, num_classes), np.int64),
        test_logits=test_logits,
        validation_logits=validation_logits,
        class_counts=class_counts,
        class_weights=class_weights,
        head_kernel=head_kernel,
        head_bias=head_bias,
    )
    outputs = (losses, test_logits, validation_logits)
    if not all(np.isfinite(output).all() for output in outputs):
        return record
    return with_test_logits(record, arm, test_logits, validation_logits, test_labels)


def with_test_logits(
    record: RunRecord,
    arm: str,
    test_logits: np.ndarray,
    validation_logits: np.ndarray,
    test_labels: np.ndarray,
) -> RunRecord:
    """`record` under another arm's name and with that arm's logits, scored."""
    counts = record.class_counts
    return dataclasses.replace(
        record,
        arm=arm,
        status="ok",
        scores=scores(test_logits, test_labels, counts),
        class_scores=class_scores(test_logits, test_labels, counts),
        confusion_matrix=Evaluation(test_logits, test_labels, counts).confusion,
        test_logits=test_logits,
        validation_logits=validation_logits,
    )
