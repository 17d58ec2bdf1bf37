"""What is concluded about one comparison: the first case that matches. Facts, no sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cwjax.analysis.intervals import Interval
from cwjax.analysis.paired import Judged

Key = Literal[
    "refused",
    "identical",
    "no_randomness",
    "too_few_seeds",
    "better",
    "worse",
    "equivalent",
    "suggestive",
    "no_detectable_difference",
]

Claim = Literal["new_test_sets", "this_test_set", "new_splits"]

Size = Literal["more_than", "less_than", "unresolved"]


@dataclass(frozen=True)
class Verdict:
    """What is concluded about one comparison."""

    key: Key
    claim: Claim | None = None
    """Whether a better or worse arm is so on test sets like this one, on this one only, or on new
    splits of the same data."""
    size: Size | None = None
    """A better or worse arm's difference beside the smallest effect of interest, if given."""
    fragile_without: int | None = None
    """The seed without which a better or worse arm's interval would hold 0, if there is one."""


def decide(
    judged: Judged | None,
    *,
    higher_is_better: bool = True,
    smallest_effect: float | None = None,
    new_test_sets: Interval | None = None,
    splits_are_new: bool = False,
    deterministic: bool = False,
) -> Verdict:
    """Apply the rule, case by case, in its order.

    Args:
        judged: None for a comparison that is refused: a run diverged or failed, and no rule says
            how to count it.
        higher_is_better: of the metric.
        smallest_effect: the smallest difference that would matter, in the unit of the scores.
            Without it nothing is said about equivalence or size.
        new_test_sets: the interval over new seeds and new test examples at the simultaneous level;
            None where the metric has none.
        splits_are_new: whether each seed has a test set of its own, as in `resampled`: the seed
            interval then holds for new splits of the same data.
        deterministic: whether both arms predict the same on every seed, so that n is 1.
    """
    if judged is None:
        return Verdict("refused")
    if judged.status == "identical":
        return Verdict("identical")
    if deterministic:
        return Verdict("no_randomness")
    if judged.status == "too_few_seeds":
        return Verdict("too_few_seeds")
    if judged.decided:
        key: Key = "better" if (judged.sign > 0) == higher_is_better else "worse"
        return Verdict(
            key,
            _claim(judged, new_test_sets, splits_are_new),
            None if smallest_effect is None else _size(judged, smallest_effect),
            judged.fragile_without,
        )
    if smallest_effect is not None and judged.interval and judged.interval.inside(smallest_effect):
        return Verdict("equivalent")
    return Verdict("suggestive" if judged.decided_alone else "no_detectable_difference")


def _claim(judged: Judged, new_test_sets: Interval | None, splits_are_new: bool) -> Claim:
    """New test sets need an interval that excludes 0, on the side that was decided."""
    if splits_are_new:
        return "new_splits"
    if new_test_sets is None:
        return "this_test_set"
    nearest = new_test_sets.ci_low if judged.sign > 0 else -new_test_sets.ci_high
    return "new_test_sets" if nearest > 0 else "this_test_set"


def _size(judged: Judged, smallest_effect: float) -> Size:
    if judged.beyond(smallest_effect):
        return "more_than"
    inside = judged.interval is not None and judged.interval.inside(smallest_effect)
    return "less_than" if inside else "unresolved"
