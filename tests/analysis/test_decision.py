"""Every case of the rule, in its order."""

import dataclasses

import numpy as np
import pytest

from cwjax.analysis import decision
from cwjax.analysis.decision import Verdict, decide
from cwjax.analysis.intervals import Interval
from cwjax.analysis.looks import LookPlan, judge_looks
from cwjax.analysis.paired import Differences, judge_family

NOISE = np.array([3, -1, 2, -2, 1, -3, 2, -2, 1, -1]) * 1e-3  # mean 0


def judged(shift, spread=1.0, others=(), n=10):
    rows = [shift + spread * NOISE[:n], *others]
    family = [Differences(dict(enumerate(map(float, row)))) for row in rows]
    return judge_family(family).comparisons[0]


ABOVE, BELOW, ACROSS = Interval(0.01, 0.03, 0.95), Interval(-2, -1, 0.95), Interval(-0.01, 1, 0.95)


def test_without_verdict():
    assert decide(None) == Verdict("refused")
    assert decide(judged(0, spread=0)) == Verdict("identical")
    assert decide(judged(0, spread=0), deterministic=True) == Verdict("identical")
    assert decide(judged(0.01, spread=0), deterministic=True) == Verdict("no_randomness")
    assert decide(judged(0.01, n=5), smallest_effect=1) == Verdict("too_few_seeds")


def test_better_and_worse_with_their_claim():
    up, down = judged(0.02), judged(-0.02)
    assert decide(up, new_test_sets=ABOVE) == Verdict("better", "new_test_sets")
    assert decide(up, new_test_sets=ACROSS) == Verdict("better", "this_test_set")
    assert decide(up, new_test_sets=BELOW) == Verdict("better", "this_test_set")
    assert decide(up) == Verdict("better", "this_test_set")  # the metric has no such interval
    assert decide(up, splits_are_new=True) == Verdict("better", "new_splits")
    assert decide(down, new_test_sets=BELOW) == Verdict("worse", "new_test_sets")
    lower = {"higher_is_better": False}
    assert decide(down, new_test_sets=BELOW, **lower) == Verdict("better", "new_test_sets")
    assert decide(up, new_test_sets=ABOVE, **lower) == Verdict("worse", "new_test_sets")


@pytest.mark.parametrize(
    ("effect", "size"), [(0.01, "more_than"), (0.02, "unresolved"), (0.03, "less_than")]
)
@pytest.mark.parametrize("sign", [1, -1])
def test_size_of_a_decided_difference(effect, size, sign):
    verdict = decide(judged(sign * 0.02), smallest_effect=effect)
    assert verdict == Verdict("better" if sign > 0 else "worse", "this_test_set", size)


def test_equal_differences_are_decided():
    assert decide(judged(0.02, spread=0)).key == "better"


def test_equivalent_needs_the_simultaneous_interval():
    flat = judged(0.0002)
    assert decide(flat) == Verdict("no_detectable_difference")
    assert decide(flat, smallest_effect=0.002) == Verdict("equivalent")
    others = np.random.default_rng(0).normal(size=(10, 10))
    with_others = judged(0.0002, others=others)
    bound = (flat.interval.ci_high + with_others.interval.ci_high) / 2
    assert decide(flat, smallest_effect=bound) == Verdict("equivalent")
    assert decide(with_others, smallest_effect=bound) == Verdict("no_detectable_difference")


def test_suggestive_is_what_the_family_does_not_confirm():
    others = np.random.default_rng(0).normal(size=(10, 10))
    alone, in_family = judged(0.0018), judged(0.0018, others=others)
    assert decide(alone).key == "better"
    assert decide(in_family) == Verdict("suggestive")
    assert decide(in_family, smallest_effect=0.1) == Verdict("equivalent")  # it comes first


def test_fragile_is_passed_on():
    row = [0.5, 0.7, 0.1, 0.6, -0.1, 0.9, 0.4, 0.05]
    [fragile] = judge_family([Differences(dict(enumerate(row)))]).comparisons
    assert decide(fragile).fragile_without == fragile.fragile_without
    assert fragile.fragile_without is not None


def test_planned_looks_are_judged_by_the_same_rule():
    rows = [0.02 + np.tile(NOISE, 2), np.tile(NOISE, 2)]
    state = judge_looks(
        [Differences(dict(enumerate(map(float, row)))) for row in rows],
        range(20),
        LookPlan((8, 20), smallest_effect=0.01),
        1,
    )
    better, flat = (decide(arm.judged, smallest_effect=0.01) for arm in state.arms)
    assert better == Verdict("better", "this_test_set", "more_than")
    assert flat == Verdict("equivalent")


def test_verdicts_are_facts_without_sentences():
    fields = {field.name for field in dataclasses.fields(Verdict)}
    assert fields == {"key", "claim", "size", "fragile_without"}
    assert " " not in "".join(decision.Key.__args__ + decision.Claim.__args__)
