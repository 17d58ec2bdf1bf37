"""The joint test against scipy, against enumeration, and the properties it promises."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from cwjax.analysis.paired import (
    Differences,
    boundaries,
    can_reject,
    judge_family,
)


def family(rows, seeds=None):
    """Comparisons from rows of differences, NaN where a comparison lacks the seed."""
    seeds = seeds or range(max(map(len, rows), default=0))
    return [
        Differences({s: float(d) for s, d in zip(seeds, row, strict=True) if not np.isnan(d)})
        for row in rows
    ]


def judged(rows, **settings):
    return judge_family(family(rows), **settings).comparisons


def enumerated(rows):
    """Step-down max-T, flip by flip: raw and adjusted p, and the sorted largest |t|."""
    rows = np.asarray(rows, np.float64)

    def t(signs):
        flipped = rows * signs
        present = ~np.isnan(flipped)
        n = present.sum(axis=1)
        return np.abs(np.nanmean(flipped, axis=1)) / np.nanstd(flipped, axis=1, ddof=1) * n**0.5

    flips = np.array([t(np.array(s)) for s in itertools.product((1, -1), repeat=rows.shape[1])])
    observed, above = flips[0], 1 - 1e-9
    raw = (flips >= observed * above).mean(axis=0)
    adjusted, largest, left = np.empty(len(rows)), 0.0, list(np.argsort(-observed))
    while left:
        share = (flips[:, left].max(axis=1) >= observed[left[0]] * above).mean()
        largest = max(largest, share)
        adjusted[left.pop(0)] = largest
    return raw, adjusted, np.sort(flips.max(axis=1))[::-1]


@pytest.mark.parametrize("n", [6, 8, 10])
def test_one_comparison_agrees_with_scipy(n):
    d = np.random.default_rng(n).normal(0.5, 1, n)
    expected = scipy.stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=False
    )
    [one] = judged([d])
    assert one.p == one.p_raw == pytest.approx(expected.pvalue, abs=1e-12)
    reference = scipy.stats.ttest_1samp(d, 0)
    assert one.t == pytest.approx(abs(reference.statistic))
    alone = reference.confidence_interval()
    assert one.interval_alone.ci_low == pytest.approx(alone.low)
    assert one.interval_alone.ci_high == pytest.approx(alone.high)


def test_many_seeds_agree_with_scipy_within_sampling_error():
    d = np.random.default_rng(3).normal(0.4, 1, 30)
    expected = scipy.stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=200_000, batch=10_000,
        vectorized=True, rng=np.random.default_rng(0),
    ).pvalue  # fmt: skip
    assert judged([d])[0].p == pytest.approx(expected, abs=4 * np.sqrt(expected / 60_000))


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_step_down_agrees_with_enumeration(seed, ragged):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(4, 9)) + rng.normal(size=9) + np.array([[1.6], [0.9], [0.3], [0]])
    if ragged:  # unequal n: |t| is what is compared
        rows[0, [2, 5]] = rows[2, 8] = np.nan
    raw, adjusted, largest = enumerated(rows)
    result = judge_family(family(rows))
    np.testing.assert_allclose([j.p_raw for j in result.comparisons], raw, atol=1e-12)
    np.testing.assert_allclose([j.p for j in result.comparisons], adjusted, atol=1e-12)
    # c: the smallest value that less than 5% of the flips exceed.
    place = int(np.ceil(0.05 * largest.size)) - 1
    assert result.critical_value == pytest.approx(largest[place], rel=1e-9)
    for j in result.comparisons:
        n = len(j.seeds)
        assert j.critical_value == max(result.critical_value, scipy.stats.t.ppf(0.975, n - 1))
        half = j.critical_value * j.difference_std / n**0.5
        if not j.step_down_only:
            assert j.interval.ci_low == pytest.approx(j.difference - half)
            assert j.interval.ci_high == pytest.approx(j.difference + half)
            assert j.decided == j.interval.excludes_zero == (j.t > j.critical_value)


def test_the_critical_value_and_p_agree():
    """Just above c a comparison is decided, just below it is not."""
    rng = np.random.default_rng(0)
    others, noise = rng.normal(size=(3, 10)), rng.normal(size=10)

    def first(shift):
        return judged([noise + shift, *others])[0]

    low, high = 0.0, 5.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if first(middle).decided else (middle, high)
    below, above = first(low), first(high)
    assert not below.interval.excludes_zero
    assert above.interval.excludes_zero
    assert below.p >= 0.05 > above.p
    assert below.t == pytest.approx(below.critical_value)


small = st.integers(-20, 20).map(lambda i: i / 1000)
"""Not exact in binary, and many flips tie."""


@st.composite
def families(draw):
    m, n = draw(st.integers(1, 4)), draw(st.integers(6, 9))
    rows = draw(st.lists(st.lists(small, min_size=n, max_size=n), min_size=m, max_size=m))
    shifts = draw(st.lists(st.integers(0, 20), min_size=m, max_size=m))
    return [[d + shift / 1000 for d in row] for row, shift in zip(rows, shifts, strict=True)]


def facts(judged, scale=1.0):
    def scaled(interval):
        return interval and (interval.ci_low / scale, interval.ci_high / scale)

    return (
        judged.status, judged.p, judged.p_raw, judged.t, judged.critical_value,
        judged.difference / scale, scaled(judged.interval), judged.decided, judged.decided_alone,
        judged.step_down_only, judged.sign, judged.fragile_without,
    )  # fmt: skip


def assert_same(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        assert a == (pytest.approx(b, rel=1e-6, abs=1e-9) if isinstance(b, float | tuple) else b)


@settings(deadline=None, max_examples=60)
@given(families(), st.randoms())
def test_the_order_of_arms_does_not_matter(rows, random):
    order = list(range(len(rows)))
    random.shuffle(order)
    before, after = judged(rows), judged([rows[i] for i in order])
    for place, i in enumerate(order):
        assert_same(facts(after[place]), facts(before[i]))


@settings(deadline=None, max_examples=60)
@given(families(), st.sampled_from([1e-6, 0.37, 100.0]))
def test_scaling_one_arm_changes_nothing(rows, factor):
    before = judge_family(family(rows)).comparisons
    scaled = [Differences({i: factor * d for i, d in enumerate(rows[0])}, scale=factor)]
    after = judge_family(scaled + family(rows[1:])).comparisons
    assert_same(facts(after[0], factor), facts(before[0]))
    for a, b in zip(after[1:], before[1:], strict=True):
        assert_same(facts(a), facts(b))


@settings(deadline=None, max_examples=60)
@given(families())
def test_a_family_never_makes_p_smaller_than_alone(rows):
    together = judged(rows)
    for row, joint in zip(rows, together, strict=True):
        [alone] = judged([row])
        assert alone.status == joint.status
        if joint.p is not None:
            assert joint.p >= alone.p - 1e-12
            assert joint.p_raw == pytest.approx(alone.p_raw, abs=1e-12)
            assert joint.decided <= alone.decided


@settings(deadline=None, max_examples=60)
@given(families())
def test_swapping_the_two_arms_mirrors_everything(rows):
    for a, b in zip(judged(rows), judged(-np.array(rows)), strict=True):
        assert (a.p, a.decided, a.sign, a.fragile_without) == (
            b.p, b.decided, -b.sign, b.fragile_without)  # fmt: skip
        if a.interval:
            assert a.interval.ci_low == pytest.approx(-b.interval.ci_high, abs=1e-12)


def test_many_comparisons_need_no_more_seeds():
    """Holm's floor for 18 comparisons is 10 seeds; jointly 8 seeds decide nine clear arms."""
    rng = np.random.default_rng(1)
    baseline = rng.normal(size=8)
    rows = rng.normal(size=(18, 8)) - baseline + np.repeat([3.5, 0], 9)[:, None]
    assert sum(j.decided for j in judged(rows)) >= 8


