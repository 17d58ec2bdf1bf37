"""What comparisons are judged by. NumPy only: settings are checked by it before anything starts."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cwjax.analysis.metrics import METRICS, Metric
from cwjax.config import CONFIDENCE_LIMITS, AnalysisConfig, Policy
from cwjax.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What is fixed before the runs.

    Raises:
        ConfigError: a setting that cannot be used.
    """

    metric: Metric = METRICS["balanced_accuracy"]
    smallest_effect: float | None = None
    """The smallest difference that would matter, in the unit of the scores; without it nothing is
    said about equivalence or size."""
    confidence: float = 0.95
    """1 - α: of each seed interval, and α is the error rate of the whole family."""
    diverged: Policy | None = None
    """What to do with runs that have no score; None: refuse a verdict."""
    primary: bool = True
    """A secondary metric is estimated but gets no verdict."""
    num_comparisons: int = 1
    """Size of the family, if it is larger than what is compared at once."""

    def __post_init__(self) -> None:
        effect, limit = self.smallest_effect, 1 if self.metric.is_fraction else math.inf
        if effect is not None and not 0 < effect < limit:
            raise ConfigError(
                f"smallest effect is {effect}: give a number above 0"
                + (
                    ", as a fraction below 1: 0.01 is one percentage point"
                    * self.metric.is_fraction
                )
            )
        low, high = CONFIDENCE_LIMITS
        if not low <= self.confidence <= high:
            raise ConfigError(
                f"confidence is {self.confidence}: give a number from {low} to {high}"
            )
        if self.num_comparisons < 1:
            raise ConfigError(f"num_comparisons is {self.num_comparisons}: give at least 1")
        if self.primary and self.diverged == "worst-score" and self.metric.worst is None:
            raise ConfigError(f"{self.metric.title} has no worst score: say drop-pair instead")


def rules_for(analysis: AnalysisConfig, metric: str) -> Rules:
    """The rules of one metric; only the primary one is held against the smallest effect.

    Raises:
        ConfigError: settings that contradict each other.
    """
    primary = metric == analysis.metric
    return Rules(
        metric=METRICS[metric],
        smallest_effect=analysis.smallest_effect if primary else None,
        confidence=analysis.confidence,
        diverged=analysis.diverged,
        primary=primary,
    )
