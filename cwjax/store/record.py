"""From the logits of a run to what is kept of it."""

from __future__ import annotations

import dataclasses

import numpy as np

from cwjax.analysis.evaluation import Evaluation
from cwjax.analysis.metrics import METRICS, class_scores, score, scores
from cwjax.arms.logit_prior import logit_prior
from cwjax.store.schema import RunRecord
from cwjax.training.runs import RunFinished

HISTORY_METRICS = {
    "val_loss": "loss",
    "val_accuracy": "accuracy",
    "val_balanced_accuracy": "balanced_accuracy",
}
"""Columns of the history besides `train_loss`, and the metric that each is on validation."""


History = list[dict[str, float]]
"""A run's rows of `epoch_scores`, one for every finished epoch."""


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
    finished: RunFinished, history: History, labels: np.ndarray, class_counts: np.ndarray
) -> RunRecord:
    """The record of a run that was trained to its end.

    A run has diverged when a training loss or a logit is not finite. It keeps its row, without
    scores.

    Args:
        finished: what training yielded.
        history: one row per epoch; none for an estimator.
        labels: int `[num_examples]`, of the whole data set.
        class_counts: int `[num_classes]`, of the training split.
    """
    num_classes = finished.test_logits.shape[1]
    test_labels = labels[finished.run.test_indices]
    losses = [row["train_loss"] for row in history]
    record = RunRecord(
        key=finished.run.key,
        status="diverged",
        scores=dict.fromkeys(METRICS, float("nan")),
        chosen={},
        class_scores={
            **{name: np.full(num_classes, np.nan) for name in ("recall", "precision", "f1")},
            "n_train": class_counts.astype(np.int64),
            "n_test": np.bincount(test_labels, minlength=num_classes).astype(np.int64),
        },
        history={name: np.array([row[name] for row in history]) for name in (history or [{}])[0]},
        confusion_matrix=np.zeros((num_classes, num_classes), np.int64),
        test_logits=finished.test_logits,
        validation_logits=finished.validation_logits,
        class_counts=class_counts,
        class_weights=finished.run.row.class_weights,
        head_kernel=finished.head_kernel,
        head_bias=finished.head_bias,
        validation_labels=labels[finished.run.validation_indices],
        logit_prior=logit_prior(finished.run.row, class_counts),
        stage_steps=finished.stage_steps,
    )
    outputs = (losses, finished.test_logits, finished.validation_logits)
    if not all(np.isfinite(output).all() for output in outputs):
        return record
    return with_test_logits(record, finished.test_logits, finished.validation_logits, test_labels)


def with_test_logits(
    record: RunRecord,
    test_logits: np.ndarray,
    validation_logits: np.ndarray,
    test_labels: np.ndarray,
) -> RunRecord:
    """`record` with these logits, scored."""
    counts = record.class_counts
    return dataclasses.replace(
        record,
        status="ok",
        scores=scores(test_logits, test_labels, counts),
        class_scores=class_scores(test_logits, test_labels, counts),
        confusion_matrix=Evaluation(test_logits, test_labels, counts).confusion,
        test_logits=test_logits,
        validation_logits=validation_logits,
    )
