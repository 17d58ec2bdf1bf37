"""Models used elsewhere: a simulated world whose truth is known, and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    log_loss,
    precision_recall_curve,
)

from cwjax.analysis.costs import CostMatrix, least_cost
from cwjax.analysis.deployment import (
    TEST_SET,
    Questions,
    RunLogits,
    adjust,
    class_weighted,
    deployment_facts,
    fit_temperature,
    named_prior,
    read_prior,
    threshold_at_precision,
    threshold_at_recall,
)
from cwjax.analysis.evaluation import Evaluation
from cwjax.analysis.paired import Differences, judge_family
from cwjax.analysis.pairing import Pairing
from cwjax.arms.custom_weights import CustomWeights
from cwjax.errors import ConfigError

COUNTS = np.array([800, 150, 50])
TRAINING = COUNTS / COUNTS.sum()
MEANS = np.array([-1.5, 0.0, 2.0])
NAMES = ("a", "b", "c")


def draw(prior: np.ndarray, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Values of x, normal around their class's mean, and the classes."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, size, p=prior).astype(np.int32)
    return rng.normal(MEANS[labels], 1.0), labels


def bayes_logits(x: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Log p(class, x): softmax of it is the true probability of each class."""
    return np.log(prior) + norm.logpdf(x[:, None], MEANS, 1.0)


def test_a_prior_is_changed_by_bayes_rule_exactly() -> None:
    x, _ = draw(TRAINING, 500, 0)
    for target in ([1 / 3, 1 / 3, 1 / 3], [0.05, 0.15, 0.8]):
        moved = softmax(adjust(bayes_logits(x, TRAINING), TRAINING, np.array(target)), axis=1)
        np.testing.assert_allclose(moved, softmax(bayes_logits(x, np.array(target)), axis=1))


def test_a_class_that_is_not_there_is_never_predicted() -> None:
    x, _ = draw(TRAINING, 500, 0)
    moved = adjust(bayes_logits(x, TRAINING), TRAINING, np.array([0.5, 0.5, 0.0]))
    assert np.isfinite(moved).all()
    assert softmax(moved, axis=1)[:, 2].max() < 1e-20


def test_a_weighted_score_is_that_of_a_replicated_test_set() -> None:
    """Classes of 4, 6 and 10 examples, repeated 9, 2 and 3 times: shares 36, 12 and 30 of 78."""
    rng = np.random.default_rng(1)
    labels, times = np.repeat([0, 1, 2], [4, 6, 10]), np.array([9, 2, 3])
    logits = rng.normal(size=(20, 3)) + np.eye(3)[labels]
    prior = times * [4, 6, 10] / (times * [4, 6, 10]).sum()
    test = Evaluation(logits, labels, COUNTS)
    again = np.repeat(np.arange(20), times[labels])
    expected = accuracy_score(labels[again], logits.argmax(axis=1)[again])
    assert class_weighted(test.predictions == labels, test, prior) == pytest.approx(expected)
    expected = log_loss(labels[again], softmax(logits, axis=1)[again])
    assert class_weighted(test.log_losses, test, prior) == pytest.approx(expected)


def test_and_what_drawing_with_that_prior_gives_on_average() -> None:
    x, labels = draw(np.full(3, 1 / 3), 600, 2)
    logits, rng = bayes_logits(x, TRAINING), np.random.default_rng(3)
    hits = logits.argmax(axis=1) == labels
    chances = (TRAINING / np.bincount(labels))[labels]
    drawn = [hits[rng.choice(600, 600, p=chances)].mean() for _ in range(400)]
    weighted = class_weighted(hits, Evaluation(logits, labels, COUNTS), TRAINING)
    assert weighted == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / 20)


def test_a_class_without_test_examples_leaves_a_score_undefined() -> None:
    test = Evaluation(np.zeros((2, 3)), np.array([0, 1]), COUNTS)
    assert np.isnan(class_weighted(np.ones(2), test, TRAINING))
    assert class_weighted(np.ones(2), test, np.array([0.5, 0.5, 0])) == 1


