"""The rule on data whose truth is known: one figure for each promise, printed with -rP.

Tolerances are 3 Monte-Carlo standard errors. Simulated tests use 2,048 or 4,096 flips.
"""

import numpy as np
import pytest
import scipy.stats

from cwjax.analysis.decision import decide
from cwjax.analysis.intervals import Interval
from cwjax.analysis.looks import LookPlan, judge_again, judge_looks
from cwjax.analysis.metrics import METRICS
from cwjax.analysis.new_test_sets import contributions, interval_from
from cwjax.analysis.paired import Differences, judge_family
from cwjax.analysis.resampled import Resampled, judge_resampled

LOOKS = (8, 10, 15, 20, 30)


def cases(quick, thorough, slow=()):
    """Parameters of seconds each, of minutes (`-m exhaustive`), and of seconds that add up."""
    return [
        *quick,
        *(pytest.param(*case, marks=pytest.mark.slow) for case in slow),
        *(pytest.param(*case, marks=pytest.mark.exhaustive) for case in thorough),
    ]


ARMS = cases([], [(1, 1_000), (5, 1_000), (18, 600)], slow=[(5, 300)])


def standard_error(rate, draws):
    return np.sqrt(rate * (1 - rate) / draws)


def draw(rng, shape, kind):
    """Scores of unit variance; differences of two of them are symmetric unless skewed."""
    if kind == "normal":
        return rng.standard_normal(shape)
    if kind == "t3":
        return rng.standard_t(3, shape) / 3**0.5
    if kind == "exponential":
        return rng.exponential(size=shape) - 1
    collapsed = rng.random(shape) < 0.1
    return rng.standard_normal(shape) - 10 * (collapsed - 0.1)


def families(num_draws, m, n, kind="normal", effects=0.0, seed=0):
    """Differences of arms that share a baseline, so that they correlate by 1/2; unit variance.

    Skewed scores are those of the arms only: the baseline's would make differences symmetric.
    """
    rng = np.random.default_rng([seed, m, n])
    baseline_kind = kind if kind in ("normal", "t3") else "normal"
    for _ in range(num_draws):
        scores, baseline = draw(rng, (m, n), kind), draw(rng, n, baseline_kind)
        yield (scores - baseline) / 2**0.5 + np.reshape(effects, (-1, 1))


def family(rows):
    return [Differences(dict(enumerate(row))) for row in rows.tolist()]


def judged(rows, **settings):
    return judge_family(family(rows), log2_flips=11, **settings).comparisons


@pytest.mark.fault(55)
@pytest.mark.parametrize(
    ("m", "n", "kind", "draws"),
    cases(
        [(5, 10, "normal", 1_000)],
        [(m, n, kind, 2_000) for m in (1, 5, 18) for n in (8, 10, 20) for kind in ("normal", "t3")],
        slow=[(18, 10, "t3", 1_000)],
    ),
)
def test_family_wise_error(m, n, kind, draws, record_property):
    error = np.mean([any(j.decided for j in judged(rows)) for rows in families(draws, m, n, kind)])
    record_property("family_wise_error", float(error))
    print(f"m = {m}, n = {n}, {kind}: family-wise error {error:.3f}")
    assert 0.02 < error <= 0.05 + 3 * standard_error(0.05, draws)


@pytest.mark.parametrize(("m", "draws"), cases([], [(5, 2_000), (18, 2_000)], slow=[(5, 1_000)]))
def test_family_wise_error_beside_real_differences(m, draws, record_property):
    real = m // 2
    effects = np.repeat([2.0, 0.0], [real, m - real])
    error = np.mean(
        [any(j.decided for j in judged(rows)[real:])
         for rows in families(draws, m, 12, effects=effects)]
    )  # fmt: skip
    record_property("family_wise_error", float(error))
    print(f"m = {m}, {real} of them real, n = 12: family-wise error {error:.3f}")
    # Step-down spends the whole error on the arms that are left: not much less than 5% either.
    assert 0.025 < error <= 0.05 + 3 * standard_error(0.05, draws)


