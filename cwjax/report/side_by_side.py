"""Several experiments on one page, each with its own verdict."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any

from cwjax.results import measured
from cwjax.results.contents import Contents
from cwjax.results.figures import differences_figure
from cwjax.results.html import Table, differences_table, environment, scores_table
from cwjax.results.style import ArmStyle, arm_styles
from cwjax.results.summary import SHOWN_METRICS, headline

Experiment = tuple[Contents, Mapping[str, Any]]  # and the content of its comparison.json


def html_side_by_side(experiments: Sequence[Experiment]) -> str:
    """The page: what differs between the experiments, then each one's verdict, table and figure.

    Args:
        experiments: at most 26, as they are lettered.
    """
    looks = _common_styles(experiments)
    labels = string.ascii_uppercase[: len(experiments)]
    overview = Table(
        "The experiments",
        ["experiment", "data", "seeds", "finding"],
        [
            [label, measured.title(contents.config), str(len(contents.seeds)), headline(comparison)]
            for label, (contents, comparison) in zip(labels, experiments, strict=True)
        ],
        words=True,
    )
    return environment().get_template("side_by_side.html.jinja").render(
        title=f"{len(experiments)} experiments side by side",
        looks=looks,
        overview=overview,
        different=_different_settings(labels, experiments),
        experiments=[
            _experiment(label, contents, comparison, looks)
            for label, (contents, comparison) in zip(labels, experiments, strict=True)
        ],
    )  # fmt: skip


def _experiment(
    label: str, contents: Contents, comparison: Mapping[str, Any], looks: Mapping[str, ArmStyle]
) -> dict[str, Any]:
    estimated = [entry for entry in comparison["comparisons"] if entry["estimates"]]
    return {
        "label": label,
        "title": measured.title(contents.config),
        "headline": headline(comparison),
        "differences": differences_table(comparison) if comparison["comparisons"] else None,
        "figure": differences_figure(estimated, looks, f"differences-{label}")
        if estimated
        else None,
        "scores": scores_table(comparison, SHOWN_METRICS),
    }


def _common_styles(experiments: Sequence[Experiment]) -> dict[str, ArmStyle]:
    """One look an arm over all experiments; the baseline of the first is grey."""
    arms = dict.fromkeys(arm for contents, _ in experiments for arm in contents.arms)
    trained = {arm for contents, _ in experiments for arm in contents.config["arms"]}
    return arm_styles(list(arms), experiments[0][0].baseline, set(arms) - trained)


def _different_settings(labels: str, experiments: Sequence[Experiment]) -> Table:
    settings = [measured.settings(contents.config) for contents, _ in experiments]
    rows = [
        [name, *(each[name] for each in settings)]
        for name in settings[0]
        if len({each[name] for each in settings}) > 1
    ]
    return Table("Settings that differ", ["setting", *labels], rows, words=True)