def test_named_priors() -> None:
    counts = np.array([30, 100, 10])
    np.testing.assert_allclose(named_prior("training", counts, NAMES), counts / 140)
    np.testing.assert_allclose(named_prior("uniform", counts, NAMES), 1 / 3)
    reverse = named_prior("reversed", counts, NAMES)  # the middle class stays, the others swap
    np.testing.assert_allclose(reverse, np.array([30, 10, 100]) / 140)
    given = CustomWeights("ward", (("a", 1.0), ("b", 1.0), ("c", 2.0)))
    np.testing.assert_allclose(named_prior(given, counts, NAMES), [0.25, 0.25, 0.5])
    with pytest.raises(ConfigError, match="--test-prior ward: the file names unknown class 'a'"):
        named_prior(given, counts, ("a", "x", "c"))
    with pytest.raises(ConfigError, match="did you mean 'uniform'"):
        read_prior("unifrom")
    with pytest.raises(ConfigError, match=r"--test-prior none.json: cannot be read"):
        read_prior("none.json")


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_was_put_in_is_found(temperature: float) -> None:
    x, labels = draw(TRAINING, 60_000, 4)
    logits = temperature * log_softmax(bayes_logits(x, TRAINING), axis=1)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.03)


def test_the_temperature_is_the_slope_of_a_logistic_regression() -> None:
    """For two classes 1/T is the coefficient of the log-odds, without intercept."""
    rng = np.random.default_rng(5)
    odds = rng.normal(0, 3, 400)
    labels = (rng.random(400) < 1 / (1 + np.exp(-odds / 2))).astype(int)
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10)
    model.fit(odds[:, None], labels)
    logits = np.stack([np.zeros(400), odds], axis=1)
    assert fit_temperature(logits, labels) == pytest.approx(1 / model.coef_[0, 0], rel=1e-4)


def test_least_cost_is_the_smallest_of_all_expected_costs() -> None:
    rng = np.random.default_rng(6)
    probabilities, costs = rng.dirichlet(np.ones(3), 200), rng.uniform(0, 5, (3, 3))
    decided = least_cost(probabilities, costs)
    for p, decision in zip(probabilities, decided, strict=True):
        assert decision == np.argmin([sum(p[t] * costs[t, k] for t in range(3)) for k in range(3)])
    zero_one = 1 - np.eye(3)
    np.testing.assert_array_equal(least_cost(probabilities, zero_one), probabilities.argmax(axis=1))


@pytest.mark.parametrize("level", [0.3, 0.75, 0.9, 1.0])
def test_thresholds_are_those_of_scikit_learns_curve(level: float) -> None:
    rng = np.random.default_rng(7)
    positive = rng.random(300) < 0.3
    scores = np.round(rng.normal(positive, 1.0), 1)  # with ties
    precision, recall, thresholds = precision_recall_curve(positive, scores)
    precision, recall = precision[:-1], recall[:-1]
    at = threshold_at_recall(scores, positive, level)
    assert at == thresholds[recall >= level].max()
    at = threshold_at_precision(scores, positive, level)
    good = thresholds[precision >= level]
    best = None if not good.size else good[recall[precision >= level].argmax()]
    assert at == best or recall[thresholds == at] == recall[thresholds == best]


def test_without_positives_there_is_no_threshold() -> None:
    assert threshold_at_recall(np.ones(3), np.zeros(3, bool), 0.5) is None
    assert threshold_at_precision(np.ones(3), np.zeros(3, bool), 0.5) is None


PAIRINGS = [Pairing("", "uniform", "balanced"), Pairing("", "uniform", "noisy")]


def simulated_runs(num_seeds: int = 8, *, stored: bool = True) -> dict[str, dict[int, RunLogits]]:
    """The true model under the training's prior, under the uniform one, and with noise."""
    runs: dict[str, dict[int, RunLogits]] = {"uniform": {}, "balanced": {}, "noisy": {}}
    x, labels = draw(np.full(3, 1 / 3), 400, 100)
    for seed in range(num_seeds):
        val_x, val_labels = draw(TRAINING, 300, seed)
        noise = np.random.default_rng(1000 + seed).normal(0, 0.3, 3)
        for arm, prior, scale in (
            ("uniform", TRAINING, 1.0),
            ("balanced", np.full(3, 1 / 3), 1.0),
            ("noisy", None, 2.0),
        ):
            shown = TRAINING if prior is None else prior
            runs[arm][seed] = RunLogits(
                test_logits=(scale * bayes_logits(x, shown) + noise).astype(np.float32),
                test_labels=labels,
                validation_logits=(scale * bayes_logits(val_x, shown) + noise).astype(np.float32),
                validation_labels=val_labels if stored else None,
                class_counts=COUNTS,
                prior=prior,
            )
    return runs


