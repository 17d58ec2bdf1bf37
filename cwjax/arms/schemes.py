"""Every trained scheme, one entry each: the function is the rule, its parameters are the settings.

To add a scheme, add one function here: it takes the context (counts, epochs) and its settings, and
returns the neutral row with the fields replaced that the scheme is about.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np

from cwjax.arms import class_weights as formulas
from cwjax.arms.arm import (
    SCHEMES,
    STAGE_STEPS,
    UNIFORM,
    Arm,
    ArmContext,
    ClassWeights,
    find_scheme,
    scheme,
)
from cwjax.arms.custom_weights import CustomFile
from cwjax.arms.row import (
    NEVER,
    SECOND_STAGE_CRT,
    SECOND_STAGE_LWS,
    SECOND_STAGE_SAME,
    ArmRow,
    replace,
    uniform_row,
)
from cwjax.arms.settings import AtLeastOne, AtLeastZero, BelowOne, Fraction, Positive, Range, Whole

MixingAlpha = Annotated[float, Range(0.01, 100)]
StageLength = Annotated[float, Range(0, 10, "(]")]  # of the second stage, in first stages
Steps = Annotated[int, Whole(0, 10**6)]


# Class weights -----------------------------------------------------------------------------------


@scheme(formula="w_c = 1", source="", kind="class_weights")
def uniform(context: ArmContext) -> ArmRow:
    """Plain cross-entropy."""
    return uniform_row(context.num_classes)


@scheme(
    formula="w_c = N / (K n_c)",
    source="scikit-learn; King & Zeng 2001",
    kind="class_weights",
)
def balanced(context: ArmContext, *, drw: BelowOne = 0.0) -> ArmRow:
    """Every class has the same total weight."""
    return weighted_row(context, formulas.balanced(context.weight_counts), drw)


@scheme(
    formula="w_c ∝ (1/n_c)^gamma",
    source="Mahajan et al. 2018",
    kind="class_weights",
    grid={"gamma": (0.25, 0.5, 0.75)},
)
def inverse_power(context: ArmContext, *, gamma: AtLeastZero = 0.5, drw: BelowOne = 0.0) -> ArmRow:
    """Between uniform and balanced weights.

    gamma: 0 is uniform, 1 is balanced.
    """
    return weighted_row(context, formulas.inverse_power(context.weight_counts, gamma), drw)


@scheme(
    formula="w_c ∝ (1-beta) / (1-beta^n_c)",
    source="Cui et al. 2019",
    kind="class_weights",
    grid={"beta": (0.99, 0.999, 0.9999)},
)
def effective_number(context: ArmContext, *, beta: BelowOne = 0.999, drw: BelowOne = 0.0) -> ArmRow:
    """Further examples of a class count for less.

    beta: they do so from about 1 / (1 - beta) examples on.

    The authors normalise over the classes: --weight-normalization classes.
    """
    return weighted_row(context, formulas.effective_number(context.weight_counts, beta), drw)


@scheme(
    formula="w_c from a JSON file {class: weight}, as they are",
    source="Keras class_weight",
    kind="class_weights",
)
def custom(context: ArmContext, *, file: CustomFile, drw: BelowOne = 0.0) -> ArmRow:
    """The user's own weights.

    file: of JSON, an object with one number for each class.
    """
    weights = file.for_classes(context.class_names)
    return replace(uniform_row(context.num_classes), **_class_weight_fields(context, weights, drw))


# Losses ------------------------------------------------------------------------------------------


@scheme(
    formula="w_y (1-p_y)^gamma CE, p from the unweighted CE",
    source="Lin et al. 2017",
    grid={"gamma": (0.5, 1, 2)},
)
def focal(
    context: ArmContext,
    *,
    gamma: AtLeastZero = 2.0,
    weights: ClassWeights = UNIFORM,
    drw: BelowOne = 0.0,
) -> ArmRow:
    """Examples that are already right count less.

    gamma: how much less; 0 is plain cross-entropy.
    """
    return _row(context, weights, drw, focal_gamma=gamma)


@scheme(
    formula="CE(z + tau log pi) in training, z at test",
    source="Menon et al. 2021",
    grid={"tau": (0.5, 1, 1.5)},
)
def logit_adjusted(context: ArmContext, *, tau: AtLeastZero = 1.0) -> ArmRow:
    """The prior is in the training logits, so the test logits are without it.

    tau: factor of the log prior; 1 suits balanced accuracy in theory, 0 is plain cross-entropy.
    """
    return replace(uniform_row(context.num_classes), logit_bias=tau * _log_prior(context))


@scheme(formula="CE(z + log n_c): logit_adjusted:tau=1", source="Ren et al. 2020")
def balanced_softmax(context: ArmContext) -> ArmRow:
    """Log counts are the log prior plus a constant, which softmax does not see."""
    return logit_adjusted(context, tau=1.0)


LDAM_WEIGHTS = find_scheme("effective_number").arm({"beta": 0.9999})


@scheme(
    formula="w_y CE(s (z - m_y e_y)), m_c ∝ n_c^(-1/4), max m_c = c, cosine logits z",
    source="Cao et al. 2019",
    needs_head=True,
    grid={"c": (0.3, 0.5, 0.7)},
)
def ldam(
    context: ArmContext,
    *,
    c: AtLeastZero = 0.5,
    s: Positive = 30.0,
    drw: BelowOne = 0.8,
    weights: ClassWeights = LDAM_WEIGHTS,
) -> ArmRow:
    """Rare classes get larger margins.

    c: margin of the rarest class, before the logits are scaled.
    s: scale of the cosine logits, which lie between -1 and 1 without it.

    The authors' code divides weighted losses by the sum of the weights and normalises weights over
    the classes: --reduction weights --weight-normalization classes.
    """
    margin = c * (context.class_counts.min() / context.class_counts) ** 0.25
    return _row(context, weights, drw, margin=margin, scale=s, normalized_head=1)


@scheme(
    formula="CE(z (n_c/n_max)^gamma + tau log pi)",
    source="Kini et al. 2021",
    grid={"gamma": (0.05, 0.15, 0.3)},
)
def vector_scaling(
    context: ArmContext, *, gamma: AtLeastZero = 0.15, tau: AtLeastZero = 1.25
) -> ArmRow:
    """Rare classes have to reach larger logits, and the prior is added.

    gamma: how much the logits of rare classes are shrunk in training; 0 is not at all.
    tau: factor of the log prior, as in logit_adjusted.

    The defaults of the authors' code are gamma=0.3 and tau=1.
    """
    return replace(
        uniform_row(context.num_classes),
        logit_scale=(context.class_counts / context.class_counts.max()) ** gamma,
        logit_bias=tau * _log_prior(context),
    )


@scheme(
    formula="CE(z (n_c/n_max)^gamma) in training, z at test",
    source="Ye et al. 2020",
    grid={"gamma": (0.1, 0.3, 0.5)},
)
def cdt(context: ArmContext, *, gamma: AtLeastZero = 0.3) -> ArmRow:
    """Class-dependent temperatures: vector_scaling:tau=0.

    gamma: how much the logits of rare classes are shrunk in training; 0 is plain cross-entropy.
    """
    return vector_scaling(context, gamma=gamma, tau=0.0)


@scheme(
    formula="(1-epsilon) CE + epsilon mean_c nll_c",
    source="Szegedy et al. 2016",
    grid={"epsilon": (0.05, 0.1, 0.2)},
)
def label_smoothing(
    context: ArmContext,
    *,
    epsilon: BelowOne = 0.1,
    weights: ClassWeights = UNIFORM,
    drw: BelowOne = 0.0,
) -> ArmRow:
    """The same smoothing for every class.

    epsilon: share of the loss that goes to all classes alike.
    """
    return _row(context, weights, drw, smoothing=epsilon)


@scheme(
    formula="epsilon_c = tail + (head-tail) sin(pi (n_c-n_min) / (2 (n_max-n_min)))",
    source="Zhong et al. 2021",
    grid={"head": (0.2, 0.4, 0.6)},
)
def label_aware_smoothing(
    context: ArmContext,
    *,
    head: BelowOne = 0.4,
    tail: BelowOne = 0.1,
    weights: ClassWeights = UNIFORM,
    drw: BelowOne = 0.0,
) -> ArmRow:
    """Frequent classes are smoothed more; all like the tail where no class is more frequent.

    head: smoothing of the most frequent class.
    tail: smoothing of the rarest class.
    """
    counts = context.class_counts
    above_min = (counts - counts.min()) / max(counts.max() - counts.min(), 1)
    smoothing = tail + (head - tail) * np.sin(np.pi / 2 * above_min)
    return _row(context, weights, drw, smoothing=smoothing)


# Sampling and mixing -----------------------------------------------------------------------------


@scheme(formula="p_c = 1/K", source="Kang et al. 2020")
def class_balanced_sampling(
    context: ArmContext, *, weights: ClassWeights = UNIFORM, drw: BelowOne = 0.0
) -> ArmRow:
    """Every class is drawn equally often, with replacement; an epoch has as many draws as ever.

    The authors' epochs have as many draws as if every class were as large as the largest.
    """
    return _row(context, weights, drw, sampling_exponent=0)


@scheme(formula="p_c ∝ n_c^(1/2)", source="Kang et al. 2020")
def sqrt_sampling(
    context: ArmContext, *, weights: ClassWeights = UNIFORM, drw: BelowOne = 0.0
) -> ArmRow:
    """Between natural and class-balanced."""
    return _row(context, weights, drw, sampling_exponent=0.5)


@scheme(formula="p_c(e) = (1-e/(E-1)) n_c/N + (e/(E-1))/K", source="Kang et al. 2020")
def progressive_sampling(
    context: ArmContext, *, weights: ClassWeights = UNIFORM, drw: BelowOne = 0.0
) -> ArmRow:
    """From natural in the first epoch to class-balanced in the last."""
    return _row(context, weights, drw, sampling_progress=1)


@scheme(
    formula="x = lam x_i + (1-lam) x_j, labels too, lam ~ Beta",
    source="Zhang et al. 2018",
    grid={"alpha": (0.2, 0.5, 1)},
)
def mixup(
    context: ArmContext,
    *,
    alpha: MixingAlpha = 1.0,
    off: BelowOne = 0.0,
    weights: ClassWeights = UNIFORM,
    drw: BelowOne = 0.0,
) -> ArmRow:
    """Pairs of examples are mixed.

    alpha: of the mixing factors' Beta(alpha, alpha); 1 is uniform from 0 to 1, small values hardly
        mix.
    off: share of the epochs, at the end, without mixing, e.g. 0.1; at least one if above 0.
    """
    return _row(context, weights, drw, mixup_alpha=alpha, mixing_until=_mixed_epochs(context, off))


@scheme(
    formula="mixup; the label is the rarer one's if n_i/n_j >= kappa and lam < tau",
    source="Chou et al. 2020",
    grid={"alpha": (0.2, 0.5, 1)},
)
def remix(
    context: ArmContext,
    *,
    alpha: MixingAlpha = 1.0,
    kappa: AtLeastOne = 3.0,
    tau: Fraction = 0.5,
    off: BelowOne = 0.0,
    weights: ClassWeights = UNIFORM,
    drw: BelowOne = 0.0,
) -> ArmRow:
    """Mixup whose labels favour the rarer class.

    alpha: as in mixup.
    kappa: how many times as frequent one class has to be for labels to favour the other.
    tau: mixing factor of the frequent class's example below which they do.
    off: as in mixup.
    """
    return _row(
        context,
        weights,
        drw,
        mixup_alpha=alpha,
        mixing_until=_mixed_epochs(context, off),
        remix_kappa=kappa,
        remix_tau=tau,
        class_counts=context.class_counts,
    )


# Two stages --------------------------------------------------------------------------------------


@scheme(
    formula="uniform, then features frozen, head drawn anew, p_c = 1/K",
    source="Kang et al. 2020",
    kind="two_stage",
    needs_head=True,
)
def crt(
    context: ArmContext,
    *,
    epochs: StageLength = 0.2,
    min_steps: Steps = STAGE_STEPS,
    second_lr: Positive = 1.0,
) -> ArmRow:
    """Classifier re-training: a second stage trains a new head alone.

    epochs: length of the second stage, in first stages.
    min_steps: optimiser steps that it has at least.
    second_lr: factor of its learning rate, besides lr.
    """
    return _two_stage_row(context, SECOND_STAGE_CRT, second_lr)


@scheme(
    formula="uniform, then all frozen but one scale per class, p_c = 1/K",
    source="Kang et al. 2020",
    kind="two_stage",
)
def lws(
    context: ArmContext,
    *,
    epochs: StageLength = 0.2,
    min_steps: Steps = STAGE_STEPS,
    second_lr: Positive = 1.0,
) -> ArmRow:
    """Learnable weight scaling: a second stage trains one factor per class alone.

    epochs: length of the second stage, in first stages.
    min_steps: optimiser steps that it has at least.
    second_lr: factor of its learning rate, besides lr.
    """
    return _two_stage_row(context, SECOND_STAGE_LWS, second_lr)


@scheme(
    formula="uniform with weight decay, then features frozen, w_y CE, ||class vector|| <= max_norm",
    source="Alshammari et al. 2022",
    kind="two_stage",
    needs_head=True,
    weight_decay=5e-3,
    grid={"max_norm": (0.5, 1, 2)},
)
def weight_balancing(
    context: ArmContext,
    *,
    max_norm: Positive = 1.0,
    epochs: StageLength = 0.2,
    min_steps: Steps = STAGE_STEPS,
    second_lr: Positive = 1.0,
    weights: ClassWeights = LDAM_WEIGHTS,
) -> ArmRow:
    """Weight decay in both stages keeps class vectors alike; the second bounds their length too.

    max_norm: largest length of a class vector in the second stage.
    epochs: length of the second stage, in first stages.
    min_steps: optimiser steps that it has at least.
    second_lr: factor of its learning rate, besides lr.

    Tune weight_decay and max_norm. In the authors' code the second stage has a weight decay of its
    own, and the bound lies between the shortest and the longest class vector of the first stage.
    """
    row = _two_stage_row(context, SECOND_STAGE_SAME, second_lr)
    row = replace(row, second_stage_exponent=1, second_stage_max_norm=max_norm)
    fields = _class_weight_fields(context, _weights_of(weights, context), 0.0)
    return replace(row, **(fields | {"deferred_from": context.num_epochs} if fields else {}))


@scheme(formula="w_c = 1, for more epochs", source="", kind="longer")
def long_uniform(
    context: ArmContext, *, epochs: StageLength = 0.2, min_steps: Steps = STAGE_STEPS
) -> ArmRow:
    """Plain cross-entropy for as long as an arm of two stages: is it the method, or the training?

    epochs: how much longer, in first stages.
    min_steps: optimiser steps that it is longer at least.
    """
    return uniform_row(context.num_classes)


# What schemes share ------------------------------------------------------------------------------


def weighted_row(context: ArmContext, weights: np.ndarray, drw: float = 0.0) -> ArmRow:
    """The row of a class-weight scheme.

    Args:
        context: of the run.
        weights: float `[num_classes]`, at least 0 and not all 0; normalised here.
        drw: share of the epochs in which all weights stay 1, in [0, 1).
    """
    weights = formulas.normalize(weights, context.weight_counts, context.normalization)
    return replace(uniform_row(context.num_classes), **_class_weight_fields(context, weights, drw))


def _class_weight_fields(context: ArmContext, weights: np.ndarray, drw: float) -> dict[str, Any]:
    """Row fields of class weights that act after the share drw of the epochs; none if all are 1."""
    if np.all(weights.astype(np.float32) == 1):
        return {}  # so that the row equals the unweighted one, and is recognised as such
    return {"class_weights": weights, "deferred_from": _deferred_epoch(context, drw)}


def _row(context: ArmContext, weights: Arm, drw: float, **fields: Any) -> ArmRow:
    """The neutral row with these fields, and class weights by another scheme."""
    weight_fields = _class_weight_fields(context, _weights_of(weights, context), drw)
    return replace(uniform_row(context.num_classes), **fields, **weight_fields)


def _mixed_epochs(context: ArmContext, off: float) -> int:
    """How many epochs have mixing, where the share `off` at the end has none."""
    return context.num_epochs - max(1, round(off * context.num_epochs)) if off > 0 else NEVER


def _deferred_epoch(context: ArmContext, share: float) -> int:
    """`round(share·E)`, or earlier: what begins there has `STAGE_STEPS` steps or half of the run.

    Args:
        context: of the run; E is its number of epochs.
        share: of the epochs that come before, in [0, 1).
    """
    length = math.ceil(min(STAGE_STEPS / context.steps_per_epoch, context.num_epochs / 2))
    return min(round(share * context.num_epochs), context.num_epochs - length)


def _weights_of(arm: Arm, context: ArmContext) -> np.ndarray:
    """Class weights of an arm that is the value of another's `weights=`."""
    row: ArmRow = SCHEMES[arm.scheme].function(context, **arm.own_settings)
    weights: np.ndarray = row.class_weights
    return weights


def _log_prior(context: ArmContext) -> np.ndarray:
    log_prior: np.ndarray = np.log(context.class_counts / context.class_counts.sum())
    return log_prior


def _two_stage_row(context: ArmContext, second_stage_head: int, second_lr: float) -> ArmRow:
    return replace(
        uniform_row(context.num_classes),
        second_stage_from=context.num_epochs,
        second_stage_head=second_stage_head,
        second_stage_exponent=0,
        second_stage_rate=second_lr,
    )
