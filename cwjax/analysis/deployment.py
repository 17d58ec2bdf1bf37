"""What trained models would be worth elsewhere, from the logits that are stored: nothing trains.

Other class priors, calibrated probabilities, decisions by cost, and of two classes a threshold.
What is chosen, a temperature or a threshold, is chosen on validation examples, never on test ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from cwjax.analysis.costs import CostMatrix, least_cost
from cwjax.analysis.evaluation import Evaluation, FloatArray, average_precision
from cwjax.analysis.metrics import METRICS, Metric, score_of
from cwjax.analysis.paired import Differences, Judged, judge_family
from cwjax.analysis.pairing import Pairing
from cwjax.analysis.resampled import Resampled, judge_resampled
from cwjax.analysis.results import DeploymentFacts, DeploymentScore, ScoreSummary, Situation
from cwjax.arms.custom_weights import CustomWeights, WeightFile
from cwjax.errors import ConfigError, check_name

TEST_SET = "test set"
"""The class prior of the test set as it is."""

NAMED_PRIORS = ("training", "uniform", "reversed")
"""What `--test-prior` takes besides files."""

TEMPERATURES = (1e-2, 1e2)
"""Between these one is looked for."""

_SMALLEST_SHARE = 1e-30  # of a class that a prior leaves out: its logarithm stays finite

_COST = Metric(
    "expected_cost", "expected cost", higher_is_better=False, worst=None, is_fraction=False
)
_TEMPERATURE = Metric("temperature", "temperature", worst=None, is_fraction=False)


@dataclass(frozen=True, eq=False)
class Questions:
    """What is asked of every cell.

    Raises:
        ConfigError: a recall or precision that is none, or two priors of one name.
    """

    priors: tuple[str | CustomWeights, ...] = ()
    """Names of `NAMED_PRIORS`, or shares of the classes from a file."""
    calibrate: bool = False
    costs: CostMatrix | None = None
    at_recall: float | None = None
    """Of two classes: the recall of the rarer one at which its precision is asked for."""
    at_precision: float | None = None
    """Of two classes: the precision of the rarer one at which its recall is asked for."""

    def __post_init__(self) -> None:
        names = [_prior_name(prior) for prior in self.priors]
        if repeated := [name for name in names if names.count(name) > 1]:
            raise ConfigError(f"--test-prior has {repeated[0]!r} twice: rename the file")
        for name, value in (("recall", self.at_recall), ("precision", self.at_precision)):
            if value is not None and not 0 < value <= 1:
                raise ConfigError(
                    f"--at-{name} is {value:g}: give a fraction above 0 and at most 1"
                )


@dataclass(frozen=True, eq=False)
class RunLogits:
    """What a finished run has stored."""

    test_logits: NDArray[np.float32]
    """`[num_test, num_classes]`"""
    test_labels: NDArray[np.int32]
    validation_logits: NDArray[np.float32]
    """`[num_validation, num_classes]`"""
    validation_labels: NDArray[np.int32] | None
    """None where they were not stored."""
    class_counts: NDArray[np.int64]
    """`[num_classes]`, of the training split."""
    prior: FloatArray | None
    """Which class prior the logits carry, `[num_classes]`; None where there is none."""

    @cached_property
    def test(self) -> Evaluation:
        """On the test set, as it is."""
        return Evaluation(self.test_logits, self.test_labels, self.class_counts)

    @cached_property
    def temperature(self) -> float:
        """See `fit_temperature`."""
        assert self.validation_labels is not None
        return fit_temperature(self.validation_logits, self.validation_labels)

    def calibrated(self) -> Evaluation:
        """On the test set, with logits divided by the temperature."""
        logits = self.test_logits.astype(np.float64) / self.temperature
        return Evaluation(logits, self.test_labels, self.class_counts)

    def under(self, prior: FloatArray) -> Evaluation | None:
        """On the test set, with logits adjusted to a class prior; None where theirs is unknown."""
        if self.prior is None:
            return None
        logits = adjust(self.test_logits, self.prior, prior)
        return Evaluation(logits, self.test_labels, self.class_counts)


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """T > 0 that minimises the mean negative log-likelihood of softmax(logits / T).

    Args:
        logits: `[num_examples, num_classes]`, of validation examples.
        labels: `[num_examples]`.

    References:
        Guo et al. 2017, "On Calibration of Modern Neural Networks".
    """
    exact = logits.astype(np.float64)
    counts = np.ones(logits.shape[1], np.int64)

    def loss(log_temperature: float) -> float:
        return score_of("loss", Evaluation(exact / math.exp(log_temperature), labels, counts))

    low, high = TEMPERATURES
    bounds = (math.log(low), math.log(high))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-8})
    return math.exp(found.x)


def adjust(logits: NDArray[np.floating], source: FloatArray, target: FloatArray) -> FloatArray:
    """Bayes' rule for logits: `z + log target - log source`, each prior `[num_classes]`.

    References:
        Saerens et al. 2002, "Adjusting the Outputs of a Classifier to New a Priori Probabilities".
    """
    shift = np.log(np.maximum(target, _SMALLEST_SHARE)) - np.log(source)
    adjusted: FloatArray = logits.astype(np.float64) + shift
    return adjusted


def class_weighted(values: NDArray[np.floating], test: Evaluation, prior: FloatArray) -> float:
    """Σ_c prior_c · the mean of values over the test examples of class c.

    It is what the mean over a test set with that prior is expected to be. NaN where the test set
    lacks a class that the prior has.

    Args:
        values: `[num_examples]`, e.g. whether each prediction is right.
        test: gives the classes.
        prior: `[num_classes]`, sums to 1.
    """
    counts = prior > 0
    return float((prior[counts] * test.class_means(values)[counts]).sum())


def read_prior(text: str) -> str | CustomWeights:
    """A prior as `--test-prior` takes it: a name, or a JSON file of shares by class.

    Raises:
        ConfigError: it is neither.
    """
    if not text.endswith(".json"):
        check_name("--test-prior", text, (*NAMED_PRIORS, "FILE.json"))
        return text
    try:
        return WeightFile().read(text)
    except ConfigError as error:
        raise ConfigError(f"--test-prior {text}: {error}") from None


def named_prior(
    name: str | CustomWeights, class_counts: NDArray[np.integer], class_names: Sequence[str]
) -> FloatArray:
    """The shares of the classes `[num_classes]`.

    `reversed` gives the most frequent class the rarest one's share, the second the second rarest's,
    and so on.

    Args:
        name: of `NAMED_PRIORS`, or shares by class, which need not sum to 1.
        class_counts: `[num_classes]`, of the training split.
        class_names: `[num_classes]`.

    Raises:
        ConfigError: a class of the file is missing or unknown.
    """
    shares = np.asarray(class_counts, np.float64)
    if isinstance(name, CustomWeights):
        try:
            shares = name.for_classes(class_names)
        except ConfigError as error:
            raise ConfigError(f"--test-prior {name.stem}: {error}") from None
    elif name == "uniform":
        shares = np.ones(len(class_counts))
    elif name == "reversed":
        order = np.argsort(-shares, kind="stable")
        shares[order] = shares[order[::-1]]
    prior: FloatArray = shares / shares.sum()
    return prior


def threshold_at_recall(
    scores: FloatArray, positive: NDArray[np.bool_], recall: float
) -> float | None:
    """The largest threshold at which so many of the positives score at least it.

    Args:
        scores: `[num_examples]`, of validation examples.
        positive: which of them belong to the class.
        recall: in (0, 1].

    Returns:
        None without positives.
    """
    ranked = np.sort(scores[positive])[::-1]
    if not ranked.size:
        return None
    needed = max(1, math.ceil(round(recall * ranked.size, 9)))
    return float(ranked[needed - 1])


def threshold_at_precision(
    scores: FloatArray, positive: NDArray[np.bool_], precision: float
) -> float | None:
    """The smallest threshold at which this share of those who score at least it are positive.

    Arguments as in `threshold_at_recall`; None where there is no such threshold.
    """
    for threshold in np.unique(scores[positive]):
        chosen = scores >= threshold
        if positive[chosen].mean() >= precision:
            return float(threshold)
    return None


def deployment_facts(
    cell: str,
    runs: Mapping[str, Mapping[int, RunLogits]],
    pairings: Sequence[Pairing],
    questions: Questions,
    class_names: Sequence[str],
    confidence: float,
    splits: tuple[int, int] | None,
) -> DeploymentFacts:
    """Every score that is asked for, of every arm, with paired differences from the baseline.

    The differences of all arms and scores are judged as one family, so that their intervals hold
    together.

    Args:
        cell: its name.
        runs: arm -> seed -> its run, of those that ended well.
        pairings: who is compared with whom.
        questions: what is asked.
        class_names: `[num_classes]`.
        confidence: of all intervals together.
        splits: test and training examples, where every seed draws its own test split.

    Raises:
        ConfigError: a prior or cost matrix of other classes, labels that were not stored, or a
            question about two classes to more.
    """
    asked = list(_asked(runs, questions, class_names))
    scores = [_scores(each, runs) for each in asked]
    family = {
        (place, pairing.key): Differences.between(seeds, *arms)
        for place, of_arm in enumerate(scores)
        if asked[place].metric is not _TEMPERATURE
        for pairing in pairings
        if pairing.in_family
        for seeds, arms in [_paired(of_arm, pairing)]
        if seeds
    }
    judged = dict(zip(family, _judge(list(family.values()), confidence, splits), strict=True))
    first = next(iter(next(of_arm for of_arm in runs.values() if of_arm).values()))
    priors = _priors(first, questions, class_names)
    return DeploymentFacts(
        cell=cell,
        priors={name: tuple(prior.tolist()) for name, prior in priors.items()},
        carried={arm: _carried(of_arm) for arm, of_arm in runs.items() if of_arm},
        num_comparisons=len(family),
        scores=tuple(
            DeploymentScore(
                cell=cell,
                situation=each.situation,
                place=each.place,
                how=each.how,
                metric=each.metric,
                summaries={
                    arm: ScoreSummary.of(list(by_seed.values())) for arm, by_seed in own.items()
                },
                differences={
                    pairing.treatment: judged[place, pairing.key]
                    for pairing in pairings
                    if pairing.in_family and (place, pairing.key) in judged
                },
            )
            for place, (each, own) in enumerate(zip(asked, scores, strict=True))
        ),
    )


def _scores(
    asked: _Asked, runs: Mapping[str, Mapping[int, RunLogits]]
) -> dict[str, dict[int, float]]:
    """Arm -> seed -> score, of the arms whose every run has one."""
    scores = {
        arm: {seed: asked.formula(run) for seed, run in of_arm.items()}
        for arm, of_arm in runs.items()
        if of_arm
    }
    return {arm: own for arm, own in scores.items() if np.isfinite(list(own.values())).all()}


def _paired(
    scores: Mapping[str, Mapping[int, float]], pairing: Pairing
) -> tuple[list[int], list[list[float]]]:
    """The seeds that both arms have, and the scores of baseline and treatment on them."""
    arms = [scores.get(arm, {}) for arm in (pairing.baseline, pairing.treatment)]
    seeds = sorted(arms[0].keys() & arms[1].keys())
    return seeds, [[of_arm[seed] for seed in seeds] for of_arm in arms]


def _judge(
    differences: Sequence[Differences], confidence: float, splits: tuple[int, int] | None
) -> tuple[Judged, ...]:
    if splits is None:
        return judge_family(differences, confidence).comparisons
    resampled = [Resampled(each, *splits) for each in differences]
    return judge_resampled(resampled, confidence).comparisons


@dataclass(frozen=True)
class _Asked:
    """A score to be computed of every run; NaN where it is undefined."""

    situation: Situation
    place: str
    how: str
    metric: Metric
    formula: Callable[[RunLogits], float]


def _asked(
    runs: Mapping[str, Mapping[int, RunLogits]], questions: Questions, class_names: Sequence[str]
) -> Iterator[_Asked]:
    names = [TEST_SET, *map(_prior_name, questions.priors)]
    if questions.priors:
        for name in names:
            for how in ("left", "adjusted"):
                formula = _accuracy_under(name, how, questions, class_names)
                yield _Asked("prior", name, how, METRICS["accuracy"], formula)
    if questions.calibrate:
        _require_labels(runs, "--calibrate")
        for metric in (METRICS["loss"], METRICS["brier"], METRICS["ece"]):
            yield _Asked("calibration", "", "before", metric, _score_before(metric.name))
            yield _Asked("calibration", "", "after", metric, _score_after(metric.name))
        yield _Asked("calibration", "", "after", _TEMPERATURE, lambda run: run.temperature)
    if questions.costs is not None:
        costs = questions.costs.for_classes(class_names)
        for name in names:
            for how in ("largest probability", "least expected cost"):
                cost_formula = _cost_under(name, how, costs, questions, class_names)
                yield _Asked("cost", name, how, _COST, cost_formula)
    if questions.at_recall is not None or questions.at_precision is not None:
        yield from _asked_of_two(runs, questions, class_names)


def _asked_of_two(
    runs: Mapping[str, Mapping[int, RunLogits]], questions: Questions, class_names: Sequence[str]
) -> Iterator[_Asked]:
    flag = "--at-recall" if questions.at_recall is not None else "--at-precision"
    if len(class_names) != 2:
        raise ConfigError(f"{flag} is for two classes, here are {len(class_names)}: leave it out")
    _require_labels(runs, flag)
    metric = METRICS["average_precision"]
    title = Metric(metric.name, "average precision")
    yield _Asked("two_classes", "all thresholds", "", title, _average_precision)
    for fixed, value, find in (
        ("recall", questions.at_recall, threshold_at_recall),
        ("precision", questions.at_precision, threshold_at_precision),
    ):
        if value is not None:
            place = f"{fixed} {value:g} on validation"
            for place_of, name in enumerate(("precision", "recall")):
                formula = _at_threshold(find, value, place_of)
                yield _Asked("two_classes", place, "", Metric(name, name), formula)


def _require_labels(runs: Mapping[str, Mapping[int, RunLogits]], flag: str) -> None:
    if any(run.validation_labels is None for of_arm in runs.values() for run in of_arm.values()):
        raise ConfigError(
            f"{flag} needs validation labels, which an earlier cwjax did not store: leave it out, "
            "or train again in a new directory"
        )


def _prior_name(prior: str | CustomWeights) -> str:
    return prior if isinstance(prior, str) else prior.stem


def _priors(
    run: RunLogits, questions: Questions, class_names: Sequence[str]
) -> dict[str, FloatArray]:
    """Every prior asked about, the test set's first; those of a run's own counts."""
    named = {
        _prior_name(prior): named_prior(prior, run.class_counts, class_names)
        for prior in questions.priors
    }
    return {TEST_SET: run.test.test_counts / run.test.test_counts.sum(), **named}


def _carried(of_arm: Mapping[int, RunLogits]) -> str:
    """Which prior the logits of an arm carry: the name of one, `other` or `none`."""
    names = {_prior_of(run) for run in of_arm.values()}
    return names.pop() if len(names) == 1 else "other"


def _prior_of(run: RunLogits) -> str:
    if run.prior is None:
        return "none"
    for name, shares in (("training", run.class_counts), ("uniform", np.ones(len(run.prior)))):
        if np.allclose(run.prior, shares / shares.sum(), rtol=1e-4):
            return name
    return "other"


def _accuracy_under(
    name: str, how: str, questions: Questions, class_names: Sequence[str]
) -> Callable[[RunLogits], float]:
    def formula(run: RunLogits) -> float:
        prior = _priors(run, questions, class_names)[name]
        test = run.test if how == "left" else run.under(prior)
        if test is None:
            return math.nan
        return class_weighted(test.predictions == test.labels, test, prior)

    return formula


def _score_before(metric: str) -> Callable[[RunLogits], float]:
    return lambda run: score_of(metric, run.test)


def _score_after(metric: str) -> Callable[[RunLogits], float]:
    return lambda run: score_of(metric, run.calibrated())


def _cost_under(
    name: str, how: str, costs: FloatArray, questions: Questions, class_names: Sequence[str]
) -> Callable[[RunLogits], float]:
    """Decisions from probabilities for the prior, or of logits that carry none from their own."""

    def formula(run: RunLogits) -> float:
        prior = _priors(run, questions, class_names)[name]
        test = run.under(prior) or run.test
        decisions = test.predictions
        if how == "least expected cost":
            decisions = least_cost(test.probabilities, costs)
        return class_weighted(costs[test.labels, decisions], test, prior)

    return formula


def _rarer(run: RunLogits) -> int:
    """Of two classes the one with fewer training examples, of equals the second."""
    return int(run.class_counts[1] <= run.class_counts[0])


def _average_precision(run: RunLogits) -> float:
    rarer = _rarer(run)
    return average_precision(_odds(run.test_logits, rarer), run.test_labels == rarer)


def _at_threshold(
    find: Callable[[FloatArray, NDArray[np.bool_], float], float | None], value: float, place: int
) -> Callable[[RunLogits], float]:
    """Precision (place 0) or recall (1) on test at a threshold that validation chose."""

    def formula(run: RunLogits) -> float:
        rarer, labels = _rarer(run), run.validation_labels
        assert labels is not None
        threshold = find(_odds(run.validation_logits, rarer), labels == rarer, value)
        if threshold is None:
            return math.nan
        chosen, positive = _odds(run.test_logits, rarer) >= threshold, run.test_labels == rarer
        total = (chosen, positive)[place].sum()
        return float((chosen & positive).sum() / total) if total else math.nan

    return formula


def _odds(logits: NDArray[np.float32], positive: int) -> FloatArray:
    """Logarithm of the odds of one of two classes: it orders as its probability does."""
    odds: FloatArray = logits[:, positive].astype(np.float64) - logits[:, 1 - positive]
    return odds