def test_adjusted_to_one_prior_arms_that_differ_by_priors_alone_are_equal() -> None:
    questions = Questions(priors=("training", "uniform"))
    facts = deployment_facts("", simulated_runs(), PAIRINGS, questions, NAMES, 0.95, None)
    assert facts.carried == {"uniform": "training", "balanced": "uniform", "noisy": "none"}
    assert list(facts.priors) == [TEST_SET, "training", "uniform"]
    for score in facts.scores:
        assert score.situation == "prior"
        difference = score.differences["balanced"]
        if score.how == "adjusted":
            assert "noisy" not in score.summaries
            assert abs(difference.difference or 0) < 0.01
        elif score.place == "uniform":
            assert difference.difference is not None
            assert difference.difference > 0.05
            assert difference.interval is not None
            assert difference.interval.excludes_zero
        elif score.place == "training":
            assert difference.sign < 0


def test_its_intervals_are_the_joint_ones_of_all_differences() -> None:
    runs = simulated_runs()
    questions = Questions(priors=("training",))
    facts = deployment_facts("", runs, PAIRINGS, questions, NAMES, 0.95, None)
    expected = []
    for prior in (np.bincount(runs["uniform"][0].test_labels) / 400, TRAINING):
        for adjusted in (False, True):
            accuracy = {
                arm: [
                    class_weighted(
                        (adjust(r.test_logits, r.prior, prior) if adjusted else r.test_logits)
                        .argmax(axis=1) == r.test_labels,
                        r.test,
                        prior,
                    )
                    for r in of_arm.values()
                ]
                for arm, of_arm in runs.items()
                if arm != "noisy" or not adjusted
            }  # fmt: skip
            expected += [
                Differences.between(range(8), accuracy["uniform"], accuracy[arm])
                for arm in list(accuracy)[1:]
            ]
    family = judge_family(expected, 0.95).comparisons
    found = [judged for score in facts.scores for judged in score.differences.values()]
    assert facts.num_comparisons == len(found) == len(expected) == 6
    for mine, theirs in zip(found, family, strict=True):
        assert mine.difference == pytest.approx(theirs.difference)
        assert mine.p == theirs.p
        assert mine.interval == theirs.interval


def test_calibration_before_and_after() -> None:
    questions = Questions(calibrate=True)
    facts = deployment_facts("", simulated_runs(), PAIRINGS, questions, NAMES, 0.95, None)
    found = {(score.metric.name, score.how): score.summaries for score in facts.scores}
    temperature = found["temperature", "after"]["noisy"].mean
    assert temperature == pytest.approx(2.0, rel=0.1)
    assert temperature != found["temperature", "after"]["uniform"].mean
    run = simulated_runs()["noisy"][0]
    runs = {"uniform": {0: run}}
    alone = deployment_facts("", runs, [], questions, NAMES, 0.95, None)
    loss = {score.how: score.summaries["uniform"].mean for score in alone.scores[:2]}
    for how, divided in (("before", 1.0), ("after", run.temperature)):
        probabilities = softmax(run.test_logits.astype(float) / divided, axis=1)
        assert loss[how] == pytest.approx(log_loss(run.test_labels, probabilities))
    # Each run is alone here: no differences, no spread.
    assert alone.num_comparisons == 0
    assert alone.scores[0].summaries["uniform"].std is None


