"""Families, policies, names: what the driver and others with their own numbers call."""

import dataclasses
import doctest
import json

import numpy as np
import pytest

from cwjax import api
from cwjax.analysis.family import Comparison, Pair, Seeds, compare_family
from cwjax.analysis.looks import LookPlan
from cwjax.analysis.metrics import METRICS, find_metric
from cwjax.analysis.paired import Differences, judge_family
from cwjax.analysis.pairing import ArmScores, BadRun, Pairing, SeedFacts, family_size, pairings
from cwjax.analysis.rules import Rules
from cwjax.api import paired_comparison
from cwjax.errors import ConfigError
from cwjax.store.schema import from_json, to_json

RNG = np.random.default_rng(7)
UNIFORM = dict(enumerate((0.9 + RNG.normal(0, 0.01, 10)).tolist()))


def arm(name, shift=0.0, spread=0.003, seed=0, bad=None):
    rng = np.random.default_rng(seed)
    values = {s: u + shift + rng.normal(0, spread) for s, u in UNIFORM.items()}
    bad = bad or {}
    return ArmScores(name, {s: v for s, v in values.items() if s not in bad}, bad)


def baseline(**changes):
    return dataclasses.replace(ArmScores("uniform", UNIFORM), **changes)


def compare_arms(arms, baseline, rules, *, equal_arms=None, controls=(), seeds=None):
    """Each arm with the baseline; an equal arm, which is not trained itself, has its equal's runs.

    Args:
        arms: their runs.
        baseline: its name.
        rules: what they are judged by.
        equal_arms: arms without runs of their own -> the arm whose runs they have.
        controls: names of A/A controls.
        seeds: how they were planned.
    """
    runs = {each.name: each for each in arms}
    for name, other in (equal_arms or {}).items():
        runs[name] = dataclasses.replace(runs[other], name=name)
    return compare_family(
        [
            Pair(pairing, runs[pairing.baseline], runs[pairing.treatment])
            for pairing in pairings(list(runs), baseline, equal_arms or {}, controls=controls)
        ],
        rules,
        seeds,
    ).comparisons


def by_treatment(results: tuple[Comparison, ...]) -> dict[str, Comparison]:
    return {result.pairing.treatment: result for result in results}


def test_docstring_example():
    outcome = doctest.testmod(api)
    assert outcome.attempted >= 5
    assert outcome.failed == 0


def test_the_family_is_judged_by_the_joint_flips():
    arms = [arm("a", 0.003, seed=1), arm("b", 0.002, seed=2), arm("c", 0.0, seed=3)]
    results = compare_arms([baseline(), *arms], "uniform", Rules())
    together = judge_family(
        [Differences.between(r.seeds, [0.0] * 10, r.differences) for r in results]
    )
    for result, expected in zip(results, together.comparisons, strict=True):
        assert (result.judged.p, result.judged.p_raw) == (expected.p, expected.p_raw)
        assert result.judged.interval.ci_low == pytest.approx(expected.interval.ci_low)
    assert any(r.judged.p > r.judged.p_raw for r in results)
    assert {r.num_comparisons for r in results} == {3}
    assert [r.pairing.treatment for r in results] == ["a", "b", "c"]


def test_paired_comparison_adjusts_by_bonferroni():
    a = list(arm("a", 0.002, seed=1).scores.values())
    alone = paired_comparison(list(UNIFORM.values()), a)
    result = paired_comparison(list(UNIFORM.values()), a, num_comparisons=3)
    assert result.judged.p == 3 * alone.judged.p < 1
    assert result.judged.interval.ci_low < alone.judged.interval.ci_low


@pytest.mark.parametrize("side", ["baseline_scores", "treatment_scores"])
def test_percent_is_refused(side):
    scores = {"baseline_scores": [0.82, 0.83], "treatment_scores": [0.84, 0.85]}
    with pytest.raises(ConfigError, match=f"{side} has 84: balanced accuracy is a fraction from 0"):
        paired_comparison(**scores | {side: [0.82, 84]})
    assert paired_comparison([82, 83], [84, 85], metric="loss").estimates.difference == 2


