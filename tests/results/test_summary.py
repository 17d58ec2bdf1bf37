"""The answer in one sentence, and the tables: every number is one of the comparison's."""

from __future__ import annotations

import numpy as np
import pytest
from cwjax.results.csv_scores import compare_scores
from cwjax.results.summary import arm_rows, comparison_rows, headline, listed, mean_std

from cwjax.analysis.metrics import METRICS
from cwjax.analysis.rules import Rules

METRIC = METRICS["balanced_accuracy"]
NOISE = np.array([3, -1, 2, -2, 1, -3, 2, -2, 1, -1, 4, -4]) * 1e-3


def comparison(shifts: dict[str, float], num_seeds: int = 12, **rules: float) -> dict:
    scores = {"uniform": np.linspace(0.7, 0.8, num_seeds)}
    for place, (arm, shift) in enumerate(shifts.items()):
        # An arm that does not differ is not below the detectable size by luck: its noise is even.
        scores[arm] = scores["uniform"] + shift + np.roll(NOISE[:num_seeds], place)
    by_seed = {arm: dict(enumerate(values.tolist())) for arm, values in scores.items()}
    return compare_scores(by_seed, "uniform", Rules(metric=METRIC, **rules))


def test_one_arm_is_told_in_its_verdicts_words() -> None:
    result = comparison({"balanced": 0.02})
    assert headline(result) == result["comparisons"][0]["verdict"]["words"]
    assert headline(result).startswith("balanced is better than uniform: +2.00 percentage points")


def test_notes_stay_out_of_the_headline() -> None:
    result = comparison({"balanced": 0.02})
    entry = result["comparisons"][0]
    entry["notes"], words = ["UNEQUAL SEEDS."], entry["verdict"]["words"]
    entry["verdict"]["words"] += " UNEQUAL SEEDS."
    assert headline(result) == words


def test_several_arms_are_grouped_by_verdict() -> None:
    sentence = headline(comparison({"a": 0.02, "b": -0.03, "c": 0.0, "d": 0.04}))
    assert sentence == (
        "In balanced accuracy, a (+2.00) and d (+4.00) are better than uniform; b (-3.00) is worse "
        "than uniform; c (+0.00): no detectable difference from uniform."
    )


def test_too_few_seeds_and_equivalence() -> None:
    few = headline(comparison({"a": 0.02, "b": 0.02}, num_seeds=3))
    assert few == (
        "Too few seeds to judge a and b in balanced accuracy: 2 comparisons need 7, there are 3."
    )
    equal = headline(comparison({"a": 0.0, "b": 0.02}, smallest_effect=0.01))
    assert "a (+0.00) is equivalent to uniform within 1.00" in equal


def test_a_control_is_no_part_of_the_answer() -> None:
    result = comparison({"a": 0.02})
    result["comparisons"][0]["control"] = True
    assert headline(result) == "uniform alone was trained: there is nothing to compare it with."


def test_long_lists_are_cut() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c", "d"]) == "a, b, c and d"
    assert listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


def test_rows_hold_the_numbers_of_the_comparison() -> None:
    result = comparison({"a": 0.02})
    entry = result["comparisons"][0]
    (row,) = comparison_rows(result["comparisons"])
    interval = entry["estimates"]["seed_interval"]
    assert row["difference"] == f"{100 * entry['estimates']['difference']:+.2f}" == "+2.00"
    assert row["interval"] == f"{100 * interval['ci_low']:+.2f} to {100 * interval['ci_high']:+.2f}"
    assert row["p (Holm)"] == f"{entry['evidence']['p_holm']:.2g}"
    assert row["new test sets"] == "–"
    arms = arm_rows(result, [METRIC])
    assert arms[0] == {"arm": "uniform", "n": "12", "balanced accuracy": "75.00 ± 3.28"}


@pytest.mark.fault(38)
@pytest.mark.parametrize(
    ("score", "text"),
    [
        ({"mean": 0.5, "std": 0.012}, "50.00 ± 1.20"),
        ({"mean": 0.5, "std": None}, "50.00"),
        ({"mean": None, "std": None}, "–"),
    ],
)
def test_undefined_is_shown_as_a_dash(score: dict, text: str) -> None:
    assert mean_std(METRIC, score) == text