def test_arms_that_cannot_be_decided_take_no_power():
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(3, 12)) + np.array([[1.2], [0.6], [0]])
    alone = judged(rows)
    # Each of these would otherwise hold the largest |t| in at least 2 of every 32 flips.
    five_seeds = Differences({i: 1.0 + 0.001 * i for i in range(100, 105)})
    five_differ = Differences({i: 1.0 if i < 5 else 0.0 for i in range(12)})
    identical = Differences(dict.fromkeys(range(12), 1e-17))
    none = Differences({})
    together = judge_family([five_seeds, five_differ, *family(rows), identical, none])
    assert [facts(j) for j in together.comparisons[2:5]] == [facts(j) for j in alone]
    states = [together.comparisons[i].status for i in (0, 1, 5, 6)]
    assert states == ["too_few_seeds", "judged", "identical", "too_few_seeds"]
    few, few_differ, same, empty = (together.comparisons[i] for i in (0, 1, 5, 6))
    assert few.interval is None
    assert few.interval_alone.ci_low > 0.9
    assert few.p is None
    assert few_differ.p == 2 / 2**5  # of its own flips
    assert not few_differ.decided
    assert not few_differ.interval.excludes_zero
    assert same.difference == 0
    assert empty.difference is None


def test_smallest_number_of_seeds():
    assert [can_reject(n, 0.05) for n in (5, 6, 7)] == [False, True, True]
    assert not can_reject(6, 0.03)
    assert not can_reject(7, 2 / 2**7)  # p below α, not at it
    assert not can_reject(5, 0.5)  # however low the confidence
    assert [j.status for j in judged([[0.1, 0.2, 0.3, 0.2, 0.1]])] == ["too_few_seeds"]
    assert judged([[0.1] * 6], confidence=0.98)[0].status == "too_few_seeds"