@pytest.mark.parametrize("planned", [False, True])
def test_what_cannot_be_judged_leaves_the_others_as_they_are(planned):
    """An arm that is refused, identical or has too few seeds takes no power from the others."""
    others = [baseline(), arm("a", 0.003, seed=1), arm("b", 0.002, seed=2)]
    few = arm("few", 0.01, seed=3)
    idle = [
        arm("refused", 0.01, bad={3: "diverged"}),
        dataclasses.replace(baseline(), name="same"),
        dataclasses.replace(few, scores={s: few.scores[s] for s in range(5)}),
    ]
    seeds = Seeds(LookPlan((8, 10)), tuple(range(10)), 2) if planned else None
    before = by_treatment(compare_arms(others, "uniform", Rules(), seeds=seeds))
    after = by_treatment(compare_arms([*others, *idle], "uniform", Rules(), seeds=seeds))
    for name in ("a", "b"):
        assert after[name].judged == before[name].judged
        assert after[name].verdict == before[name].verdict
    keys = [after[name].verdict.key for name in ("refused", "same", "few")]
    assert keys == ["refused", "identical", "too_few_seeds"]


def test_control_is_outside_the_family():
    arms = [baseline(), arm("a", 0.01, seed=1), arm("null", 0.0, seed=2)]
    results = by_treatment(compare_arms(arms, "uniform", Rules(), controls=["null"]))
    assert results["a"].num_comparisons == 1
    assert results["null"].judged.p == results["null"].judged.p_raw
    assert results["null"].pairing.control
    assert not results["a"].pairing.control


def test_equal_arms_count_once():
    arms = [baseline(), arm("logit_adjusted", 0.004, seed=1), arm("c", 0.001, seed=2)]
    equal_arms = {"balanced_softmax": "logit_adjusted", "balanced": "uniform"}
    results = by_treatment(compare_arms(arms, "uniform", Rules(), equal_arms=equal_arms))
    assert set(results) == {"logit_adjusted", "c", "balanced_softmax", "balanced"}
    assert results["logit_adjusted"].num_comparisons == 2
    twin, original = results["balanced_softmax"], results["logit_adjusted"]
    assert twin.judged == original.judged
    assert twin.verdict == original.verdict
    assert twin.pairing.same_as == "logit_adjusted"
    assert original.pairing.same_as is None
    assert results["balanced"].verdict.key == "identical"
    assert set(results["balanced"].differences) == {0.0}
    assert results["balanced"].pairing.same_as == "uniform"


def test_baseline_may_be_the_untrained_twin():
    arms = [baseline(), arm("c", 0.01, seed=2)]
    equal_arms = {"balanced": "uniform"}
    results = by_treatment(compare_arms(arms, "balanced", Rules(), equal_arms=equal_arms))
    assert results["uniform"].verdict.key == "identical"
    assert results["uniform"].pairing.same_as == "balanced"
    assert results["c"].num_comparisons == 1


def test_an_equal_arm_counts_once_whatever_stands_first():
    """The family is what is compared, not what was trained: equals of a treatment add nothing."""
    names = ["uniform", "a", "b", "c", "null"]
    made = pairings(names, "uniform", {"b": "a", "c": "a"}, controls=["null"])
    assert [each.same_as for each in made] == [None, "a", "a", None]
    assert [each.in_family for each in made] == [True, True, True, False]
    assert family_size(made) == 1
    assert family_size(pairings(names, "uniform", {"b": "uniform"}, controls=["null"])) == 2
    assert family_size(pairings(names, "uniform", {}, controls=["null"])) == 3
    cells = [*pairings(names, "uniform", {}, "x"), *pairings(names, "uniform", {"b": "a"}, "y")]
    assert family_size(cells) == 4 + 3


