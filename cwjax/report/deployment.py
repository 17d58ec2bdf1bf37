"""What would change if the models were used elsewhere: tables, a figure, and what they mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cwjax.analysis.results import DeploymentFacts, DeploymentScore, Situation, StudyComparison
from cwjax.report import words
from cwjax.report.page import Block, Paragraph, Remarks, Section, section
from cwjax.report.tables import Table, in_percent

if TYPE_CHECKING:  # matplotlib takes a second to import
    from cwjax.report.figures import Studio
    from cwjax.report.page import ReportFigure

_CAPTIONS: dict[Situation, str] = {
    "prior": "Accuracy if the classes were as common as in",
    "calibration": "Probabilities before and after division of the logits by a temperature",
    "cost": "Expected cost of a decision, if the classes were as common as in",
    "two_classes": "The rarer class",
}

SITUATIONS: tuple[Situation, ...] = tuple(_CAPTIONS)
"""In the order in which they are told."""

_REMARKS: dict[Situation, tuple[str, ...]] = {
    "prior": (
        "Nothing was trained for this: the accuracy on each class of the test set is weighted by "
        "how common the class would be.",
        "adjusted: the logits were moved from the class prior that they carry to the one in the "
        "column (Bayes' rule: + log of the new prior, - log of the carried one); left: they stayed "
        "as they are. Adjusting is right as far as the probabilities are: where --calibrate finds "
        "a temperature far from 1, it moves too much or too little.",
    ),
    "calibration": (
        "Each run's temperature is the one with the smallest log loss on its validation examples, "
        "which are as imbalanced as its training examples; the scores are of the test set.",
    ),
    "cost": (
        "Rows of the cost matrix are true classes. Probabilities are those for the prior in the "
        "column, or where an arm's logits carry no prior the logits' own.",
    ),
    "two_classes": (
        "Thresholds were chosen on validation examples, the scores are of the test set.",
        "Average precision depends on how common the class is in the test set, so it cannot be "
        "compared between test sets of other shares (McDermott et al. 2024).",
    ),
}

_CARRIED = {
    "training": "that of the training split",
    "uniform": "the uniform one",
    "other": "another one",
    "none": "none that follows from the loss, so they are only left",
}


def deployment_section(
    facts: DeploymentFacts, part: StudyComparison, studio: Studio
) -> list[Section]:
    """What was asked about one cell's models in use.

    Args:
        facts: the answers.
        part: what was found in the cell.
        studio: draws the figure.
    """
    blocks: list[Block] = [
        Paragraph(
            "What would change if the models were used where classes are as common as in your "
            "training data, or as in other data? Nothing here has a verdict: the metric that was "
            "chosen before the runs has."
        )
    ]
    for situation in SITUATIONS:
        tables = deployment_tables(facts, situation, part)
        if tables:
            blocks += [*tables, Remarks(_remarks(facts, situation))]
            if situation == "prior":
                blocks.append(_figure(facts, studio))
    return section("deployment", "Used elsewhere", blocks)


def deployment_tables(
    facts: DeploymentFacts, situation: Situation, study: StudyComparison
) -> list[Table]:
    """The scores of every arm and the differences from the baseline; none where none were asked.

    Args:
        facts: of one cell.
        situation: which of them.
        study: that they belong to.
    """
    scores = [score for score in facts.scores if score.situation == situation]
    caption, confidence = _CAPTIONS[situation], words.percent(study.confidence)
    differences = (
        f"{caption}: difference from {study.baseline} and {confidence} interval; all "
        f"{facts.num_comparisons} intervals asked for hold together"
    )
    compared = [score for score in scores if score.differences]
    tables = [
        _table(
            f"{caption}: mean ± standard deviation over seeds",
            scores,
            study.arms,
            _score,
            "in percent",
        ),
        _table(differences, compared, study.arms, _difference, "percentage points"),
    ]
    return [table for table in tables if table.rows]


def _table(
    caption: str,
    scores: Sequence[DeploymentScore],
    arms: Sequence[str],
    text: Callable[[DeploymentScore, str], str],
    unit: str,
) -> Table:
    """A row for every arm and what was done, a column for every place and metric."""
    columns = list(dict.fromkeys(map(_heading, scores)))
    found = {(score.how, _heading(score)): score for score in scores}
    hows = list(dict.fromkeys(score.how for score in scores))
    names = ("arm", "") if any(hows) else ("arm",)
    rows = []
    for arm in arms:
        for how in hows:
            keys = [(how, column) for column in columns]
            cells = [text(found[key], arm) if key in found else words.UNDEFINED for key in keys]
            if set(cells) != {words.UNDEFINED}:
                rows.append((arm, *filter(None, [how]), *cells))
    caption += in_percent(dict.fromkeys(score.metric for score in scores), unit)
    return Table(caption, (*names, *columns), tuple(rows), num_names=len(names), by_arm=True)


def _heading(score: DeploymentScore) -> str:
    """Of a column; under priors the one metric is in the caption."""
    if score.situation in ("prior", "cost"):
        return score.place
    return ", ".join(filter(None, (score.metric.title, score.place)))


def _score(score: DeploymentScore, arm: str) -> str:
    if arm not in score.summaries:
        return words.UNDEFINED
    return words.mean_std(score.metric, score.summaries[arm])


def _difference(score: DeploymentScore, arm: str) -> str:
    judged = score.differences.get(arm)
    if judged is None or judged.difference is None:
        return words.UNDEFINED
    text = words.signed(score.metric, judged.difference)
    bounds = words.interval(score.metric, judged.interval)
    return text if judged.interval is None else f"{text} ({bounds})"


def _remarks(facts: DeploymentFacts, situation: Situation) -> tuple[str, ...]:
    remarks = _REMARKS[situation]
    if situation not in ("prior", "cost"):
        return remarks
    by_prior: dict[str, list[str]] = {}
    for arm, prior in facts.carried.items():
        by_prior.setdefault(prior, []).append(arm)
    carried = [f"{_CARRIED[prior]}: {', '.join(arms)}" for prior, arms in sorted(by_prior.items())]
    return (*remarks, f"The class prior that logits carry is {'; '.join(carried)}.")


def _figure(facts: DeploymentFacts, studio: Studio) -> ReportFigure:
    from cwjax.report import plots

    scores = [score for score in facts.scores if score.situation == "prior"]
    told = "; ".join(
        f"{score.place}, {score.how}: "
        + ", ".join(f"{arm} {_score(score, arm)}" for arm in score.summaries)
        for score in scores
    )
    return studio.figure(
        "test_priors",
        "What would change if your test data looked like your training data?",
        "Accuracy on the same test examples, weighted as if the classes were as common as named "
        "below; means over seeds, bars are one standard deviation.",
        f"Accuracy in percent under class priors: {told}.",
        lambda: plots.test_priors(scores, studio.styles),
    )