@pytest.mark.parametrize(
    ("m", "n", "kind", "draws"),
    cases(
        [(5, 8, "normal", 1_000)],
        [(m, n, kind, 1_000) for m in (1, 5, 18) for n in (8, 10, 20) for kind in ("normal", "t3")],
        slow=[(18, 8, "normal", 600)],
    ),
)
def test_simultaneous_coverage(m, n, kind, draws, record_property):
    effects = np.linspace(0, 1, m)
    together = alone = best = 0
    for rows in families(draws, m, n, kind, effects):
        facts = judged(rows)
        covered = [j.interval.ci_low <= e <= j.interval.ci_high
                   for j, e in zip(facts, effects, strict=True)]  # fmt: skip
        covered_alone = [j.interval_alone.ci_low <= e <= j.interval_alone.ci_high
                         for j, e in zip(facts, effects, strict=True)]  # fmt: skip
        together += all(covered)
        alone += all(covered_alone)
        best += covered_alone[int(np.argmax([j.difference for j in facts]))]
    together, alone, best = together / draws, alone / draws, best / draws
    record_property("simultaneous_coverage", together)
    print(f"m = {m}, n = {n}, {kind}: all intervals cover together {together:.3f}; "
          f"arms alone {alone:.3f}, best arm alone {best:.3f}")  # fmt: skip
    assert together >= 0.93 - 3 * standard_error(0.93, draws)
    assert m == 1 or alone < together


def replayed(rows, **settings):
    plan = LookPlan(LOOKS, **settings)
    return judge_looks(family(rows), range(LOOKS[-1]), plan, len(LOOKS), log2_flips=11)


@pytest.mark.parametrize(("m", "draws"), ARMS)
@pytest.mark.parametrize("kind", ["normal", pytest.param("t3", marks=pytest.mark.exhaustive)])
def test_family_wise_error_of_planned_looks(m, draws, kind, record_property):
    error = np.mean(
        [any(arm.decided_at for arm in replayed(rows).arms)
         for rows in families(draws, m, LOOKS[-1], kind)]
    )  # fmt: skip
    record_property("family_wise_error", float(error))
    print(f"planned looks, m = {m}, {kind}: family-wise error {error:.3f}")
    assert 0.025 < error <= 0.05 + 3 * standard_error(0.05, draws)


@pytest.mark.parametrize(("m", "draws"), ARMS)
def test_family_wise_error_of_planned_looks_that_stop_for_futility(m, draws, record_property):
    """Arms stop as equivalent or futile and stay in the boundaries; half the arms are real."""
    real = m // 2
    effects = np.repeat([1.5, 0.0], [real, m - real])
    errors, stopped = 0, []
    for rows in families(draws, m, LOOKS[-1], effects=effects):
        state = replayed(rows, smallest_effect=0.5)
        errors += any(arm.decided_at for arm in state.arms[real:])
        stopped += [arm.stopped in ("futile", "equivalent") for arm in state.arms[real:]]
    record_property("family_wise_error", errors / draws)
    print(f"planned looks with δ, m = {m}, {real} real: family-wise error {errors / draws:.3f}, "
          f"{np.mean(stopped):.2f} of the others stop early")  # fmt: skip
    assert errors / draws <= 0.05 + 3 * standard_error(0.05, draws)
    assert np.mean(stopped) > 0.3


@pytest.mark.parametrize(("m", "draws"), ARMS)
def test_coverage_of_planned_looks(m, draws, record_property):
    effects = np.linspace(0, 1, m)
    covered = np.mean(
        [all(arm.judged.interval.ci_low <= e <= arm.judged.interval.ci_high
             for arm, e in zip(replayed(rows).arms, effects, strict=True)
             if arm.judged.interval)
         for rows in families(draws, m, LOOKS[-1], effects=effects)]
    )  # fmt: skip
    record_property("simultaneous_coverage", float(covered))
    print(f"planned looks, m = {m}: all intervals cover together {covered:.3f}")
    assert covered >= 0.93 - 3 * standard_error(0.93, draws)


