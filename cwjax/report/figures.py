"""Which figures a report has, each with its title, its caption and a text in its place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from matplotlib.figure import Figure

from cwjax.analysis.family import Comparison
from cwjax.analysis.metrics import Metric
from cwjax.analysis.results import CellFacts, StudyComparison
from cwjax.arms.arm import NULL_CONTROL
from cwjax.report import class_plots, curves, disagreements, measured, plots, words
from cwjax.report.page import ReportFigure
from cwjax.report.style import arm_styles, to_pdf, to_svg
from cwjax.store.contents import CellContents

Scores = Mapping[str, Mapping[int, float]]
"""Arm -> seed -> score."""


class Studio:
    """Draws figures of one study in one style, as SVG and where wanted as PDF.

    Args:
        arms: every arm of the pages, in order: each gets a colour.
        baseline: grey.
        with_pdf: whether each figure is drawn as PDF too.
    """

    def __init__(self, arms: Sequence[str], baseline: str, *, with_pdf: bool) -> None:
        self.styles = arm_styles(arms, baseline, {NULL_CONTROL} & set(arms))
        self._with_pdf = with_pdf

    def figure(
        self, name: str, title: str, caption: str, alt: str, draw: Callable[[], Figure]
    ) -> ReportFigure:
        """A figure in all formats.

        Args:
            name: of its file, without the ending.
            title: above it.
            caption: below it.
            alt: in its place, for those who do not see it.
            draw: a `styled` function, ready to be called.
        """
        svg = to_svg(draw(), name)
        pdf = to_pdf(draw) if self._with_pdf else None
        return ReportFigure(name, title, caption, words.one_line(alt), svg, pdf)

    def differences(self, study: StudyComparison, name: str = "differences") -> ReportFigure | None:
        """Every arm's differences; None where nothing was estimated.

        Args:
            study: of one cell.
            name: of the figure.
        """
        metric = study.metric
        entries = [entry for entry in study.comparisons if entry.estimates is not None]
        if not entries:
            return None
        texts = []
        for entry in entries:
            assert entry.estimates is not None
            difference = words.signed(metric, entry.estimates.difference)
            judged = entry.judged
            bounds = words.interval(metric, None if judged is None else judged.interval)
            texts.append(f"{entry.pairing.treatment} {difference}, interval {bounds}")
        baseline, thin_lines = entries[0].pairing.baseline, ""
        if any(entry.new_test_sets is not None for entry in entries):
            thin_lines = (
                " Thin lines are intervals on new test sets: one that leaves out 0 holds there too."
            )
        return self.figure(
            name,
            "Difference from the baseline, seed by seed",
            f"Bars are intervals on {words.covered(study)}; all of them hold together, and one "
            "that leaves out 0 is an established difference." + thin_lines + _thinned(entries),
            f"Differences from {baseline} in {metric.title}: {'; '.join(texts)}.",
            lambda: plots.differences(
                entries, metric, study.smallest_effect, self.styles, words.covered(study)
            ),
        )

    def chosen_settings(self, study: StudyComparison) -> ReportFigure | None:
        """How many seeds chose which value of each tuned setting; None where no arm is tuned.

        Args:
            study: of one cell.
        """
        strips = [
            plots.Strip(summary.arm, setting, values, summary.chosen[setting])
            for summary in study.summaries
            if summary.tuning is not None
            for setting, values in summary.tuning.tried.items()
            if summary.chosen
        ]
        if not strips:
            return None
        texts = [f"{s.arm} {s.setting}: {words.chosen_text(s.chosen)}" for s in strips]
        return self.figure(
            "chosen_settings",
            "What tuned arms chose",
            "A strip per arm and setting, with every value that was tried and, as a disc and in "
            "parentheses, the number of seeds whose validation examples chose it.",
            f"Chosen settings: {'; '.join(texts)}.",
            lambda: plots.chosen_settings(strips, self.styles),
        )

    def slopes(
        self, entries: Sequence[Comparison], metric: Metric, scores: Scores, paired: str
    ) -> ReportFigure | None:
        """Every pair of runs; None where there is none.

        Args:
            entries: comparisons on one metric.
            metric: theirs.
            scores: on that metric.
            paired: what the two runs of a pair share, as far as it is known.
        """
        entries = [entry for entry in entries if entry.estimates is not None]
        if not entries:
            return None
        ups = ", ".join(
            f"{entry.pairing.treatment} in {sum(d > 0 for d in entry.differences)} of "
            f"{len(entry.differences)}"
            for entry in entries
        )
        return self.figure(
            "slopes",
            f"Every pair of runs: {metric.title}",
            f"One line per pair: {paired}. The bold line joins the means." + _thinned(entries),
            f"Lines from {entries[0].pairing.baseline} to each arm, one per seed. The score rises "
            f"for {ups} seeds.",
            lambda: plots.slopes(scores, entries, metric, self.styles),
        )


def _thinned(entries: Sequence[Comparison]) -> str:
    if max(len(entry.seeds) for entry in entries) <= plots.MAX_DRAWN:
        return ""
    return f" {plots.MAX_DRAWN} evenly spaced seeds are drawn; means and intervals are of all."


def comparison_figures(
    studio: Studio, contents: CellContents, part: StudyComparison
) -> list[ReportFigure]:
    """Differences, slopes and what happens class by class.

    Args:
        studio: draws them.
        contents: of the cell.
        part: what was found in the cell.
    """
    scores = {
        arm: {seed: run.scores[part.metric.name] for seed, run in runs.items()}
        for arm, runs in contents.runs.items()
    }
    paired = "one seed, with the same training examples, initial parameters and order in both arms"
    slopes = studio.slopes(part.comparisons, part.metric, scores, paired)
    return [*([slopes] if slopes else []), *_class_figures(studio, contents)]


def _class_figures(studio: Studio, contents: CellContents) -> Iterator[ReportFigure]:
    order = measured.class_order(contents.cell)
    counts = contents.records[0].class_counts[order]
    few = len(order) <= class_plots.MAX_CLASSES
    has_images = contents.examples.has_images
    yield studio.figure(
        "classes",
        "The classes, from head to tail",
        "Training examples of each class (first seed), the class weights of each arm on a "
        f"logarithmic scale{', and training images' * has_images}. Arms of equal weights share a "
        "line; they differ in other ways."
        + ("" if few else f" {class_plots.MAX_CLASSES} of {len(order)} classes are shown."),
        f"Training examples per class fall from {counts[0]} to {counts[-1]}; class weights of "
        "each arm" + "; a column of training images for each class" * has_images + ".",
        lambda: class_plots.classes(contents, studio.styles),
    )
    treatments = [
        arm
        for arm in contents.arms
        if arm != contents.baseline and class_plots.paired_runs(contents, arm)[0]
    ]
    if treatments:
        yield studio.figure(
            "recall_differences",
            "What each arm changes, class by class",
            "Points are means over seeds, bars reach from the smallest to the largest difference; "
            "n is the number of training examples of the class.",
            "Difference in recall of each class, from head to tail. "
            + " ".join(_recall_words(contents, arm) for arm in treatments),
            lambda: class_plots.recall_differences(contents, treatments, studio.styles),
        )
    if any(contents.ok_runs(arm) for arm in contents.arms):
        yield studio.figure(
            "confusion",
            "Confusion matrix",
            "Rows are true classes, columns predictions; each row adds up to 100% over all seeds.",
            "Confusion matrices of all arms side by side; the diagonals are the recalls of the "
            "table of classes.",
            lambda: class_plots.confusion_matrices(contents),
        )
    found = disagreements.find_disagreements(contents)
    if found:
        yield _disagreements_figure(studio, contents, found)


def _recall_words(contents: CellContents, arm: str) -> str:
    baseline, treatment = class_plots.paired_runs(contents, arm)
    difference = measured.recalls(treatment) - measured.recalls(baseline)
    mean = 100 * difference.mean(axis=0)[measured.class_order(contents.cell)]
    return f"{arm}: {', '.join(f'{round(value, 1) + 0.0:+.1f}' for value in mean)}."


def _disagreements_figure(
    studio: Studio, contents: CellContents, found: Sequence[disagreements.Disagreement]
) -> ReportFigure:
    names, sample = contents.class_names, disagreements.draw_sample(found)
    searched = len(contents.examples.test_indices)
    everything = searched == len(contents.examples.test_labels)
    rights = Counter(one.right for one in found)
    shares = {right: f"{100 * rights[right] / len(found):.0f}%" for right in rights}
    told = [
        f"{who} on {shares[right]}"
        for right, who in (
            ("baseline", f"{contents.baseline} is right"),
            ("arm", "the other arm"),
            ("neither", "neither"),
        )
        if right in shares
    ]
    return studio.figure(
        "disagreements",
        "Where arms disagree most often",
        f"{words.count(len(sample), 'image')} of the {len(found)} test images on which arms differ "
        f"from {contents.baseline} most often over all arms and seeds, drawn across classes and in "
        f"the proportion of right and wrong: of the {len(found)}, {words.listed(told)}. Shown is "
        "the arm that differs most often there."
        + ("" if everything else f" Searched: {searched:,} evenly spaced test images."),
        "; ".join(
            f"an image of {names[one.label]} that {contents.baseline} takes for "
            f"{names[one.baseline_prediction]} and {one.arm} for {names[one.arm_prediction]} in "
            f"{one.num_runs} of {one.num_pairs} seeds"
            for one in sample
        )
        + ".",
        lambda: disagreements.draw_disagreements(contents, sample),
    )


def training_figures(studio: Studio, contents: CellContents) -> list[ReportFigure]:
    """Learning curves; none where no run was trained to its end.

    Args:
        studio: draws them.
        contents: of the cell.
    """
    trained = curves.trained_arms(contents)
    if not trained:
        return []
    thinned = (
        f" Of longer trainings {curves.MAX_POINTS} epochs are drawn."
        if contents.study.train.num_epochs > curves.MAX_POINTS
        else ""
    )
    ends = ", ".join(f"{arm} {100 * curves.final_mean(contents, arm):.1f}" for arm in trained)
    figures = [
        studio.figure(
            "learning_curves",
            "Learning curves",
            "One line per run, bold the arm's mean, grey the baseline's mean." + thinned,
            f"Balanced validation accuracy over the epochs; at the end, in percent: {ends}.",
            lambda: curves.learning_curves(contents, studio.styles),
        )
    ]
    if contents.baseline in trained and len(trained) > 1:
        figures.append(
            studio.figure(
                "paired_curves",
                "Does the effect last?",
                "Difference from the baseline's run of the same seed in balanced validation "
                "accuracy, bold the mean: an effect that fades with training returns to 0.",
                "Paired difference in balanced validation accuracy, epoch by epoch, one panel per "
                "arm.",
                lambda: curves.paired_curves(contents, studio.styles),
            )
        )
    return figures


def heat_maps(studio: Studio, study: StudyComparison) -> list[ReportFigure]:
    """One arm after the other over data sets and factors, the verdict in each cell.

    Args:
        studio: draws them.
        study: what was found in all cells.
    """
    arms = dict.fromkeys(entry.pairing.treatment for entry in study.comparisons)
    return [
        _heat_map(studio, study, arm, f"heat_map_{place}")
        for place, arm in enumerate(arms)
        if any(e.estimates is not None for e in study.comparisons if e.pairing.treatment == arm)
    ]


def _heat_map(studio: Studio, study: StudyComparison, arm: str, name: str) -> ReportFigure:
    entries = {e.pairing.cell: e for e in study.comparisons if e.pairing.treatment == arm}
    by_place = {
        (_row_name(cell), cell.imbalance_factor): entries[cell.cell] for cell in study.cells
    }
    rows = list(dict.fromkeys(row for row, _ in by_place))
    factors = sorted({factor for _, factor in by_place})
    grid = [[by_place.get((row, factor)) for factor in factors] for row in rows]
    # One scale for all arms, so that their maps can be compared.
    found = [e.estimates.difference for e in study.comparisons if e.estimates is not None]
    largest = max(map(abs, found))
    texts = [
        f"{row}, {factor:g}: {words.signed(study.metric, entry.estimates.difference)} "
        f"({words.verdict_label(entry)})"
        for (row, factor), entry in by_place.items()
        if entry.estimates is not None
    ]
    columns = [f"{factor:g}" for factor in factors]
    return studio.figure(
        name,
        f"{arm}: difference from {study.baseline}",
        f"Mean difference in {study.metric.title}, {words.unit(study.metric)}, with the verdict; "
        "blue is better, red is worse, and the stronger the larger.",
        f"{arm} compared with {study.baseline} in {study.metric.title}: {'; '.join(texts)}.",
        lambda: plots.heat_map(grid, rows, columns, study.metric, largest),
    )


def _row_name(cell: CellFacts) -> str:
    return words.profile_title(words.dataset_name(cell.dataset), cell.imbalance)
