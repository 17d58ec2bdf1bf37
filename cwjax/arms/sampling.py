"""Which examples an epoch shows, in which order, and with whom they are mixed; drawn on the host.

The draws of an epoch are a function of (seed, epoch) alone, and every arm of a seed starts from the
same uniforms.
"""

from __future__ import annotations

import numpy as np

from cwjax.arms.row import ArmRow
from cwjax.randomness import Purpose, rng


def epoch_order(
    labels: np.ndarray, row: ArmRow, *, seed: int, epoch: int, num_epochs: int
) -> np.ndarray:
    """The training examples of one epoch, in order; always as many as there are.

    Where every example is as likely as any other (q = 1, no progress) it is a permutation.
    Otherwise a class is drawn with the probabilities of `class_probabilities`, then one of its
    examples, with replacement.

    Args:
        labels: int `[num_examples]`, the labels of the run's training examples.
        row: the run's arm; its classes with a probability above 0 must have an example.
        seed: the run's seed.
        epoch: counted from 0; from `row.second_stage_from` on the second stage's exponent holds.
        num_epochs: epochs of the first stage.

    Returns:
        int32 `[num_examples]`, positions in `labels`.

    References:
        Kang et al. 2020, "Decoupling Representation and Classifier for Long-Tailed Recognition".
    """
    class_uniforms, example_uniforms = rng(seed, Purpose.ORDER, epoch).random((2, len(labels)))
    exponent, progress = _exponent_and_progress(row, epoch, num_epochs)
    if exponent == 1 and progress == 0:
        return np.argsort(class_uniforms, kind="stable").astype(np.int32)
    counts = np.bincount(labels, minlength=len(row.class_weights))
    probabilities = class_probabilities(counts, row, epoch=epoch, num_epochs=num_epochs)
    by_class = np.argsort(labels, kind="stable")
    classes = np.searchsorted(np.cumsum(probabilities)[:-1], class_uniforms, side="right")
    first_of_class = np.cumsum(counts) - counts
    within_class = (example_uniforms * counts[classes]).astype(np.int64)
    drawn: np.ndarray = by_class[first_of_class[classes] + within_class].astype(np.int32)
    return drawn


def class_probabilities(
    class_counts: np.ndarray, row: ArmRow, *, epoch: int, num_epochs: int
) -> np.ndarray:
    """Probability of drawing each class: `∝ n_c^q`, moved towards 1/K by a progressive arm.

    Progressive: `(1 − e/(E−1))·p_c + (e/(E−1))/K`; a single epoch (E = 1) is the start of the road.

    Args:
        class_counts: int `[num_classes]`.
        row: the run's arm.
        epoch: e, counted from 0.
        num_epochs: E, epochs of the first stage.

    Returns:
        float64 `[num_classes]`, summing to 1.
    """
    exponent, progress = _exponent_and_progress(row, epoch, num_epochs)
    powers = class_counts.astype(np.float64) ** exponent
    probabilities: np.ndarray = (1 - progress) * powers / powers.sum() + progress / len(
        class_counts
    )
    return probabilities


def _exponent_and_progress(row: ArmRow, epoch: int, num_epochs: int) -> tuple[float, float]:
    """The q of an epoch, and how far towards 1/K a progressive arm is, in [0, 1]."""
    if epoch >= row.second_stage_from:
        return float(row.second_stage_exponent), 0.0
    return float(row.sampling_exponent), float(row.sampling_progress) * epoch / max(
        num_epochs - 1, 1
    )


def mixing(
    row: ArmRow, *, seed: int, epoch: int, num_examples: int, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mixing factors and partners of the batches of one epoch, padded at the end of the last one.

    Args:
        row: the run's arm; no mixing for `mixup_alpha` = 0 and from the epoch `mixing_until` on:
            factors 1, everyone its own partner.
        seed: the run's seed.
        epoch: counted from 0.
        num_examples: examples an epoch shows.
        batch_size: slots of a batch.

    Returns:
        Factors λ ~ Beta(α, α), float32 `[num_steps]`, the part of the example itself; and partner
        slots, int32 `[num_steps, batch_size]`: a permutation of the filled slots of each batch, the
        others being their own partners. num_steps = ⌈num_examples / batch_size⌉.

    References:
        Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization".
    """
    num_steps = -(-num_examples // batch_size)
    slots = np.broadcast_to(np.arange(batch_size, dtype=np.int32), (num_steps, batch_size))
    alpha = float(row.mixup_alpha)
    if alpha == 0 or epoch >= row.mixing_until:
        return np.ones(num_steps, np.float32), slots
    generator = rng(seed, Purpose.MIXING, epoch)
    sort_keys = generator.random((num_steps, batch_size))
    is_padding = np.arange(num_steps * batch_size).reshape(num_steps, batch_size) >= num_examples
    sort_keys[is_padding] = 1 + slots[is_padding]  # after every filled slot, in place
    factors = generator.beta(alpha, alpha, size=num_steps).astype(np.float32)
    return factors, np.argsort(sort_keys, axis=1, kind="stable").astype(np.int32)
