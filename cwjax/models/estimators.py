"""scikit-learn estimators as models, by the name that `--model estimator:NAME` takes.

To add one, write a function here that returns a classifier with `predict_proba` whose `fit` takes
`sample_weight` (its keyword-only parameters are the settings, its docstring's first line is the
help), and add its line to `ESTIMATORS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from cwjax.arms.settings import Positive, Whole, choose
from cwjax.errors import ConfigError

PREFIX = "estimator:"
"""What `--model` begins with where no network is trained."""


Count = Annotated[int, Whole(1, 100_000)]


def hist_gradient_boosting(*, max_iter: Count = 100, learning_rate: Positive = 0.1) -> Any:
    """Boosted trees on binned features."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=max_iter, learning_rate=learning_rate)


def logistic_regression(*, C: Positive = 1.0) -> Any:
    """Softmax regression with an L2 penalty."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=C, max_iter=1000)  # scikit-learn's 100 are too few for most tables


def random_forest(*, n_estimators: Count = 100) -> Any:
    """Trees on bootstrapped examples."""
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(n_estimators=n_estimators)


ESTIMATORS: dict[str, Callable[..., Any]] = {
    "hist_gradient_boosting": hist_gradient_boosting,
    "logistic_regression": logistic_regression,
    "random_forest": random_forest,
}


@dataclass(frozen=True, eq=False)
class Estimators:
    """What a study trains in the place of a network.

    Attributes:
        common: one estimator for all arms, each with its class weights as `sample_weight`; None
            where every arm has an estimator of its own.
        by_arm: arm -> its estimator, which is trained without weights.
    """

    common: Any = None
    by_arm: Mapping[str, Any] = field(default_factory=dict)

    @property
    def weighted(self) -> bool:
        """Whether arms are class weights."""
        return not self.by_arm

    def of(self, arm: str) -> Any:
        """The estimator of an arm."""
        return self.common if self.weighted else self.by_arm[arm]


def is_estimator(model: str) -> bool:
    """Whether `--model` names an estimator, not a network."""
    return model.startswith(PREFIX)


def find_estimators(model: str) -> Estimators:
    """The estimator that `--model` names, with the settings that it gives.

    Raises:
        ConfigError: an unknown name or setting, or a value out of range.
    """
    return Estimators(choose("--model estimator:NAME", model.removeprefix(PREFIX), ESTIMATORS)())


def weight_parameter(estimator: Any) -> str | None:
    """The argument of `fit` that takes a weight per example; None where there is none.

    In a pipeline it is that of the last step, behind a `CalibratedClassifierCV`, a `GridSearchCV`
    and the like that of the estimator inside.

    Args:
        estimator: as scikit-learn has them.
    """
    from sklearn.utils.validation import has_fit_parameter

    if has_fit_parameter(estimator, "sample_weight"):
        return "sample_weight"
    if steps := getattr(estimator, "steps", None):
        name, last = steps[-1]
        inner = weight_parameter(last)
        return None if inner is None else f"{name}__{inner}"
    passes_on = has_fit_parameter(estimator, "params") or has_fit_parameter(estimator, "fit_params")
    inside = getattr(estimator, "estimator", None)
    return weight_parameter(inside) if passes_on and inside is not None else None


def deciding(estimator: Any) -> Any:
    """Who decides inside: the last step of a pipeline, what a search has found or searches with."""
    while True:
        if steps := getattr(estimator, "steps", None):
            estimator = steps[-1][1]
        elif hasattr(estimator, "refit"):  # GridSearchCV and its like
            estimator = getattr(estimator, "best_estimator_", estimator.estimator)
        else:
            return estimator


def check_estimator(estimator: Any, name: str, *, weighted: bool) -> None:
    """Checks that an estimator can be trained and judged here.

    Args:
        estimator: what was given.
        name: of the argument, for the message.
        weighted: whether it is to take class weights.

    Raises:
        ConfigError: it is no classifier with probabilities; or, weighted, it takes no weights or
            has some of its own.
    """
    if isinstance(estimator, type):
        raise ConfigError(
            f"{name} is the class {estimator.__name__}: give an object, {estimator.__name__}()"
        )
    kind = type(estimator).__name__
    if not all(hasattr(estimator, each) for each in ("fit", "get_params", "set_params")):
        raise ConfigError(f"{name} is {kind}: give a classifier with scikit-learn's interface")
    if not hasattr(estimator, "predict_proba"):
        raise ConfigError(
            f"{name}: {kind} has no predict_proba here, which scores need: wrap it in "
            "CalibratedClassifierCV, or set what turns it on (SVC: probability=True)"
        )
    if getattr(deciding(estimator), "response_method", None) == "decision_function":
        raise ConfigError(
            f"{name}: {kind} decides by decision_function, scores by probabilities: give "
            'response_method="predict_proba"'
        )
    if not weighted:
        return
    if weight_parameter(estimator) is None:
        raise ConfigError(
            f"{name}: {kind}.fit takes no sample_weight, so class weights cannot act: compare it "
            "as a whole, with arms={name: estimator, ...}"
        )
    own = [
        parameter
        for parameter, value in estimator.get_params(deep=True).items()
        if parameter.rpartition("__")[2] == "class_weight" and value is not None
    ]
    if own:
        raise ConfigError(
            f"{name} has weights of its own ({own[0]}), to which those of every arm would be "
            "added: leave them out, or compare it as a whole, with arms={name: estimator, ...}"
        )


def parameters_of(estimator: Any) -> dict[str, str]:
    """Every parameter of an estimator and of those inside it, as Python writes it."""
    return {
        name: type(value).__name__ if hasattr(value, "get_params") else _text(value)
        for name, value in sorted(estimator.get_params(deep=True).items())
    }


def _text(value: object) -> str:
    """`repr` in one line, without the addresses that differ from process to process."""
    return " ".join(re.sub(r" at 0x[0-9a-f]+", "", repr(value)).split())
