"""A scheme: weights that are bounded however rare a class is."""

from __future__ import annotations

import numpy as np

from cwjax.arms.arm import ArmContext, scheme
from cwjax.arms.row import ArmRow
from cwjax.arms.schemes import weighted_row


@scheme(formula="w_c ∝ 1 / log(offset + n_c/N)", source="Paszke et al. 2016", kind="class_weights")
def enet(context: ArmContext, *, offset: float = 1.02) -> ArmRow:
    """Rare classes count more, up to a bound."""
    share = context.weight_counts / context.weight_counts.sum()
    return weighted_row(context, 1 / np.log(offset + share))
