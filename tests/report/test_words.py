"""Sentences and number formats: every number is one of the comparison's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from cwjax.analysis.family import Comparison, Pair, compare_family
from cwjax.analysis.intervals import Interval
from cwjax.analysis.learning import LateGain
from cwjax.analysis.metrics import METRICS, Metric
from cwjax.analysis.pairing import ArmScores, BadRun, Pairing, SeedFacts
from cwjax.analysis.results import ScoreSummary, StudyComparison
from cwjax.analysis.rules import Rules
from cwjax.api import paired_comparison
from cwjax.report import words

METRIC = METRICS["balanced_accuracy"]
BASELINE = np.linspace(0.88, 0.92, 10)
NOISE = np.array([3, -1, 2, -2, 1, -3, 2, -2, 1, -1]) * 1e-3  # mean 0, no two flips alike

Shifted = Callable[..., StudyComparison]


def said(shift: float, spread: float = 1.0, n: int = 10, **settings: object) -> str:
    result = paired_comparison(
        BASELINE[:n], BASELINE[:n] + shift + spread * NOISE[:n],
        baseline="uniform", treatment="balanced", **settings,
    )  # fmt: skip
    return str(result)


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        (
            said(0.02),
            "balanced is better than uniform on this test set: +2.00 percentage points in balanced "
            "accuracy (95% interval +1.85 to +2.15, n = 10, p = 0.002).",
        ),
        (
            said(-0.02, metric="loss"),
            "balanced is better than uniform on this test set: -0.0200 in test loss (lower is "
            "better; 95% interval -0.0215 to -0.0185, n = 10, p = 0.002).",
        ),
        (
            said(0.0, spread=0, n=1),
            "balanced and uniform are identical: no difference in balanced accuracy on any of 1 "
            "seed.",
        ),
        (
            said(0.01, n=1),
            "No verdict yet: 6 seeds needed, 1 run; balanced and uniform differ by +1.30 "
            "percentage points in balanced accuracy so far.",
        ),
        (
            said(0.01, spread=0, n=8),
            "balanced is better than uniform on this test set: +1.00 percentage points in balanced "
            "accuracy (equal on every seed, n = 8, p = 0.0078).",
        ),
        (
            said(0.02, n=8, num_comparisons=10),
            "No verdict yet: 8 seeds are too few for an error rate as strict as here; balanced and "
            "uniform differ by +2.00 percentage points in balanced accuracy so far.",
        ),
        (
            said(0.02, n=5, num_comparisons=2),
            "No verdict yet: 6 seeds needed, 5 run; balanced and uniform differ by +2.06 "
            "percentage points in balanced accuracy so far.",
        ),
    ],
)
def test_verdicts_in_sentences(sentence: str, expected: str) -> None:
    assert sentence == expected


@pytest.mark.parametrize(
    ("shift", "settings", "part"),
    [
        (0.02, {"smallest_effect": 0.01}, "on this test set by more than 1 percentage point: +"),
        (0.005, {"smallest_effect": 0.01}, "on this test set, but by less than 1 percentage p"),
        (0.01, {"smallest_effect": 0.01}, "size unresolved (more or less than 1 percentage point)"),
        (0.0, {"smallest_effect": 0.01}, "balanced and uniform are equivalent within 1 percentage"),
        (0.02, {"num_comparisons": 2}, "interval that holds for all 2 comparisons +1."),
        (0.02, {"confidence": 0.8}, "(80% interval "),
        (0.0018, {"num_comparisons": 8}, "would pass, among 8 comparisons it does not."),
        (
            2.0,
            {"metric": Metric("bleu", "BLEU", is_fraction=False)},
            "uniform on this test set: +2.0000 in BLEU (95",
        ),
    ],
)
def test_what_verdicts_say_beside(shift: float, settings: dict[str, object], part: str) -> None:
    assert part in said(shift, **settings)


def test_what_the_design_could_have_shown_is_true_of_its_own_rule() -> None:
    result = paired_comparison(BASELINE, BASELINE + NOISE, smallest_effect=0.0001)
    power = result.comparison.power
    assert power is not None
    assert (
        f"; this design would reveal a difference of {100 * power.detectable_effect:.3g} "
        f"percentage points or more four times in five, and one of 0.01 percentage points with "
        f"{power.seeds_needed} seeds."
    ) in str(result)


def refused() -> Comparison:
    """One run of each arm ended badly, and nothing says how to count it."""
    arms = [
        ArmScores("uniform", {0: 0.1}, {3: "diverged"}),
        ArmScores("balanced", {0: 0.1, 3: 0.1}, {5: "failed"}),
    ]
    return compare_family([Pair(Pairing("", "uniform", "balanced"), *arms)], Rules()).comparisons[0]


def test_bad_runs_and_seeds_are_named() -> None:
    sentence = words.verdict_sentence(refused(), METRIC)
    assert sentence.startswith("No verdict: refused for balanced and uniform, because ")
    assert "uniform seed 3 (diverged), balanced seed 5 (failed)" in sentence
    facts = SeedFacts(
        lacking={"b": (1, 2, 3, 7)},
        dropped=(BadRun("a", 4, "diverged"),),
        worst=tuple(BadRun("b", seed, "failed") for seed in range(20)),
    )
    result = dataclasses.replace(
        refused(), facts=facts, pairing=Pairing("", "uniform", "balanced", same_as="c")
    )
    same, unequal, dropped, worst = words.notes(result, METRIC)
    assert same == "balanced has the same settings as c here: trained once."
    assert unequal.startswith(
        "UNEQUAL SEEDS: only those that both arms have are compared (b lacks "
    )
    assert unequal.endswith("1 to 3, 7).")
    assert dropped == "Left out with their pairs: a seed 4 (diverged)."
    assert worst.startswith("Counted with the worst score, 0: b seed 0 (failed), b seed 1 (failed)")
    assert worst.endswith("b seed 7 (failed), 12 more.")


def test_odd_differences_are_said() -> None:
    treatment = BASELINE + 0.002 + NOISE
    treatment[4] -= 0.5
    result = paired_comparison(BASELINE, treatment, treatment="balanced")
    far, skewed = words.notes(result.comparison, METRIC)
    assert far == (
        "The difference of balanced on seed 4 lies far from all others: see whether a run "
        "collapsed."
    )
    assert skewed.startswith("The differences of balanced are skewed (-2.")
    assert not words.notes(paired_comparison(BASELINE, BASELINE + NOISE).comparison, METRIC)


def test_every_metric_has_words() -> None:
    for name, metric in METRICS.items():
        assert metric.title in said(0.02, metric=name)


def test_one_arm_is_told_in_its_verdicts_words_without_notes(shifted: Shifted) -> None:
    result = shifted({"balanced": 0.02})
    (entry,) = result.comparisons
    assert words.headline(result) == words.verdict_sentence(entry, METRIC)
    noted = dataclasses.replace(entry, facts=SeedFacts(lacking={"b": (1,)}))
    with_note = dataclasses.replace(result, comparisons=(noted,))
    assert words.headline(with_note) == words.headline(result)
    assert "UNEQUAL SEEDS" in words.full_verdict(noted, METRIC)


def test_several_arms_are_grouped_by_verdict(shifted: Shifted) -> None:
    assert words.headline(shifted({"a": 0.02, "b": -0.03, "c": 0.0, "d": 0.04})) == (
        "In balanced accuracy, a (+2.00) and d (+4.00) are better than uniform; b (-3.00) is worse "
        "than uniform; c (+0.00): no detectable difference from uniform."
    )
    equal = words.headline(shifted({"a": 0.0, "b": 0.02}, smallest_effect=0.01))
    assert "a (+0.00) is equivalent to uniform within 1 percentage point" in equal


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_too_few_seeds_come_before_the_differences(shifted: Shifted, num_seeds: int) -> None:
    result = shifted({"a": 0.02, "b": 0.02}, num_seeds=num_seeds)
    a, b = (words.signed(METRIC, entry.estimates.difference) for entry in result.comparisons)
    assert words.headline(result) == (
        f"No verdict yet: 6 seeds needed, {num_seeds} run. Differences from "
        f"uniform so far, in balanced accuracy (percentage points): a {a} and b {b}."
    )


def with_cells(study: StudyComparison, names: Mapping[str, StudyComparison]) -> StudyComparison:
    """The same arms on several cells, each found to be as given."""
    return dataclasses.replace(
        study,
        cells=tuple(dataclasses.replace(study.cells[0], cell=name) for name in names),
        comparisons=tuple(
            dataclasses.replace(entry, pairing=dataclasses.replace(entry.pairing, cell=name))
            for name, found in names.items()
            for entry in found.comparisons
        ),
    )


def test_several_cells_are_counted_by_arm_and_verdict(shifted: Shifted) -> None:
    better, none = shifted({"a": 0.02}), shifted({"a": 0.0})
    study = with_cells(better, {"x": better, "y": better, "z": none})
    assert words.headline(study) == (
        "In balanced accuracy, compared with uniform: a: better in 2 and no detectable difference "
        "in 1 of 3 cells."
    )
    few = shifted({"a": 0.02}, num_seeds=3), shifted({"a": 0.05}, num_seeds=3)
    low, high = (words.signed(METRIC, each.comparisons[0].estimates.difference) for each in few)
    assert words.headline(with_cells(few[0], {"x": few[0], "y": few[1]})).endswith(
        f": a {low} to {high}."
    )


def test_a_control_is_no_part_of_the_answer(shifted: Shifted) -> None:
    result = shifted({"null_control": 0.02})
    assert result.family_size == 0
    assert words.headline(result) == (
        "uniform alone was trained: there is nothing to compare it with."
    )


def test_a_family_is_said_and_counted_once(shifted: Shifted) -> None:
    assert words.family_sentence(shifted({"a": 0.0, "b": 0.0})) == (
        "The 2 comparisons are one family, judged together by flipping the signs of seeds: the "
        "chance of any false finding is at most 5%, and all their intervals hold together."
    )
    assert "one comparison" in words.family_sentence(shifted({"a": 0.0}))


def test_seeds_that_cannot_be_enough_are_said_before_training() -> None:
    assert words.seeds_note(1, 6, 0.95) is None
    assert words.seeds_note(0, 1, 0.95) is None
    assert words.seeds_note(1, 1, 0.95) == (
        "note: 1 seed cannot give a verdict, whatever comes out: give at least 6"
    )
    assert words.seeds_note(40, 6, 0.95) is None  # the joint rule needs no more for a family
    assert "give at least 8" in words.seeds_note(1, 6, 0.99)


def test_columns_are_explained_where_they_stand(shifted: Shifted) -> None:
    study = shifted({"a": 0.0, "b": 0.0, "null_control": 0.0})
    assert "test examples" not in " ".join(words.definitions(study))  # from elsewhere
    wider = Interval(-0.1, 0.1, 0.95)
    entries = (dataclasses.replace(study.comparisons[0], new_test_sets=wider),)
    study = dataclasses.replace(study, comparisons=(*entries, *study.comparisons[1:]))
    explained = " ".join(words.definitions(study))
    for part in ("Which row to use?", "Why two 95% intervals?", "P(better): ", "adjusted for all"):
        assert part in explained
    assert "A/A control" in explained


def test_long_lists_are_cut() -> None:
    assert words.listed(["a"]) == "a"
    assert words.listed(["a", "b", "c", "d"]) == "a, b, c and d"
    assert words.listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
    assert words.seeds_text([4, 0, 1, 2, 9, 10]) == "0 to 2, 4, 9, 10"
    assert words.seeds_text(range(0, 40, 2)) == "0, 2, 4, 6, 8, 10, 12, 14, 12 more"
    assert words.seeds_text(range(500_000)) == "0 to 499999"


@pytest.mark.fault(38)
@pytest.mark.parametrize(
    ("score", "text"),
    [
        (ScoreSummary(0.5, 0.012), "50.00 ± 1.20"),
        (ScoreSummary(0.5, None), "50.00"),
        (ScoreSummary(None, None), "–"),
    ],
)
def test_undefined_is_shown_as_a_dash(score: ScoreSummary, text: str) -> None:
    assert words.mean_std(METRIC, score) == text


def test_numbers() -> None:
    loss, own = METRICS["loss"], Metric("own", "own", is_fraction=False)
    assert [words.signed(METRIC, x) for x in (-1e-9, 1e-9, -0.0)] == ["+0.00"] * 3
    assert words.signed(loss, -0.0) == "+0.0000"
    assert [words.score(own, x) for x in (0.0, 31.512, 1e-6, -3.0, 123456.0)] == [
        "0.0000", "31.51", "1e-06", "-3.0000", "1.235e+05"
    ]  # fmt: skip
    assert words.count(1, "seed") == "1 seed"
    assert words.count(0, "seed") == "0 seeds"
    assert [words.duration(s) for s in (0.2, 24, 150, 7800, 100_000)] == [
        "1 s", "24 s", "2 min", "2 h 10 min", "28 h"
    ]  # fmt: skip
    assert words.chosen_text([0.5, 0.75, 0.5]) == "0.5 in 2 seeds, 0.75 in 1"
    assert words.chosen_text([1, 2, 3, 4, 5]) == "1 to 5, median 3"


def test_one_spelling_of_the_data() -> None:
    assert words.data_title("mnist", "long_tailed", 10.0) == (
        "mnist, long-tailed, imbalance factor 10"
    )
    assert words.data_title("mine", "none", 1.0) == "mine (original class balance)"
    assert words.dataset_name("npz:/data/mine.npz") == "mine"
    assert words.dataset_name("mnist") == "mnist"


def test_nothing_is_hidden() -> None:
    assert words.visible("a\x1b[31mb\u202ec\x00\ud800") == r"a\x1b[31mb\u202ec\x00\ud800"
    assert words.visible("家 é 👩\u200d🔬") == "家 é 👩\u200d🔬"
    assert words.one_line("a\n b\tc") == "a b c"


def test_stages_that_are_too_short() -> None:
    assert words.stages_note({"uniform": [20], "crt": [20, 500]}) is None
    said = words.stages_note({"uniform": [20], "crt": [600, 499], "ldam": [1, 1], "lws": [9, 500]})
    assert said is not None
    assert said.startswith("the last stage of crt (499 steps) and ldam (1 step) is shorter than")
    assert said.endswith("give more --num-epochs")


def test_not_validated() -> None:
    names = ("cat", "dog", "eel")
    assert words.not_validated(names, {0: [3, 1, 1], 1: [3, 1, 2]}) is None
    assert words.not_validated(names, {}) is None
    said = words.not_validated(names, {0: [3, 0, 1], 1: [3, 1, 0]})
    assert said == "leave out 'dog' and 'eel', too rare to validate on"


def test_a_verdict_that_hangs_on_one_seed_says_so() -> None:
    differences = np.array([4.0, 13.9, 6.9, 29.0, 25.8, 17.6, -16.4, 10.6, 18.2]) / 1000
    result = paired_comparison(np.full(9, 0.8), 0.8 + differences)
    assert str(result).endswith(" Fragile: without seed 4 the interval would include 0.")
    assert "Fragile" not in str(paired_comparison(np.full(9, 0.8), 0.8 + differences.clip(0.01)))


def test_arms_that_were_still_learning_are_named(shifted: Shifted) -> None:
    study = shifted({"balanced": 0.1, "focal": 0.0})
    gains = {"uniform": LateGain(3, 0.0447), "focal": LateGain(3, 0.02)}
    cell = dataclasses.replace(study.cells[0], still_learning=gains)
    (sentence,) = words.training_notes(dataclasses.replace(study, cells=(cell,)))
    assert sentence.startswith(
        "Still learning: over the last 3 epochs the balanced validation accuracy of uniform rose "
        "by 4.5 points, and that of focal rose too."
    )
    assert "--num-epochs" in sentence
    assert words.training_notes(study) == []
