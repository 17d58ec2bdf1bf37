"""Which arms act through class weights alone, as they must where an estimator is trained."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from cwjax.arms.arm import NULL_CONTROL, SCHEMES, Arm, ArmContext, scheme
from cwjax.arms.grammar import ALL, STANDARD
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
    if SCHEMES[arm.scheme].needs_head:
        _refuse(arm, "needs the head of a network")


def _refuse(arm: Arm, reason: str) -> None:
    raise ConfigError(
        f"arm {str(arm)!r} {reason}, which an estimator does not have: with --model estimator: "
        "give class weights (cwjax compare --list-arms) and posthoc_logit_adjusted"
    )


@contextmanager
def whole_estimator_arms(names: Sequence[str]) -> Iterator[None]:
    """Within it each name is an arm of its own, without weights, for a whole estimator.

    Args:
        names: of the arms.

    Raises:
        ConfigError: a name that is none, or that of a scheme.
    """
    for name in names:
        if name in SCHEMES or name in (ALL, STANDARD, NULL_CONTROL):
            raise ConfigError(f"arms has {name!r}, which is a scheme's name: give it another")
        if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
            raise ConfigError(f"arms has {name!r}: give names of letters, digits and _")
    for name in names:

        def whole(context: ArmContext) -> ArmRow:
            return uniform_row(context.num_classes)

        whole.__name__ = name
        scheme(formula="an estimator as it is", source="", kind="training")(whole)
    try:
        yield
    finally:
        for name in names:
            SCHEMES.pop(name, None)
