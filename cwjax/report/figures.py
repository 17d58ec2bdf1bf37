"""Which figures a report has, each with its title, its caption and a text in its place."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cwjax.analysis.metrics import METRICS
from cwjax.results import class_plots, curves, plots
from cwjax.results.contents import Contents
from cwjax.results.disagreements import draw_disagreements, find_disagreements
from cwjax.results.style import ArmStyle, arm_styles, to_svg
from cwjax.results.summary import comparison_rows


@dataclass(frozen=True)
class ReportFigure:
    """One figure, ready for a page."""

    name: str  # of its file, without the ending
    title: str
    caption: str
    alt: str
    svg: str

    @property
    def data_uri(self) -> str:
        """For an `<img>`: its ids cannot collide with another's, and no script in it can run."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg.encode()).decode()


def styles_of(contents: Contents) -> dict[str, ArmStyle]:
    """Each arm's look."""
    controls = set(contents.arms) - set(contents.config["arms"])
    return arm_styles(contents.arms, contents.baseline, controls)


def report_figures(contents: Contents, comparison: Mapping[str, Any]) -> list[ReportFigure]:
    """Every figure that the runs allow; the same results give the same bytes."""
    styles = styles_of(contents)
    estimated = [entry for entry in comparison["comparisons"] if entry["estimates"]]
    return [
        *(_comparison_figures(contents, estimated, styles) if estimated else []),
        *_class_figures(contents, styles),
        *_training_figures(contents, styles),
    ]


def differences_figure(
    entries: Sequence[Mapping[str, Any]], styles: Mapping[str, ArmStyle], name: str = "differences"
) -> ReportFigure:
    """The figure of differences; `entries` have estimates and one metric."""
    metric = METRICS[entries[0]["metric"]]
    confidence = f"{100 * entries[0]['estimates']['seed_interval']['confidence']:g}%" if (
        entries[0]["estimates"]["seed_interval"]
    ) else "confidence"  # fmt: skip
    rows = "; ".join(
        f"{row['arm']} {row['difference']}, interval {row['interval']}"
        for row in comparison_rows(entries)
    )
    return ReportFigure(
        name=name,
        title="Difference from the baseline, seed by seed",
        caption=f"Bars are {confidence} intervals over seeds on this test set: they decide, "
        "together with the adjusted p-value. Lines show how far the mean could move with other "
        "test examples as well.",
        alt=f"Differences from {entries[0]['baseline']} in {metric.title}: {rows}.",
        svg=to_svg(plots.differences(entries, metric, styles), name),
    )


def _comparison_figures(
    contents: Contents, entries: Sequence[Mapping[str, Any]], styles: Mapping[str, ArmStyle]
) -> Iterator[ReportFigure]:
    metric = METRICS[entries[0]["metric"]]
    yield differences_figure(entries, styles)
    scores = {
        arm: {seed: run.scores[metric.name] for seed, run in runs.items()}
        for arm, runs in contents.runs.items()
    }
    ups = ", ".join(
        f"{entry['treatment']} in {sum(d > 0 for d in entry['differences'])} of "
        f"{len(entry['differences'])}"
        for entry in entries
    )
    yield ReportFigure(
        name="slopes",
        title=f"Every pair of runs: {metric.title}",
        caption="A line is one seed: the same training examples, initial parameters and order in "
        "both arms. The bold line joins the means.",
        alt=f"Lines from {contents.baseline} to each arm, one a seed. The score rises for {ups} "
        "seeds.",
        svg=to_svg(plots.slopes(scores, entries, metric, styles), "slopes"),
    )


