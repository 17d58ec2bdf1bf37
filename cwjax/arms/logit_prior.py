"""Which class prior an arm's logits carry: what has to be known before they meet another one."""

from __future__ import annotations

import numpy as np

from cwjax.arms.posthoc import Adjustment
from cwjax.arms.row import NEVER, ArmRow


def logit_prior(row: ArmRow, class_counts: np.ndarray) -> np.ndarray | None:
    """The prior under which softmax of an arm's test logits is the probability of each class.

    A network that minimises the loss of its last stage on examples that are drawn with class
    probabilities ∝ n_c^q and weighted by w_c has softmax(z + b) ∝ n_c^q w_c p(x | c), so z alone
    carries the prior ∝ n_c^q w_c exp(-b_c): the training's for `uniform`, the uniform one for
    `balanced` and `logit_adjusted`. Focal loss, mixup and equal smoothing change how confident a
    network is as well, so of them it is true approximately.

    Args:
        row: of the run.
        class_counts: int `[num_classes]`, of the training split.

    Returns:
        float64 `[num_classes]` that sums to 1, or None where the loss leads to no prior: margins,
        scaled or cosine logits, bounded class vectors, sampling that changes to the last epoch,
        smoothing and remix that treat classes differently, or a class without examples or weight.

    References:
        Saerens et al. 2002, "Adjusting the Outputs of a Classifier to New a Priori Probabilities";
        Menon et al. 2021, "Long-tail learning via logit adjustment".
    """
    distorted = (
        np.any(row.logit_scale != 1)
        or np.any(row.margin != 0)
        or np.any(row.smoothing != row.smoothing[0])
        or row.normalized_head > 0
        or row.sampling_progress > 0
        or np.isfinite(row.remix_kappa)
        or np.isfinite(row.second_stage_max_norm)
    )
    if distorted or not np.all((row.class_weights > 0) & (class_counts > 0)):
        return None
    two_stages = row.second_stage_from != NEVER
    exponent = row.second_stage_exponent if two_stages else row.sampling_exponent
    log_prior = exponent * np.log(class_counts) + np.log(row.class_weights) - row.logit_bias
    return to_shares(log_prior)


def adjusted_prior(prior: np.ndarray | None, adjustment: Adjustment | None) -> np.ndarray | None:
    """The prior of a post-hoc arm's logits, or None.

    Args:
        prior: of the logits that it is computed from.
        adjustment: what it makes of them.
    """
    if prior is None or adjustment is None or np.any(adjustment.divisor != 1):
        return None
    return to_shares(np.log(prior) - adjustment.shift)


def to_shares(log_shares: np.ndarray) -> np.ndarray:
    """Shares `[num_classes]` that sum to 1, from their logarithms up to a constant."""
    shares = np.exp(np.asarray(log_shares, np.float64) - log_shares.max())
    normalised: np.ndarray = shares / shares.sum()
    return normalised
