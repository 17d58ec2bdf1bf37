"""Arms without training of their own: the uniform arm's logits, adjusted after the fact.

Where tau is not given it is chosen on the grid by the balanced accuracy on validation, the smallest
of equals, never on test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np

from cwjax.arms.arm import SCHEMES, Arm, scheme, schemes_in_order
from cwjax.arms.settings import Range

LOGIT_ADJUSTMENT_GRID = np.arange(31) / 10  # 0 to 3
TAU_NORM_GRID = np.arange(21) / 10  # 0 to 2, that of the authors' code

ChosenTau = Annotated[float | None, Range(0, 10)]  # None: chosen on validation


@dataclass(frozen=True, eq=False)
class RunOutputs:
    """What a finished run of the uniform arm has stored."""

    test_logits: np.ndarray  # float32 [num_test, num_classes]
    validation_logits: np.ndarray  # float32 [num_validation, num_classes]
    validation_labels: np.ndarray  # int [num_validation]
    head_kernel: np.ndarray  # float32 [num_features, num_classes]
    head_bias: np.ndarray  # float32 [num_classes]
    class_counts: np.ndarray  # int64 [num_classes], each at least 1


class Adjustment(NamedTuple):
    """What a post-hoc arm makes of logits, class by class: `(z - shift) / divisor`."""

    shift: np.ndarray  # float64 [num_classes]
    divisor: np.ndarray  # float64 [num_classes]

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """Adjusted logits, float64."""
        # At tau = 0 tau_norm takes the bias from logits that it was added to.
        adjusted: np.ndarray = (logits.astype(np.float64) - self.shift) / self.divisor
        return adjusted


class Adjusted(NamedTuple):
    """The logits of a post-hoc arm."""

    test_logits: np.ndarray  # float32 [num_test, num_classes]
    validation_logits: np.ndarray  # float32 [num_validation, num_classes]
    chosen: dict[str, float]  # settings that were chosen on validation
    adjustment: Adjustment | None = None  # what made them; None: unknown, so not for new inputs


@scheme(formula="argmax z - tau log pi", source="Menon et al. 2021", kind="post_hoc")
def posthoc_logit_adjusted(outputs: RunOutputs, *, tau: ChosenTau = None) -> Adjusted:
    """The prior of the training split is taken out of the logits.

    tau: factor of the log prior; without it each run takes the best on its validation examples.
    """
    log_prior = np.log(outputs.class_counts / outputs.class_counts.sum())
    ones = np.ones_like(log_prior)
    return _adjusted(
        outputs, lambda tau: Adjustment(tau * log_prior, ones), tau, LOGIT_ADJUSTMENT_GRID
    )


@scheme(
    formula="class vectors w_c / |w_c|^tau, no bias",
    source="Kang et al. 2020",
    kind="post_hoc",
    needs_head=True,
)
def tau_norm(outputs: RunOutputs, *, tau: ChosenTau = None) -> Adjusted:
    """Class vectors, which are longer for frequent classes, are brought nearer to one length.

    tau: 0 leaves them as they are, 1 makes them equal; without it each run takes the best on its
    validation examples.
    """
    # z = f·W + b, so `(z_c − b_c) / ‖w_c‖^τ` are the logits without the features being needed. A
    # class vector of length 0 has logit 0 whatever tau.
    norms = np.linalg.norm(outputs.head_kernel.astype(np.float64), axis=0)
    norms = np.where(norms == 0, 1, norms)
    bias = outputs.head_bias.astype(np.float64)
    return _adjusted(outputs, lambda tau: Adjustment(bias, norms**tau), tau, TAU_NORM_GRID)


def apply_post_hoc(arm: Arm, outputs: RunOutputs) -> Adjusted:
    """The logits of a post-hoc arm, from the uniform arm's run of the same seed.

    Raises:
        ValueError: the arm is trained, or a logit is not finite.
    """
    if arm.kind != "post_hoc":
        raise ValueError(f"{arm} is trained; post hoc are only {_post_hoc_names()}")
    if not (
        np.isfinite(outputs.test_logits).all() and np.isfinite(outputs.validation_logits).all()
    ):
        raise ValueError(f"{arm} needs finite logits: leave diverged runs out")
    adjusted: Adjusted = SCHEMES[arm.scheme].function(outputs, **dict(arm.settings))
    return adjusted


def _post_hoc_names() -> str:
    return ", ".join(entry.name for entry in schemes_in_order("post_hoc"))


def _adjusted(
    outputs: RunOutputs,
    adjustment: Callable[[float], Adjustment],
    tau: float | None,
    grid: np.ndarray,
) -> Adjusted:
    chosen = {}
    if tau is None:
        scores = [
            _balanced_accuracy(
                adjustment(candidate)(outputs.validation_logits), outputs.validation_labels
            )
            for candidate in grid
        ]
        tau = float(grid[np.argmax(scores)])
        chosen = {"tau": tau}
    made = adjustment(tau)
    return Adjusted(
        made(outputs.test_logits).astype(np.float32),
        made(outputs.validation_logits).astype(np.float32),
        chosen,
        made,
    )


def _balanced_accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean recall over the classes that are present."""
    counts = np.bincount(labels)
    hits = np.bincount(labels, weights=logits.argmax(axis=1) == labels)
    return float(np.mean(hits[counts > 0] / counts[counts > 0]))