def test_equal_differences_are_judged():
    # 0.93 - 0.83 and 0.91 - 0.81 differ in the last bit only.
    d = [0.93 - 0.83, 0.91 - 0.81] * 5
    [ten] = judged([d])
    assert len(set(d)) == 2
    assert ten.status == "judged"
    assert ten.p == 2 / 2**10
    assert ten.decided
    assert ten.t is None
    assert ten.interval.ci_low == ten.interval.ci_high == pytest.approx(0.1)
    assert ten.fragile_without is None
    with_others = judged([d, *np.random.default_rng(0).normal(size=(4, 10))])[0]
    assert with_others.decided
    assert with_others.p == 2 / 2**10  # no other flip reaches an infinite t


def test_step_down_interval_ends_at_zero():
    """The second arm is decided only because the first is: its bound is 0, not beyond it."""
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(2, 12))
    clear = noise[0] + 6
    found = 0
    for shift in np.linspace(0.3, 1.5, 100):
        for sign in (1, -1):
            _, second = judged([clear, sign * (noise[1] + shift)])
            if second.step_down_only:
                found += 1
                alone = judged([sign * (noise[1] + shift)])[0]
                assert second.decided
                assert second.p < 0.05
                assert second.t <= second.critical_value
                edge = second.interval.ci_low if sign > 0 else second.interval.ci_high
                assert edge == 0
                assert second.p == pytest.approx(alone.p)
                assert not second.interval.excludes_zero
    assert found


def test_fragile_names_the_seed_that_decides():
    robust = np.array([1.0, 1.1, 0.9, 1.2, 0.8, 1.0, 1.1, 0.9])
    assert judged([robust])[0].fragile_without is None
    fragile = np.array([0.5, 0.7, 0.1, 0.6, -0.1, 0.9, 0.4, 0.05])
    [verdict] = judge_family(family([fragile], seeds=range(10, 18))).comparisons
    assert verdict.decided
    assert verdict.fragile_without is not None
    without = np.delete(fragile, verdict.fragile_without - 10)
    # By hand: the same c, one seed less. It is the seed whose removal leaves the smallest |t|.
    c = judge_family(family([fragile])).critical_value
    half = max(c, scipy.stats.t.ppf(0.975, 6)) * scipy.stats.sem(without)
    assert abs(without.mean()) <= half
    t = [abs(scipy.stats.ttest_1samp(np.delete(fragile, i), 0).statistic) for i in range(8)]
    assert np.argmin(t) == verdict.fragile_without - 10


