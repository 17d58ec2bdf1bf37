"""What a study found, as typed facts: `comparison.json` is this, and every report is made of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cwjax.analysis.family import Comparison
from cwjax.analysis.intervals import Interval
from cwjax.analysis.learning import LateGain
from cwjax.analysis.metrics import Metric
from cwjax.analysis.paired import Judged


@dataclass(frozen=True)
class ScoreSummary:
    """One metric of one arm over the runs that ended well; None where it is undefined."""

    mean: float | None
    std: float | None
    """Standard deviation over seeds; None for a single run."""

    @classmethod
    def of(cls, scores: Sequence[float]) -> ScoreSummary:
        """Of one score per run; undefined without runs, or where a score is NaN."""
        values = np.asarray(scores, np.float64)
        if not (len(values) and np.isfinite(values).all()):
            return cls(None, None)
        return cls(float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None)


@dataclass(frozen=True)
class TuningFacts:
    """What the runs of a tuned arm were chosen from, on validation."""

    tried: dict[str, tuple[float, ...]]
    """Setting -> its values; their product are the candidates of every run."""
    num_candidates: int
    """Of each run."""
    num_bad: int
    """Runs of candidates, over all seeds, that ended without a score."""


@dataclass(frozen=True)
class ArmSummary:
    """The runs of one arm in one cell."""

    cell: str
    arm: str
    num_runs: int
    num_ok: int
    scores: dict[str, ScoreSummary]
    chosen: dict[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    """Settings that were chosen on validation, one value per seed."""
    tuning: TuningFacts | None = None
    """None where the arm is not tuned."""


@dataclass(frozen=True)
class CellFacts:
    """One data set with one imbalance."""

    cell: str
    dataset: str
    imbalance: str
    imbalance_factor: float
    """1 without an imbalance."""
    failures: tuple[str, ...] = ()
    """Each as `arm seed 3: reason`."""
    never_predicted: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Arm -> classes that none of its runs ever predicts; arms without any are left out."""
    num_classes: int = 0
    still_learning: dict[str, LateGain] = dataclasses.field(default_factory=dict)
    """Arm -> what its runs gained at their end; arms without a detectable gain are left out."""


@dataclass(frozen=True)
class BadRunFact:
    """A run that ended without a score."""

    cell: str
    arm: str
    seed: int
    status: str


@dataclass(frozen=True)
class TrendFact:
    """How an arm's difference changes with the imbalance of one data set and profile."""

    dataset: str
    imbalance: str
    treatment: str
    factors: tuple[float, ...]
    seeds: tuple[int, ...]
    slope: float
    """Mean over seeds of the change of the difference per doubling of the imbalance factor."""
    interval: Interval | None
    """Over seeds; None for a single seed."""
    seed_slopes: tuple[float, ...]


@dataclass(frozen=True)
class LookFacts:
    """What was read at one planned look."""

    num_seeds: int
    boundary: float | None
    """|t| that decided; None where none could."""
    decided: tuple[tuple[str, str], ...]
    """(cell, arm) of the comparisons that were decided here."""
    t: tuple[tuple[str, str, float | None], ...]
    """(cell, arm, |t|) of every distinct comparison that still trained."""


@dataclass(frozen=True)
class DesignFacts:
    """When results were read, and how strictly they were judged for it."""

    planned_looks: tuple[int, ...] = ()
    """Numbers of seeds at which results are read, if that was planned."""
    looks: tuple[LookFacts, ...] = ()
    """What was read at those that were taken."""
    times_judged: int = 0
    """How often a study without planned looks was judged with new seeds."""
    alpha: float = 0.05
    """What the adjusted p of this judging is held against."""
    critical_value: float | None = None
    """|t| of the simultaneous intervals."""
    splits_are_new: bool = False
    """Whether every seed draws its own test split, so that `analysis.resampled` judges."""
    num_runs: int = 0
    """Runs that the study needed."""
    num_runs_without_looks: int = 0
    """Runs that all its seeds would have been."""
    num_candidates: int = 0
    """Of these runs, those that are of no arm and that tuned arms are chosen from."""


Situation = Literal["prior", "calibration", "cost", "two_classes"]


@dataclass(frozen=True)
class DeploymentScore:
    """One score of every arm's runs as they would be used elsewhere; from the same logits."""

    cell: str
    situation: Situation
    place: str
    """Of a prior or a cost the name of the class prior, of two classes what is held fixed."""
    how: str
    """What was done with the logits or decisions before."""
    metric: Metric
    summaries: dict[str, ScoreSummary]
    """By arm; an arm of which a run has no such score is left out."""
    differences: dict[str, Judged]
    """By arm, from the baseline; the intervals of all of a cell's scores hold together."""


@dataclass(frozen=True)
class DeploymentFacts:
    """What would change if a cell's models were used elsewhere."""

    cell: str
    priors: dict[str, tuple[float, ...]]
    """Name of each prior asked about -> the shares of the classes, on the first seed."""
    carried: dict[str, str]
    """Arm -> which prior its logits carry: the name of one, `other` or `none`."""
    num_comparisons: int
    """That the intervals hold together for."""
    scores: tuple[DeploymentScore, ...]


@dataclass(frozen=True)
class StudyComparison:
    """Every arm against the baseline, in every cell."""

    metric: Metric
    """The primary one: it alone is judged."""
    confidence: float
    smallest_effect: float | None
    baseline: str
    arms: tuple[str, ...]
    """Baseline first, the A/A control last."""
    seeds: tuple[int, ...]
    family_size: int
    """Comparisons that share one error rate."""
    design: DesignFacts
    num_ok_runs: int
    bad_runs: tuple[BadRunFact, ...]
    cells: tuple[CellFacts, ...]
    summaries: tuple[ArmSummary, ...]
    """Cell by cell, arm by arm."""
    comparisons: tuple[Comparison, ...]
    """On the primary metric."""
    secondary: tuple[Comparison, ...]
    """On every other metric; estimates without a verdict."""
    trends: tuple[TrendFact, ...] = ()

    @property
    def judged(self) -> tuple[Comparison, ...]:
        """The comparisons on the primary metric without A/A controls."""
        return tuple(entry for entry in self.comparisons if not entry.pairing.control)


def join(parts: Sequence[StudyComparison], trends: Sequence[TrendFact] = ()) -> StudyComparison:
    """The parts of a study, one per cell, as one.

    Args:
        parts: at least one, all of one design.
        trends: over the cells.
    """
    return dataclasses.replace(
        parts[0],
        num_ok_runs=sum(part.num_ok_runs for part in parts),
        bad_runs=tuple(run for part in parts for run in part.bad_runs),
        cells=tuple(cell for part in parts for cell in part.cells),
        summaries=tuple(summary for part in parts for summary in part.summaries),
        comparisons=tuple(entry for part in parts for entry in part.comparisons),
        secondary=tuple(entry for part in parts for entry in part.secondary),
        trends=tuple(trends),
    )