def _class_figures(contents: Contents, styles: Mapping[str, ArmStyle]) -> Iterator[ReportFigure]:
    order = class_plots.class_order(contents)
    counts = contents.records[0].class_counts[order]
    yield ReportFigure(
        name="classes",
        title="The classes, from head to tail",
        caption="Training examples of each class (first seed), the class weights of each arm on a "
        "logarithmic scale, and training images. Arms of equal weights share a line; they differ "
        "in other ways."
        + (
            f" {class_plots.MAX_CLASSES} of {len(order)} classes are shown."
            if len(order) > class_plots.MAX_CLASSES
            else ""
        ),
        alt=f"Training examples a class fall from {counts[0]} to {counts[-1]}; class weights of "
        "each arm; a column of training images for each class.",
        svg=to_svg(class_plots.classes(contents, styles), "classes"),
    )
    treatments = [
        arm
        for arm in contents.arms
        if arm != contents.baseline and class_plots.paired_runs(contents, arm)[0]
    ]
    if treatments:
        yield ReportFigure(
            name="recall_differences",
            title="What each arm changes, class by class",
            caption="Points are means over seeds, bars reach from the smallest to the largest "
            "difference; n is the number of training examples of the class.",
            alt="Difference in recall of each class, from head to tail. "
            + " ".join(_recall_words(contents, arm) for arm in treatments),
            svg=to_svg(
                class_plots.recall_differences(contents, treatments, styles), "recall_differences"
            ),
        )
    if any(contents.ok_runs(arm) for arm in contents.arms):
        yield ReportFigure(
            name="confusion",
            title="What is taken for what",
            caption="Rows are true classes, columns predictions; each row adds up to 100% over all "
            "seeds.",
            alt="Confusion matrices of all arms side by side; the diagonals are the recalls of the "
            "table of classes.",
            svg=to_svg(class_plots.confusion_matrices(contents), "confusion"),
        )
    found = find_disagreements(contents)
    if found:
        searched = len(contents.examples.test_indices)
        everything = searched == len(contents.examples.test_labels)
        yield ReportFigure(
            name="disagreements",
            title="Where arms disagree most often",
            caption="Test images, counted over all arms and seeds; shown is the arm that differs "
            "from the baseline most often there, with both predictions."
            + ("" if everything else f" Searched: {searched:,} evenly spaced test images."),
            alt="; ".join(
                f"an image of {contents.class_names[one.label]} that {contents.baseline} takes for "
                f"{contents.class_names[one.baseline_prediction]} and {one.arm} for "
                f"{contents.class_names[one.arm_prediction]} in {one.num_runs} of {one.num_pairs} "
                "seeds"
                for one in found
            )
            + ".",
            svg=to_svg(draw_disagreements(contents, found), "disagreements"),
        )


def _recall_words(contents: Contents, arm: str) -> str:
    baseline, treatment = class_plots.paired_runs(contents, arm)
    difference = class_plots.recalls(treatment) - class_plots.recalls(baseline)
    mean = 100 * difference.mean(axis=0)[class_plots.class_order(contents)]
    return f"{arm}: {', '.join(f'{value:+.1f}' for value in mean)}."


def _training_figures(contents: Contents, styles: Mapping[str, ArmStyle]) -> Iterator[ReportFigure]:
    trained = curves.trained_arms(contents)
    if not trained:
        return
    thinned = (
        f" Of longer trainings {curves.MAX_POINTS} epochs are drawn."
        if contents.config["settings"]["train"]["num_epochs"] > curves.MAX_POINTS
        else ""
    )
    ends = ", ".join(f"{arm} {100 * curves.final_mean(contents, arm):.1f}" for arm in trained)
    yield ReportFigure(
        name="learning_curves",
        title="Learning curves",
        caption="One line a run, bold the arm's mean, grey the baseline's mean." + thinned,
        alt=f"Balanced validation accuracy over the epochs; at the end, in percent: {ends}.",
        svg=to_svg(curves.learning_curves(contents, styles), "learning_curves"),
    )
    if contents.baseline in trained and len(trained) > 1:
        yield ReportFigure(
            name="paired_curves",
            title="Does the effect last?",
            caption="Difference from the baseline's run of the same seed in balanced validation "
            "accuracy, bold the mean: an effect that fades with training returns to 0.",
            alt="Paired difference in balanced validation accuracy, epoch by epoch, one panel an "
            "arm.",
            svg=to_svg(curves.paired_curves(contents, styles), "paired_curves"),
        )
