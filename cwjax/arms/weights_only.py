"""Which arms act through class weights alone, as they must where an estimator is trained."""

from __future__ import annotations

import numpy as np

from cwjax.arms.arm import Arm
from cwjax.arms.row import ArmRow, uniform_row
from cwjax.errors import ConfigError

_IGNORED = ("class_weights", "input_fill", "input_mean", "input_scale")
"""Fields of a row that an estimator's run uses."""

_REASONS = {
    "deferred_from": "puts class weights off until a later epoch",
    "sampling_exponent": "draws the examples of every epoch anew",
    "sampling_progress": "draws the examples of every epoch anew",
    "mixup_alpha": "mixes examples in every batch",
    "second_stage_from": "trains in two stages",
    "normalized_head": "changes the head of a network",
    "learning_rate_factor": "changes a network's learning rate",
    "weight_decay": "decays a network's parameters",
}
"""What an arm does whose field differs from the neutral row's; the other fields change the loss."""


def check_arm(arm: Arm, row: ArmRow) -> None:
    """Checks that an arm is nothing but class weights.

    Args:
        arm: trained, not post-hoc.
        row: its own, of any seed.

    Raises:
        ConfigError: it is more; one line that says what.
    """
    neutral = uniform_row(len(row.class_weights))._asdict()
    changed = [
        name
        for name, leaf in row._asdict().items()
        if name not in _IGNORED and not np.array_equal(leaf, neutral[name])
    ]
    if changed:
        # class_counts is read by mixing alone, and the plainest reason is given first.
        name = next((each for each in _REASONS if each in changed), "")
        _refuse(arm, _REASONS.get(name, "changes the loss"))


def check_post_hoc_arm(arm: Arm) -> None:
    """Checks that a post-hoc arm is computed from logits alone.

    Raises:
        ConfigError: it needs the head of a network.
    """
    if arm.scheme == "tau_norm":
        _refuse(arm, "needs the head of a network")


def _refuse(arm: Arm, reason: str) -> None:
    raise ConfigError(
        f"arm {str(arm)!r} {reason}, which an estimator does not have: with --model estimator: "
        "give class weights (cwjax compare --list-arms) and posthoc_logit_adjusted"
    )
