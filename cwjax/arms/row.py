"""One run's arm as data: the arrays that the training program reads, whatever the scheme."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np

# A NumPy array on the host, a traced JAX array inside the training program; naming both would
# import JAX.
Leaf: TypeAlias = Any

NEVER = np.iinfo(np.int32).max
"""The epoch that is never reached: `second_stage_from` of an arm with one stage, and the like."""

EVALUATED = ("scale", "normalized_head", "input_fill", "input_mean", "input_scale")
"""The fields that a trained model predicts with; the others act in training only."""

SECOND_STAGE_CRT = 1  # `second_stage_head`: the head is drawn anew and trained alone
SECOND_STAGE_LWS = 2  # `second_stage_head`: the head is frozen too, one scale a class is trained
SECOND_STAGE_SAME = 3  # `second_stage_head`: the head is trained on, alone

MAY_BE_INFINITE = ("remix_kappa", "second_stage_max_norm")
"""The fields in which infinity means never."""


class ArmRow(NamedTuple):
    """All that tells one run's training from another's; float32 unless said otherwise.

    A NamedTuple of arrays is a JAX pytree, so rows stack on a leading run axis and any mix of arms
    runs in one program. For logits z and label t the loss is that of `losses.per_example_loss`.
    """

    class_weights: Leaf  # [num_classes] w: factor of the loss of each class
    logit_scale: Leaf  # [num_classes] a: multiplies the logits in the loss
    logit_bias: Leaf  # [num_classes] b: added to the logits in the loss
    margin: Leaf  # [num_classes] m: taken from the label's own logit in the loss
    smoothing: Leaf  # [num_classes] epsilon: label smoothing of each class
    class_counts: Leaf  # [num_classes] training examples of each class; read only by remix
    scale: Leaf  # [] s: multiplies every logit, in the loss and at test
    focal_gamma: Leaf  # [] gamma of the focal loss, 0 = plain cross-entropy
    normalized_head: Leaf  # [] 1 = cosine logits, 0 = a dense layer
    deferred_from: Leaf  # [] int32: class weights are 1 before this epoch
    sampling_exponent: Leaf  # [] q: classes are drawn with probability ∝ class_counts**q
    sampling_progress: Leaf  # [] 1 = class probabilities move to 1 / num_classes over the epochs
    mixup_alpha: Leaf  # [] mixing factors are Beta(alpha, alpha), 0 = no mixing
    mixing_until: Leaf  # [] int32: no mixing from this epoch on
    remix_kappa: Leaf  # [] ratio of class counts from which remix changes labels, inf = mixup
    remix_tau: Leaf  # [] mixing factors below it let remix change labels
    second_stage_from: Leaf  # [] int32: epoch from which the features are frozen
    second_stage_head: Leaf  # [] int32: 0 none, 1 to 3: SECOND_STAGE_CRT, _LWS, _SAME
    second_stage_exponent: Leaf  # [] q of the second stage
    second_stage_rate: Leaf  # [] multiplies the learning rate in the second stage
    second_stage_max_norm: Leaf  # [] bound of the length of each class vector, inf = none
    learning_rate_factor: Leaf  # [] multiplies the study's learning rate
    weight_decay: Leaf  # [] of all parameters, as the optimiser of that name takes it in PyTorch
    input_fill: Leaf  # [num_features] stands in for a missing feature; [0] for images
    input_mean: Leaf  # [num_features] taken from a feature; [0] for images
    input_scale: Leaf  # [num_features] divides a feature then; [0] for images


def uniform_row(num_classes: int) -> ArmRow:
    """The neutral row, plain cross-entropy; a scheme replaces the fields it is about.

    Args:
        num_classes: number of classes, at least 1.
    """
    ones, zeros = np.ones(num_classes, np.float32), np.zeros(num_classes, np.float32)
    return ArmRow(
        class_weights=ones,
        logit_scale=ones,
        logit_bias=zeros,
        margin=zeros,
        smoothing=zeros,
        class_counts=ones,
        scale=np.asarray(1, np.float32),
        focal_gamma=np.asarray(0, np.float32),
        normalized_head=np.asarray(0, np.float32),
        deferred_from=np.asarray(0, np.int32),
        sampling_exponent=np.asarray(1, np.float32),
        sampling_progress=np.asarray(0, np.float32),
        mixup_alpha=np.asarray(0, np.float32),
        mixing_until=np.asarray(NEVER, np.int32),
        remix_kappa=np.asarray(np.inf, np.float32),
        remix_tau=np.asarray(0, np.float32),
        second_stage_from=np.asarray(NEVER, np.int32),
        second_stage_head=np.asarray(0, np.int32),
        second_stage_exponent=np.asarray(1, np.float32),
        second_stage_rate=np.asarray(1, np.float32),
        second_stage_max_norm=np.asarray(np.inf, np.float32),
        learning_rate_factor=np.asarray(1, np.float32),
        weight_decay=np.asarray(0, np.float32),
        input_fill=np.zeros(0, np.float32),
        input_mean=np.zeros(0, np.float32),
        input_scale=np.ones(0, np.float32),
    )


def replace(row: ArmRow, **fields: Any) -> ArmRow:
    """`row` with some fields replaced, each in the type and the shape that it has in `row`.

    Raises:
        AttributeError: a field that `ArmRow` does not have.
        ValueError: a value that does not broadcast to the field's shape.
    """

    def like(old: np.ndarray, value: Any) -> np.ndarray:
        return np.broadcast_to(np.asarray(value, old.dtype), old.shape)

    return row._replace(**{name: like(getattr(row, name), new) for name, new in fields.items()})


def row_bytes(row: ArmRow) -> tuple[bytes, ...]:
    """What is equal for rows of equal values, so that one run serves both arms."""
    return tuple((leaf + 0).tobytes() for leaf in row)  # + 0 makes -0.0 0.0
