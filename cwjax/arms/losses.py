"""The one loss that every arm's row goes through, its reductions, and the head's logits.

Losses come back unreduced. Every field of the row is traced, so nothing here asks which scheme it
is; what a row does not use is switched off by values (1, 0) that leave the rest exact to the last
bit.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from cwjax.arms.row import ArmRow

_SMALLEST_ERROR = 1e-7  # floor of 1 - p in the focal factor: its power has no gradient at 0
_SMALLEST_SQUARED_NORM = 1e-12  # a shorter vector counts as zero: it has no direction


def head_logits(features: Array, kernel: Array, bias: Array, row: ArmRow) -> Array:
    """Logits of the last layer: dense, or the cosine of features and class vectors.

    Dense: `z = f·W + b`. Cosine (`row.normalized_head` = 1): `z_c = f·w_c / (‖f‖ ‖w_c‖)`, in
    [-1, 1], without bias; 0, with zero gradient, where a vector is zero.

    Args:
        features: float `[batch, num_features]`.
        kernel: float `[num_features, num_classes]`, one column a class vector.
        bias: float `[num_classes]`.
        row: the run's arm.

    Returns:
        `[batch, num_classes]`.

    References:
        Cao et al. 2019, "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss".
    """
    is_cosine = row.normalized_head > 0
    products = features @ kernel
    inverse_norms = _inverse_norm(features, 1, is_cosine) * _inverse_norm(kernel, 0, is_cosine)
    # Selected whole: with a factor of 1 instead, XLA would sum the bias's gradient in another
    # order.
    return jnp.where(is_cosine, products * inverse_norms, products + bias[None, :])


def _inverse_norm(vectors: Array, axis: int, used: Array) -> Array:
    """1 / ‖vector‖ along `axis`, kept as a dimension of 1; 0 for a zero vector."""
    squared = jnp.sum(vectors * vectors, axis, keepdims=True)
    # The inner `where` keeps 1/0 out: the gradient of an unselected branch would be 0 · ∞ = NaN.
    is_safe = used & (squared > _SMALLEST_SQUARED_NORM)
    return jnp.where(is_safe, jax.lax.rsqrt(jnp.where(is_safe, squared, 1.0)), 0.0)


def evaluation_logits(logits: Array, row: ArmRow) -> Array:
    """`s·z` `[batch, num_classes]`, the logits to score: all else acts in training only."""
    scaled: Array = row.scale * logits
    return scaled


def class_weights_at(row: ArmRow, epoch: ArrayLike) -> Array:
    """The class weights in force at an epoch, `[num_classes]`: 1 before `row.deferred_from`.

    References:
        Deferred re-weighting: Cao et al. 2019.
    """
    return jnp.where(epoch < row.deferred_from, 1.0, row.class_weights)


def label_mix(labels: Array, mixed_labels: Array, mix: ArrayLike, row: ArmRow) -> Array:
    """λ_y `[batch]`: the part of the loss that goes to `labels`, the rest going to `mixed_labels`.

    Mixup: λ_y = λ. Remix: 0 where the label's class has at least κ times the partner's examples and
    λ < τ; 1 where it is the other way round and 1 − λ < τ; λ elsewhere.

    Args:
        labels: int `[batch]`, i.
        mixed_labels: int `[batch]`, the partners' labels, j.
        mix: λ, float `[]` or `[batch]`.
        row: the run's arm.

    References:
        Zhang et al. 2018, "mixup"; Chou et al. 2020, "Remix: Rebalanced Mixup".
    """
    mix = jnp.broadcast_to(mix, labels.shape)
    count, partner_count = row.class_counts[labels], row.class_counts[mixed_labels]
    # Products, not ratios: exact for counts, and false on both sides for κ = ∞.
    to_partner = (count >= row.remix_kappa * partner_count) & (mix < row.remix_tau)
    to_label = (partner_count >= row.remix_kappa * count) & (1 - mix < row.remix_tau)
    return jnp.where(to_partner, 0.0, jnp.where(to_label, 1.0, mix))


def example_weights(
    labels: Array,
    row: ArmRow,
    *,
    class_weights: Array,
    mixed_labels: Array | None = None,
    mix: ArrayLike = 1.0,
) -> Array:
    """Weight of each example, `[batch]`: `w_y`, or `λ_y·w_y + (1−λ_y)·w_y′` of a mixed one.

    Arguments as in `per_example_loss`.
    """
    weights = class_weights[labels]
    if mixed_labels is None:
        return weights
    fraction = label_mix(labels, mixed_labels, mix, row)
    return fraction * weights + (1 - fraction) * class_weights[mixed_labels]


def per_example_loss(
    logits: Array,
    labels: Array,
    row: ArmRow,
    *,
    class_weights: Array,
    mixed_labels: Array | None = None,
    mix: ArrayLike = 1.0,
) -> Array:
    """The weighted loss of every example, unreduced.

    With `u_c = a_c·s·(z_c − m_c·[c = t]) + b_c`, `nll_c = −log softmax(u)_c`, `p_t = exp(−nll_t)`
    and `F = max(1−p_t, 1e-7)^γ` (1 where γ = 0), the loss of target t is
    `ℓ(t) = w_t · F · ((1−ε_t)·nll_t + ε_t·mean_c nll_c)`, and that of an example
    `λ_y·ℓ(y) + (1−λ_y)·ℓ(y′)`. The neutral row gives plain cross-entropy bit for bit. Label
    smoothing takes the weight of the label for all its terms (PyTorch weights every term by its own
    class).

    Args:
        logits: z, float `[batch, num_classes]`, as `head_logits` returns them.
        labels: y, int `[batch]` in [0, num_classes).
        row: the run's arm.
        class_weights: w, float `[num_classes]`, as `class_weights_at` returns them.
        mixed_labels: y′, int `[batch]`, the labels of the mixing partners; None without mixing.
        mix: λ, float `[]` or `[batch]` in [0, 1], the part of the example itself in the mixture.

    Returns:
        `[batch]`.

    References:
        Lin et al. 2017 (γ); Cao et al. 2019 (m, s); Menon et al. 2021 and Ren et al. 2020 (b);
        Kini et al. 2021 (a); Szegedy et al. 2016 and Zhong et al. 2021 (ε).
    """
    losses = class_weights[labels] * _target_loss(logits, labels, row)
    if mixed_labels is None:
        return losses
    fraction = label_mix(labels, mixed_labels, mix, row)
    mixed_losses = class_weights[mixed_labels] * _target_loss(logits, mixed_labels, row)
    return fraction * losses + (1 - fraction) * mixed_losses


def _target_loss(logits: Array, targets: Array, row: ArmRow) -> Array:
    """ℓ(t) / w_t of `per_example_loss`, `[batch]`."""
    is_target = jax.nn.one_hot(targets, logits.shape[1], dtype=logits.dtype)
    margins = row.margin[None, :] * is_target
    adjusted = (row.logit_scale * row.scale)[None, :] * (logits - margins) + row.logit_bias[None, :]
    nll = optax.losses.softmax_cross_entropy_with_integer_labels(adjusted, targets)
    mean_nll = jax.nn.logsumexp(adjusted, axis=1) - jnp.mean(adjusted, axis=1)
    smoothing = row.smoothing[targets]
    losses: Array = _focal_factor(nll, row.focal_gamma) * (
        (1 - smoothing) * nll + smoothing * mean_nll
    )
    return losses


def _focal_factor(nll: Array, gamma: Array) -> Array:
    """`(1 − p)^γ` `[batch]`, p = exp(−nll); exactly 1, without gradient, for γ = 0."""
    error = jnp.maximum(-jnp.expm1(-nll), _SMALLEST_ERROR)
    # Twice `where`: γ = 0 never reaches the power, whose gradient in the unselected branch would
    # otherwise be γ·(1 − p)^(−1) and has to vanish on every backend.
    is_focal = gamma > 0
    return jnp.where(is_focal, error ** jnp.where(is_focal, gamma, 1.0), 1.0)


def reduce_loss(losses: Array, weights: Array, is_valid: Array, reduction: str) -> Array:
    """One number for a batch, ready for the gradient.

    `batch`: Σ losses / number of valid examples (Keras's `class_weight`). `weights`: Σ losses /
    Σ weights (PyTorch's `CrossEntropyLoss(weight=)`). They differ by the mean weight of the batch.
    A batch without a valid example, or whose weights sum to 0, gives 0.

    Args:
        losses: float `[batch]`, with the class weights already in, from `per_example_loss`.
        weights: float `[batch]`, from `example_weights`.
        is_valid: bool `[batch]`, False where a slot pads the batch.
        reduction: `batch` or `weights`; static.

    Returns:
        `[]`.

    Raises:
        ValueError: another reduction.
    """
    if reduction == "batch":
        normalizer = jnp.sum(is_valid, dtype=losses.dtype)
    elif reduction == "weights":
        normalizer = jnp.sum(jnp.where(is_valid, weights, 0.0))
    else:
        raise ValueError(f"reduction must be 'batch' or 'weights', not {reduction!r}")
    return jnp.sum(jnp.where(is_valid, losses, 0.0)) / jnp.where(normalizer > 0, normalizer, 1.0)