@pytest.mark.parametrize(
    ("m", "power", "median", "draws"),
    cases([(5, 0.97, 15, 50)], [(1, 0.99, 15, 400), (5, 0.97, 15, 300), (18, 0.96, 20, 100)]),
)
def test_power_and_stopping_times(m, power, median, draws, record_property):
    real = max(1, m // 2)
    for effect in (1.0, 2.0):
        effects = np.repeat([effect, 0.0], [real, m - real])
        at = [
            arm.decided_at or np.inf
            for rows in families(draws, m, LOOKS[-1], effects=effects)
            for arm in replayed(rows).arms[:real]
        ]
        decided, stop = np.isfinite(at).mean(), np.median(at)
        record_property(f"power_{effect:g}", float(decided))
        print(f"planned looks, m = {m}, {effect:g} sd: power {decided:.3f}, median stop {stop:g}, "
              f"nine in ten by {np.quantile(at, 0.9, method='higher'):g} of 30")  # fmt: skip
        assert decided >= (power if effect == 1 else 0.995)
        assert stop <= (median if effect == 1 else 10)


def unplanned(rows, sizes):
    """Judged, extended, judged again: whether anything was ever decided, with and without care."""
    previous, careful, careless = None, False, False
    for n in sizes:
        previous = judge_again(previous, range(n))
        careful |= any(j.decided for j in judged(rows[:, :n], alpha=previous.alpha))
        careless |= any(j.decided for j in judged(rows[:, :n]))
    return careful, careless


OFTEN = tuple(range(6, 31, 2))


@pytest.mark.parametrize(
    ("sizes", "m", "draws"),
    cases(
        [],
        [(sizes, m, 1_000) for sizes in ((10, 20, 30), OFTEN) for m in (1, 5, 18)],
        slow=[((10, 20, 30), 5, 600)],
    ),
)
def test_family_wise_error_of_unplanned_looks(sizes, m, draws, record_property):
    results = [unplanned(rows, sizes) for rows in families(draws, m, sizes[-1])]
    careful, careless = np.mean(results, axis=0)
    record_property("family_wise_error", float(careful))
    print(f"unplanned looks at {sizes}, m = {m}: family-wise error {careful:.3f}; "
          f"{careless:.3f} if nothing is said")  # fmt: skip
    assert careful <= 0.075 + 3 * standard_error(0.075, draws)
    assert careless > 0.08


@pytest.mark.parametrize("kind", ["exponential", "collapsing"])
@pytest.mark.parametrize("n", [10, pytest.param(20, marks=pytest.mark.slow)])
def test_skewed_differences_are_reported_as_they_are(kind, n, record_property):
    """No test at such n is safe: that is said, not promised away."""
    draws = 1_000
    error = np.mean([judged(rows)[0].decided for rows in families(draws, 1, n, kind)])
    record_property("error_skewed", float(error))
    print(f"{kind} scores of the arm, n = {n}: false verdicts {error:.3f}")
    assert 0.03 < error < 0.35


def test_half_of_eighteen_arms_with_eight_seeds(record_property):
    """Holm's floor would be 10 seeds."""
    effects = np.repeat([2.0, 0.0], 9)
    found = [
        [j.decided for j in judged(rows)[:9]] for rows in families(300, 18, 8, effects=effects)
    ]
    record_property("power", float(np.mean(found)))
    print(f"m = 18, nine at 2 sd, n = 8: power {np.mean(found):.3f}")
    assert np.mean(found) > 0.7


def runs(rng, num_seeds, per_class, num_classes=3):
    """Two arms that are equal in the population and differ on the examples that were drawn.

    Examples are hard for both arms or for one of them; each seed adds noise.
    """
    labels = np.repeat(np.arange(num_classes), per_class)
    shape = (labels.size, num_classes)
    hard = 1.5 * np.eye(num_classes)[labels] + rng.normal(size=shape)
    return labels, [
        hard + 0.7 * rng.normal(size=shape) + 0.7 * rng.normal(size=(num_seeds, *shape))
        for _ in range(2)
    ]


def false_better(metric, num_seeds, per_class, draws):
    """How often "better" or "worse" is said of equal arms, of this test set and of new ones."""
    rng = np.random.default_rng([num_seeds, per_class])
    counts, claims, covered = np.array([100, 50, 10]), [], []
    for _ in range(draws):
        labels, arms = runs(rng, num_seeds, per_class)
        parts = [[contributions(metric, run, labels, counts) for run in arm] for arm in arms]
        d = {i: t.score - b.score for i, (b, t) in enumerate(zip(*parts, strict=True))}
        [facts] = judge_family([Differences(d)], log2_flips=11).comparisons
        interval = interval_from(*parts, critical_value=facts.critical_value)
        verdict = decide(facts, new_test_sets=interval)
        claims.append(verdict.claim)
        covered.append(isinstance(interval, Interval) and not interval.excludes_zero)
    this = np.mean([claim is not None for claim in claims])
    return this, np.mean([claim == "new_test_sets" for claim in claims]), np.mean(covered)


SMOOTH = sorted(name for name, metric in METRICS.items() if metric.new_test_sets)


@pytest.mark.parametrize(
    ("metric", "num_seeds", "per_class", "draws"),
    cases(
        [("balanced_accuracy", 30, 10, 300)],
        [
            (metric, num_seeds, per_class, 400)
            for metric in SMOOTH
            if not metric.startswith("recall_") or metric == "recall_tail"
            for num_seeds, per_class in ((30, 10), (30, 100))
        ],
        slow=[("macro_f1", 10, 10, 400), ("auroc", 10, 10, 300)],
    ),
)
def test_false_better_under_a_population_null(metric, num_seeds, per_class, draws, record_property):
    this, new, covered = false_better(metric, num_seeds, per_class, draws)
    record_property("false_better", float(new))
    print(f"{metric}, {per_class} examples a class, {num_seeds} seeds, equal in the population: "
          f"{new:.3f} better or worse, {this:.3f} on this test set; new-test-set interval covers "
          f"{covered:.3f}")  # fmt: skip
    assert new <= 0.06 + 3 * standard_error(0.06, draws)
    assert this > 2 * new
    assert covered >= 0.94 - 3 * standard_error(0.94, draws)


def test_corrected_t_on_overlapping_splits(record_property):
    """Nearest-mean classifiers on one feature each; the two features are equally informative."""
    rng = np.random.default_rng(0)
    draws, n, size, num_test = 1_000, 15, 100, 20
    naive = corrected = 0
    for _ in range(draws):
        labels = np.arange(size) % 2
        features = rng.normal(size=(2, size)) + labels
        d = {}
        for seed in range(n):
            order = rng.permutation(size)
            test, train = order[:num_test], order[num_test:]
            y, accuracy = labels[train], []
            for x in features:
                low, high = x[train][y == 0].mean(), x[train][y == 1].mean()
                predicted = (x[test] > (low + high) / 2) == (high > low)
                accuracy.append((predicted == labels[test]).mean())
            d[seed] = float(accuracy[1] - accuracy[0])
        family = judge_resampled([Resampled(Differences(d), num_test, size - num_test)])
        corrected += family.comparisons[0].decided
        naive += scipy.stats.ttest_1samp(list(d.values()), 0).pvalue < 0.05
    record_property("corrected_t_error", corrected / draws)
    print(f"{n} splits of {size} examples: false verdicts {corrected / draws:.3f} by the "
          f"corrected t, {naive / draws:.3f} by the naive one")  # fmt: skip
    assert corrected / draws <= 0.06 + 3 * standard_error(0.06, draws)
    assert naive / draws > 0.15