def test_undecided_comparisons_are_never_fragile():
    assert judged([np.random.default_rng(0).normal(size=10)])[0].fragile_without is None


def test_a_stricter_look_changes_what_decides_and_not_what_is_known_alone():
    d = np.random.default_rng(4).normal(0.75, 1, 12)
    [usual], [strict] = judged([d]), judged([d], alpha=0.05 / 30)
    assert usual.decided
    assert not strict.decided
    assert strict.decided_alone  # at the nominal level
    assert usual.p == strict.p
    assert strict.interval.ci_high > usual.interval.ci_high
    assert strict.interval.confidence == pytest.approx(1 - 0.05 / 30)
    assert strict.interval_alone == usual.interval_alone


def test_seeds_are_aligned_across_arms():
    """Shifting one arm's seeds changes the joint distribution, and only that."""
    rng = np.random.default_rng(8)
    shared = rng.normal(size=12)
    rows = shared + 0.05 * rng.normal(size=(2, 12)) + 0.9
    aligned = judge_family(family(rows))
    apart = judge_family(
        [Differences(dict(enumerate(rows[0]))), Differences(dict(enumerate(rows[1], 12)))],
        log2_flips=16,
    )
    # Two arms that always agree are nearly one; two independent ones are two.
    assert aligned.comparisons[0].p == pytest.approx(aligned.comparisons[0].p_raw, rel=0.15)
    assert apart.comparisons[0].p > 1.6 * apart.comparisons[0].p_raw
    permuted = judge_family(
        [Differences(dict(reversed(list(enumerate(row))))) for row in rows]
    )  # the order in which seeds are given
    assert permuted == aligned


def test_facts_are_plain_json():
    rows = [[0.1] * 8, [0.0] * 8, [0.1, 0.3, 0.2, 0.4, 0.1, 0.2, 0.1, 0.5]]
    text = json.dumps([dataclasses.asdict(j) for j in judged(rows)], allow_nan=False)
    assert json.loads(text)[0]["t"] is None


def test_boundaries_of_one_look_are_a_quantile():
    maxima = np.arange(100) / 100
    assert boundaries([maxima], [0.05]) == [0.95]  # 4 of 100 above: below 5%, not at it
    assert boundaries([maxima], [0.051]) == [0.94]
    assert boundaries([maxima], [0.001]) == [0.99]


def test_differences_between_scores_know_their_scale():
    tiny = Differences.between([3, 5], [1e-15, 2e-15], [2e-15, 2e-15])
    assert tiny.by_seed == {3: 1e-15, 5: 0}
    assert tiny.on([5, 3]).num_nonzero == 1
    # 0.3 - (0.1 + 0.2) is a rounding error beside scores of that size, and none beside 1e-16.
    rounding = Differences.between(range(8), [0.1 + 0.2] * 8, [0.3] * 8)
    assert judge_family([rounding]).comparisons[0].status == "identical"
    assert Differences.between([0], [0.0], [0.0]).scale == 1
    with pytest.raises(ValueError, match="1 seeds, 2 and 2 scores"):
        Differences.between([0, 0], [1, 2], [3, 4])


def test_differences_that_cancel_have_no_sign():
    [cancelling] = judged([[0.0, 0.0, 0.0, 0.003, 0.008, -0.011, 0.1 + 0.2, -0.3]])
    assert cancelling.difference == cancelling.sign == cancelling.t == 0


def test_bad_differences_raise():
    with pytest.raises(ValueError, match="not finite"):
        Differences({0: float("nan")})
    with pytest.raises(ValueError, match="scale is 0"):
        Differences({0: 1.0}, scale=0)