def test_cells_of_a_sweep_are_one_family():
    pairs = [
        Pair(Pairing(cell, "uniform", "a"), baseline(), arm("a", 0.003, seed=1))
        for cell in ("10", "100")
    ]
    results = compare_family(pairs, Rules()).comparisons
    assert [r.pairing.cell for r in results] == ["10", "100"]
    assert {r.num_comparisons for r in results} == {2}
    planned = compare_family(pairs, Rules(num_comparisons=5)).comparisons
    assert planned[0].num_comparisons == 5
    assert planned[0].judged.p == min(1, 3 * results[0].judged.p)  # three such families


@pytest.mark.fault(51)
def test_diverged_run_is_refused_by_name_and_stays_in_the_family():
    arms = [baseline(), arm("a", 0.01, bad={3: "diverged"}), arm("b", 0.003, seed=1)]
    results = by_treatment(compare_arms(arms, "uniform", Rules()))
    refused = results["a"]
    assert refused.verdict.key == "refused"
    assert refused.facts == SeedFacts(refused=(BadRun("a", 3, "diverged"),))
    assert refused.estimates is refused.judged is None
    assert refused.seeds == refused.differences == ()
    assert results["b"].num_comparisons == 2
    assert results["b"].judged.p == results["b"].judged.p_raw


@pytest.mark.fault(51)
def test_dropped_pairs_are_told():
    arms = [baseline(), arm("a", 0.01, bad={3: "diverged", 5: "failed"})]
    (result,) = compare_arms(arms, "uniform", Rules(diverged="drop-pair"))
    assert result.seeds == (0, 1, 2, 4, 6, 7, 8, 9)
    assert result.verdict.key == "better"
    dropped = (BadRun("a", 3, "diverged"), BadRun("a", 5, "failed"))
    assert result.facts == SeedFacts(dropped=dropped)


@pytest.mark.fault(51)
def test_worst_score_is_told_and_counts():
    arms = [baseline(), arm("a", 0.01, bad={3: "diverged"})]
    (result,) = compare_arms(arms, "uniform", Rules(diverged="worst-score"))
    assert result.differences[3] == -UNIFORM[3]
    assert result.facts == SeedFacts(worst=(BadRun("a", 3, "diverged"),))
    ece = Rules(metric=METRICS["ece"], diverged="worst-score")
    (result,) = compare_arms(arms, "uniform", ece)
    assert result.differences[3] == 1 - UNIFORM[3]


def test_loss_has_no_worst_score():
    with pytest.raises(ConfigError, match="test loss has no worst score: say drop-pair"):
        Rules(metric=METRICS["loss"], diverged="worst-score")
    secondary = Rules(metric=METRICS["loss"], diverged="worst-score", primary=False)
    arms = [baseline(), arm("a", bad={3: "diverged"})]
    (result,) = compare_arms(arms, "uniform", secondary)
    assert result.estimates is result.verdict is None
    assert result.facts == SeedFacts(refused=(BadRun("a", 3, "diverged"),))


@pytest.mark.fault(52)
def test_all_runs_diverged():
    all_bad = ArmScores("a", {}, dict.fromkeys(UNIFORM, "diverged"))
    (refused,) = compare_arms([baseline(), all_bad], "uniform", Rules())
    assert refused.verdict.key == "refused"
    (dropped,) = compare_arms([baseline(), all_bad], "uniform", Rules(diverged="drop-pair"))
    assert dropped.verdict.key == "refused"
    assert dropped.estimates is None
    assert len(dropped.facts.dropped) == len(UNIFORM)
    (worst,) = compare_arms([baseline(), all_bad], "uniform", Rules(diverged="worst-score"))
    assert worst.verdict.key == "worse"


@pytest.mark.fault(50)
def test_unequal_seeds_are_told():
    short = arm("a", 0.01)
    short = dataclasses.replace(short, scores={s: short.scores[s] for s in range(2, 10)} | {11: 1})
    (result,) = compare_arms([baseline(), short], "uniform", Rules())
    assert result.seeds == tuple(range(2, 10))
    assert result.facts == SeedFacts(lacking={"uniform": (11,), "a": (0, 1)})
    with pytest.raises(ConfigError, match="a and uniform have no seed in common"):
        compare_arms([baseline(), ArmScores("a", {11: 0.5})], "uniform", Rules())


