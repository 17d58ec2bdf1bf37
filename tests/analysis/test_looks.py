"""Planned looks against direct enumeration; who stops when; unplanned looks."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import scipy.stats

from cwjax.analysis import looks
from cwjax.analysis.looks import (
    Judging,
    LookPlan,
    conditional_power,
    default_looks,
    first_look,
    judge_again,
    judge_looks,
    judge_merged,
)
from cwjax.analysis.paired import Differences, can_reject, judge_family
from cwjax.errors import ConfigError


def family(rows):
    return [Differences(dict(enumerate(map(float, row)))) for row in rows]


def replay(rows, plan, num_looks=None, **settings):
    rows = np.asarray(rows)
    num_looks = num_looks or len(plan.looks)
    return judge_looks(family(rows), range(rows.shape[1]), plan, num_looks, **settings)


def enumerated_boundaries(rows, sizes, alphas):
    """The definition, over every flip: the smallest b with at most α_k crossed at looks ≤ k."""
    flips = np.array(list(itertools.product((1, -1), repeat=rows.shape[1])))
    flipped = flips[:, None] * rows
    t = np.stack(
        [
            np.abs(scipy.stats.ttest_1samp(flipped[:, :, :n], 0, axis=2).statistic).max(axis=1)
            for n in sizes
        ],
        axis=1,
    )
    result, crossed = [], np.zeros(len(flips), bool)
    for k, alpha in enumerate(alphas):
        # The observed flip and its mirror image are among them; "at most" never holds with equality
        candidates = np.unique(t[:, k].round(9))
        b = next(b for b in candidates if (crossed | (t[:, k] > b + 1e-8)).mean() < alpha)
        crossed |= t[:, k] > b + 1e-8
        result.append(b)
    return result, t[0]


@pytest.mark.parametrize("seed", range(3))
def test_boundaries_agree_with_enumeration(seed):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(2, 10)) + rng.normal(size=10)  # nothing to decide
    plan = LookPlan((7, 8, 10))
    boundaries, _ = enumerated_boundaries(rows, plan.looks, plan.alphas)
    state = replay(rows, plan)
    assert [look.boundary for look in state.looks] == pytest.approx(boundaries, rel=1e-7)
    assert [look.boundary_of_all for look in state.looks] == pytest.approx(boundaries, rel=1e-7)
    assert not any(look.decided for look in state.looks)
    for look, n in zip(state.looks, plan.looks, strict=True):
        expected = np.abs(scipy.stats.ttest_1samp(rows[:, :n], 0, axis=1).statistic)
        assert look.t == pytest.approx(tuple(expected))


def test_decided_arms_leave_and_all_boundaries_are_made_anew():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(3, 10)) + np.array([[8], [0.2], [0]])
    plan = LookPlan((7, 8, 10))
    state = replay(rows, plan)
    assert state.looks[0].decided == (0,)
    assert state.arms[0].decided_at == 7
    # The first arm keeps its seven seeds in the boundary of all, and is out of the others'.
    rest, _ = enumerated_boundaries(rows[1:], plan.looks, plan.alphas)
    assert [look.boundary for look in state.looks[:2]] == pytest.approx(rest[:2], rel=1e-7)
    first = state.arms[0].judged
    assert first.seeds == tuple(range(7))
    d = rows[0, :7]
    half = max(state.looks[0].boundary_of_all, scipy.stats.t.ppf(0.975, 6)) * scipy.stats.sem(d)
    assert first.interval.ci_low == pytest.approx(d.mean() - half)
    assert first.interval.ci_high == pytest.approx(d.mean() + half)


@pytest.mark.parametrize("seed", range(5))
def test_order_and_scale_of_arms_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(4, 30)) + np.array([[1.5], [0.7], [0.4], [0]])
    order, plan = rng.permutation(4), LookPlan(default_looks(30))
    before = replay(rows, plan)
    after = replay(rows[order] * np.array([[1.0], [1e3], [1e-3], [7.0]]), plan)
    for place, i in enumerate(order):
        a, b = after.arms[place], before.arms[i]
        assert (a.decided_at, a.stopped, a.judged.seeds) == (
            b.decided_at,
            b.stopped,
            b.judged.seeds,
        )
        assert a.judged.t == pytest.approx(b.judged.t)
        assert a.judged.critical_value == pytest.approx(b.judged.critical_value)
    boundaries = [look.boundary for look in before.looks]
    assert [look.boundary for look in after.looks] == pytest.approx(boundaries)


def test_one_look_is_the_fixed_design():
    rng = np.random.default_rng(3)
    for n in (8, 20):
        rows = rng.normal(size=(4, n)) + np.array([[2], [0.8], [0.3], [0]])
        fixed = judge_family(family(rows))
        state = replay(rows, LookPlan((n,)))
        for planned, judged in zip(state.arms, fixed.comparisons, strict=True):
            assert dataclasses.replace(planned.judged, p=judged.p, p_raw=judged.p_raw) == judged
            assert (planned.decided_at == n) == judged.decided
        assert state.looks[0].boundary_of_all == fixed.critical_value


def test_a_look_is_the_same_whenever_it_is_replayed():
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(5, 30)) + np.linspace(0, 1.5, 5)[:, None]
    plan = LookPlan(default_looks(30))
    whole = replay(rows, plan)
    for num_looks, n in enumerate(plan.looks, 1):
        then = replay(rows[:, :n], plan, num_looks)
        assert then.looks == whole.looks[:num_looks]
        for early, late in zip(then.arms, whole.arms, strict=True):
            if early.stopped:
                assert early == late
    assert {arm.decided_at for arm in whole.arms} >= {8}
    # Seeds that a stopped arm was given anyhow are not looked at.
    changed = rows.copy()
    changed[4, 10:] = 100.0
    assert whole.arms[4].decided_at <= 10
    assert replay(changed, plan) == whole


def test_who_needs_seeds():
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(2, 20)) + np.array([[5], [0]])
    plan = LookPlan((8, 20))
    after_one = replay(rows, plan, 1)
    assert [arm.needs_seeds for arm in after_one.arms] == [False, True]
    assert [arm.stopped for arm in after_one.arms] == ["decided", None]
    after_all = replay(rows, plan)
    assert [arm.needs_seeds for arm in after_all.arms] == [False, False]
    assert after_all.arms[1].stopped is None


NOISE = np.tile([0.01, -0.02, 0.015, 0.005, -0.012, 0.002, 0.008, -0.009, 0.003, -0.002], 3)


def test_equivalent_and_futile_arms_stop_and_stay_in_the_family():
    effect = 0.05
    plan = LookPlan((8, 10, 15, 20, 30), smallest_effect=effect)
    rng = np.random.default_rng(0)
    noisy = rng.normal(size=30)
    noisy -= noisy[:8].mean() - 0.01  # nothing seen so far, and no hope to see 0.05
    open_ended = 0.06 * rng.normal(size=30) + 0.03
    rows = np.array([NOISE, noisy, open_ended])
    state = replay(rows, plan, 3)
    assert [arm.stopped for arm in state.arms] == ["equivalent", "futile", None]
    assert state.arms[0].judged.interval.inside(effect)
    assert len(state.arms[0].judged.seeds) == 8
    assert len(state.arms[1].judged.seeds) == 8
    assert len(state.arms[2].judged.seeds) == 15
    # They stay in the boundaries, with their own seeds.
    alone = replay(rows[2:], plan, 3)
    assert state.looks[2].boundary > alone.looks[2].boundary
    changed = rows.copy()
    changed[:2, 8:] = 7.0
    assert replay(changed, plan, 3) == state


def test_a_decided_arm_with_an_effect_goes_on_until_its_size_is_resolved():
    plan = LookPlan((8, 10, 15, 20, 30), smallest_effect=0.05)
    clear, near = 0.3 + NOISE, 0.052 + NOISE / 4
    state = replay(np.array([clear, near]), plan, 1)
    assert [arm.stopped for arm in state.arms] == ["decided", None]
    assert [arm.decided_at for arm in state.arms] == [8, 8]
    assert [arm.needs_seeds for arm in state.arms] == [False, True]
    later = replay(np.array([clear, near]), plan)
    assert later.arms[1].decided_at == 8
    assert len(later.arms[1].judged.seeds) > 8
    assert later.arms[1].judged.decided
    assert replay(np.array([clear, near]), LookPlan(plan.looks), 1).arms[1].stopped == "decided"


def test_a_decided_sign_stays():
    plan = LookPlan((8, 30), smallest_effect=0.1)
    row = np.concatenate([0.1 + NOISE[:8], np.full(22, -0.2) + NOISE[8:]])
    state = replay(row[None], plan)
    [arm] = state.arms
    assert arm.decided_at == 8
    assert arm.judged.sign == 1
    assert arm.judged.difference < 0
    # What was decided is not taken back, and no claim is made about size on the other side.
    assert arm.judged.interval.ci_high < 0
    assert arm.stopped is None
    back = replay(np.concatenate([0.1 + NOISE[:8], np.tile([-0.1, 0.1], 11)])[None], plan)
    assert back.arms[0].judged.interval.ci_low == 0
    assert back.arms[0].judged.step_down_only


def test_conditional_power_is_the_chance_that_the_rest_decides():
    rng = np.random.default_rng(0)
    sample = Differences(dict(enumerate(rng.normal(0.1, 1, 10)))).on(range(10))
    n, more, effect = 10, 30, 0.5
    rest = rng.normal(effect, sample.std, (200_000, more)).sum(axis=1)
    z = (sample.values.sum() + rest) / (sample.std * np.sqrt(n + more))
    expected = (z * np.sign(sample.mean) > scipy.stats.t.ppf(1 - 0.01 / 2, n + more - 1)).mean()
    assert conditional_power(sample, effect, more, 0.01) == pytest.approx(expected, abs=0.005)
    assert conditional_power(sample, 1e3, more, 0.01) == pytest.approx(1)
    assert conditional_power(sample, 1e-6, more, 1e-9) < 1e-6


def test_an_arm_with_few_seeds_takes_no_power():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2, 20)) + np.array([[1.0], [0.4]])
    plan = LookPlan((8, 12, 20))
    without = replay(rows, plan)
    few = Differences({i: 1.0 + 0.01 * i for i in range(0, 20, 4)})
    same = Differences(dict.fromkeys(range(20), 0.0))
    state = judge_looks([few, *family(rows), same, Differences({})], range(20), plan, 3)
    assert state.arms[1:3] == without.arms
    states = [state.arms[i].judged.status for i in (0, 3, 4)]
    assert states == ["too_few_seeds", "identical", "too_few_seeds"]
    assert [look.boundary for look in state.looks] == [look.boundary for look in without.looks]


def test_an_arm_that_lacks_a_seed_waits_for_the_look_that_it_can_cross():
    plan = LookPlan((8, 10))
    d = {i: 1.0 + 0.01 * i for i in range(10) if i != 3}
    assert can_reject(7, plan.alphas[0])
    tight = LookPlan((8, 30))
    assert not can_reject(7, tight.alphas[0])
    state = judge_looks([Differences(d)], range(30), tight, 1)
    assert state.arms[0].judged.status == "too_few_seeds"
    assert state.looks[0].boundary is None
    assert state.arms[0].needs_seeds
    assert judge_looks([Differences(d)], range(30), tight, 2).arms[0].decided_at == 30


def test_first_and_default_looks():
    assert default_looks(30) == (8, 10, 15, 20, 30)
    for n in (*range(6, 60), 100, 300, 1000):
        sizes = default_looks(n)
        assert sizes[-1] == n
        assert 1 <= len(sizes) <= 5
        plan = LookPlan(sizes)
        assert all(map(can_reject, sizes, plan.alphas))
        if sizes[0] > 6:
            assert not can_reject(sizes[0] - 1, 0.05 * (sizes[0] - 1) / n)
    assert len(default_looks(20)) == 5
    assert first_look(30, 0.99) == 10
    with pytest.raises(ConfigError, match="5 seeds cannot decide anything: give at least 6"):
        default_looks(5)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((), "ascending"),
        ((10, 8), "ascending"),
        ((8, 8), "ascending"),
        ((7, 30), "look first at 8 or more"),
        ((3,), "3 seeds cannot"),
    ],
)
def test_bad_plans_raise(sizes, message):
    with pytest.raises(ConfigError, match=message):
        LookPlan(sizes)


def test_looks_beyond_the_plan_or_the_seeds_raise():
    rows = np.ones((1, 8))
    with pytest.raises(ValueError, match="the plan has 2"):
        replay(rows, LookPlan((8, 20)), 3)
    with pytest.raises(ValueError, match="8 seeds: look 2 has 20"):
        replay(rows, LookPlan((8, 20)), 2)


def test_states_are_plain_json():
    state = replay(np.array([np.ones(20), NOISE[:20]]), LookPlan((8, 20)))
    text = json.dumps(dataclasses.asdict(state), allow_nan=False)
    assert json.loads(text)["looks"][0]["t"][0] is None


def test_unplanned_looks_become_stricter():
    pilot = judge_again(None, range(2))
    assert pilot.look == 0
    first = judge_again(pilot, range(10))
    assert (first.look, first.alpha) == (1, 0.05)
    assert judge_again(first, range(10)) == first  # added arms judge the same look again
    assert judge_again(first, range(6)) == first
    second = judge_again(first, range(20))
    third = judge_again(second, range(15, 30))
    assert second.alpha == pytest.approx(0.05 / 6)
    assert third.alpha == pytest.approx(0.05 / 12)
    assert third.seeds == frozenset(range(30))
    # Eight seeds could not reach 0.05/12: nothing is spent.
    unspent = judge_again(second, range(20, 28))
    assert unspent.look == 2
    assert unspent.alpha == third.alpha
    assert judge_again(unspent, range(40)).look == 3
    ever = sum(0.05 / (k * (k + 1)) for k in range(2, 10**5)) + 0.05
    assert ever == pytest.approx(0.075, abs=1e-5)


def test_a_merge_is_one_look_more_than_its_parts():
    parts = [Judging(2, 0.05 / 6, frozenset(range(20))), Judging(1, 0.05, frozenset(range(20, 30)))]
    merged = judge_merged(parts, range(30))
    assert merged == Judging(3, pytest.approx(0.05 / 12), frozenset(range(30)))
    assert judge_merged([], range(30)).look == 1


def test_futility_has_a_threshold(monkeypatch):
    plan = LookPlan((8, 30), smallest_effect=0.05)
    rows = np.random.default_rng(0).normal(size=(1, 30))
    rows -= rows[0, :8].mean()
    assert replay(rows, plan, 1).arms[0].stopped == "futile"
    monkeypatch.setattr(looks, "FUTILE_POWER", 0.0)
    assert replay(rows, plan, 1).arms[0].stopped is None