def test_costs_under_a_prior() -> None:
    costs = np.array([[0, 1, 1], [1, 0, 1], [20, 20, 0]])
    matrix = CostMatrix(
        "costs.csv",
        {
            t: dict(zip(NAMES, map(float, row), strict=True))
            for t, row in zip(NAMES, costs, strict=True)
        },
    )
    questions = Questions(priors=("training",), costs=matrix)
    runs = simulated_runs(6)
    facts = deployment_facts("", runs, PAIRINGS, questions, NAMES, 0.95, None)
    found = {(s.place, s.how): s for s in facts.scores if s.situation == "cost"}
    assert set(found) == {
        (place, how)
        for place in (TEST_SET, "training")
        for how in ("largest probability", "least expected cost")
    }
    for arm in ("uniform", "balanced"):
        cheap = found["training", "least expected cost"].summaries[arm].mean
        likely = found["training", "largest probability"].summaries[arm].mean
        assert cheap is not None
        assert likely is not None
        assert cheap < 0.7 * likely  # the truth decides best
    run = runs["balanced"][0]
    true = softmax(adjust(run.test_logits, run.prior, TRAINING), axis=1)  # type: ignore[arg-type]
    decided = (true @ costs).argmin(axis=1)
    paid = sum(TRAINING[c] * costs[c, decided[run.test_labels == c]].mean() for c in range(3))
    alone = deployment_facts("", {"balanced": {0: run}}, [], questions, NAMES, 0.95, None)
    assert alone.scores[-1].how == "least expected cost"
    assert alone.scores[-1].summaries["balanced"].mean == pytest.approx(paid)


def two_class_run(seed: int, *, swap: bool = False) -> RunLogits:
    rng = np.random.default_rng(seed)
    labels = (rng.random(600) < 0.3).astype(np.int32)
    logits = np.stack([np.zeros(600), rng.normal(2.0 * labels - 1, 1.5)], axis=1).astype(np.float32)
    if swap:
        labels, logits = 1 - labels, logits[:, ::-1]
    counts = np.array([90, 10])[:: -1 if swap else 1]
    return RunLogits(logits[:300], labels[:300], logits[300:], labels[300:], counts, None)


@pytest.mark.parametrize("swap", [False, True])
def test_two_classes(swap: bool) -> None:
    run = two_class_run(0, swap=swap)
    questions = Questions(at_recall=0.8, at_precision=0.6)
    facts = deployment_facts("", {"x": {0: run}}, [], questions, ("a", "b"), 0.95, None)
    found = {(score.place, score.metric.name): score.summaries["x"].mean for score in facts.scores}
    rare = 0 if swap else 1
    positive = run.test_labels == rare
    odds = run.test_logits[:, rare] - run.test_logits[:, 1 - rare]
    assert found["all thresholds", "average_precision"] == pytest.approx(
        average_precision_score(positive, odds)
    )
    assert run.validation_labels is not None
    threshold = np.quantile(
        (run.validation_logits[:, rare] - run.validation_logits[:, 1 - rare])[
            run.validation_labels == rare
        ],
        0.2,
        method="lower",
    )
    chosen = odds >= threshold
    assert found["recall 0.8 on validation", "recall"] == pytest.approx(
        chosen[positive].mean(), abs=0.02
    )
    assert found["recall 0.8 on validation", "precision"] == pytest.approx(
        positive[chosen].mean(), abs=0.02
    )
    assert found["precision 0.6 on validation", "precision"] == pytest.approx(0.6, abs=0.12)


def test_what_cannot_be_answered_is_refused_in_one_line() -> None:
    runs = simulated_runs(2, stored=False)
    with pytest.raises(ConfigError, match="--calibrate needs validation labels"):
        deployment_facts("", runs, [], Questions(calibrate=True), NAMES, 0.95, None)
    with pytest.raises(ConfigError, match="--at-recall is for two classes, here are 3"):
        deployment_facts("", runs, [], Questions(at_recall=0.5), NAMES, 0.95, None)
    ward = CustomWeights("uniform", (("a", 1.0), ("b", 1.0), ("c", 2.0)))
    with pytest.raises(ConfigError, match="--test-prior has 'uniform' twice: rename the file"):
        Questions(priors=("uniform", ward))
    with pytest.raises(ConfigError, match="--at-precision is 2: give a fraction"):
        Questions(at_precision=2)


def test_over_splits_of_their_own_the_corrected_test_judges() -> None:
    runs = simulated_runs(10)
    questions = Questions(priors=("uniform",))
    naive = deployment_facts("", runs, PAIRINGS, questions, NAMES, 0.95, None)
    corrected = deployment_facts("", runs, PAIRINGS, questions, NAMES, 0.95, (100, 400))
    for one, other in zip(naive.scores, corrected.scores, strict=True):
        a, b = one.differences["balanced"].interval, other.differences["balanced"].interval
        if a is not None and b is not None:
            assert b.ci_high - b.ci_low > a.ci_high - a.ci_low