@pytest.mark.fault(38)
def test_undefined_scores():
    arms = [baseline(), ArmScores("a", {**UNIFORM, 4: float("nan")})]
    with pytest.raises(ConfigError, match="recall of tail classes is undefined for a seed 4"):
        compare_arms(arms, "uniform", Rules(metric=METRICS["recall_tail"]))
    rules = Rules(metric=METRICS["recall_tail"], primary=False)
    (result,) = compare_arms(arms, "uniform", rules)
    assert result.estimates is None
    assert result.facts == SeedFacts(undefined=(BadRun("a", 4, "undefined"),))
    assert result.seeds == result.differences == ()


@pytest.mark.fault(53)
def test_nan_never_reaches_a_number():
    with pytest.raises(ValueError, match="treatment_scores has 1 values that are not finite"):
        paired_comparison([0.5, 0.6], [0.5, float("nan")])
    with pytest.raises(ValueError, match="2 baseline scores, 3 treatment scores"):
        paired_comparison([0.5, 0.6], [0.5, 0.6, 0.7])


def test_secondary_metric_has_estimates_and_no_verdict():
    rules = Rules(metric=METRICS["accuracy"], primary=False)
    (result,) = compare_arms([baseline(), arm("a", 0.01)], "uniform", rules)
    assert result.verdict is result.judged is None
    assert result.estimates.difference == pytest.approx(0.01, abs=0.004)


@pytest.mark.parametrize("diverged", [None, "drop-pair", "worst-score"])
def test_comparisons_are_json_without_nan(diverged):
    arms = [baseline(), arm("a", 0.01, bad={3: "diverged"}), arm("b", 0.01, spread=0.0)]
    arms.append(dataclasses.replace(baseline(), name="same"))
    for effect in (None, 0.02):
        rules = Rules(smallest_effect=effect, diverged=diverged)
        for result in compare_arms(arms, "uniform", rules):
            text = to_json(result)
            assert from_json(text, Comparison, "comparison") == result
            json.loads(text, parse_constant=pytest.fail)  # NaN and infinity are no JSON


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"metric": "acuracy"},
            r"--metric is 'acuracy' \(did you mean 'accuracy'\?\): choose one of accuracy,",
        ),
        ({"smallest_effect": 0.0}, "smallest effect is 0.0: give a number above 0, as a fraction"),
        ({"smallest_effect": 1.5}, "smallest effect is 1.5.* 0.01 is one percentage point"),
        ({"smallest_effect": float("nan")}, "smallest effect is nan"),
        ({"smallest_effect": -1, "metric": "loss"}, "smallest effect is -1: give a number above 0"),
        ({"confidence": 0.3}, "confidence is 0.3"),
        ({"confidence": 1.0}, "confidence is 1.0"),
        ({"num_comparisons": 0}, "num_comparisons is 0"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        paired_comparison([0.5, 0.6], [0.6, 0.6], **settings)


def test_loss_may_have_a_large_smallest_effect():
    result = paired_comparison([0.5, 0.6], [0.6, 0.6], metric="loss", smallest_effect=1.5)
    assert result.comparison.smallest_effect == 1.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"baseline": "unifrom"}, "no arm named unifrom: the arms are uniform, a"),
        ({"equal_arms": {"b": "c"}}, "no arm named b, c"),
        ({"arms": ["uniform", "uniform"]}, "arms uniform, uniform: name each once"),
    ],
)
def test_unknown_names(arguments, message):
    arguments = {"arms": ["uniform", "a"], "baseline": "uniform", "equal_arms": {}} | arguments
    with pytest.raises(ConfigError, match=message):
        pairings(**arguments)


def test_a_run_is_good_or_bad():
    with pytest.raises(ValueError, match=r"a has seeds \[3\] both with a score and as bad runs"):
        ArmScores("a", {3: 0.5}, {3: "failed"})


def test_find_metric():
    assert find_metric("ece") is METRICS["ece"]
