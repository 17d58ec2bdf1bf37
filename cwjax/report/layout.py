"""What stands on each page: of one cell, of a whole study, of scores from elsewhere."""

from __future__ import annotations

import string
from collections.abc import Sequence

from cwjax.analysis.metrics import METRICS
from cwjax.analysis.results import DeploymentFacts, StudyComparison
from cwjax.report import figures, measured, tables, words
from cwjax.report.deployment import deployment_section
from cwjax.report.figures import Scores, Studio
from cwjax.report.page import (
    Block,
    Code,
    Folded,
    Links,
    Page,
    Paragraph,
    Remarks,
    Section,
    Verdicts,
    section,
)
from cwjax.store.contents import CellContents
from cwjax.store.schema import StoredCell, StudyFile

CELLS = "cells"
"""Folder of the cells' own pages, where there are several."""

_PAIRED = (
    "Every arm is trained on the same seeds. A seed fixes the training examples, the initial "
    "parameters, the order and the dropout, so the two runs of a pair differ in nothing but the "
    "arm. The test split is never subsampled."
)
_PAIRED_FITS = (
    "Every arm is trained on the same seeds. A seed fixes the examples of every split and the "
    "estimator's random_state, so the two runs of a pair differ in nothing but the arm. Class "
    "weights are given to the estimator as sample_weight. The test split is never subsampled."
)
_ARM = "An arm is one way to train: a weighting scheme with its settings."


def cell_page(
    contents: CellContents,
    part: StudyComparison,
    deployment: DeploymentFacts | None = None,
    *,
    with_pdf: bool,
) -> Page:
    """The page of one cell: verdicts, tables, figures, classes, training, every run.

    Args:
        contents: of the cell, with at least one run.
        part: what was found in the cell.
        deployment: what was asked about its models in use, if anything.
        with_pdf: whether figures are drawn as PDF too.
    """
    studio = Studio(contents.arms, contents.baseline, with_pdf=with_pdf)
    drawn = figures.comparison_figures(studio, contents, part)
    runs = tables.runs(contents)
    num_runs = words.count(len(runs.rows), "run")
    return Page(
        title=measured.cell_title(contents.cell),
        headline=words.headline(part),
        lead=_lead(part, _data_sentence(contents)),
        opening=_differences(part),
        sections=(
            *_failed(part),
            *_verdicts(part, studio),
            *section(
                "scores",
                "Scores",
                tables.scores(part),
                tables.chosen_settings(part),
                studio.chosen_settings(part),
                _all_scores(part),
            ),
            *section("figures", "In pictures", drawn),
            *([] if deployment is None else deployment_section(deployment, part, studio)),
            *section("classes", "Class by class", tables.classes(contents)),
            *_training(contents, studio),
            *_how_measured(contents.study, contents.name),
            *section("runs", "Every run", Folded(f"The scores of {num_runs}", (runs,))),
        ),
        styles=studio.styles,
        up=None if len(contents.study.cells) == 1 else ("the whole study", "../../report.html"),
    )


def _training(contents: CellContents, studio: Studio) -> list[Section]:
    """How the runs learned, and which were not trained at all."""
    study = contents.study
    post_hoc = {arm.name for arm in study.arms if arm.kind == "post_hoc"}
    untrained = [
        arm
        for arm in contents.arms
        if (arm in post_hoc if study.estimators else not _has_history(contents, arm))
    ]
    no_curves = (
        "Estimators are trained in one go: there are no learning curves."
        if study.estimators
        else "No run was trained to its end."
    )
    computed = f"Computed from another arm's runs and not trained: {words.listed(untrained)}."
    short = words.stages_note(measured.stage_steps(contents))
    return section(
        "training",
        "Training",
        figures.training_figures(studio, contents) or Paragraph(no_curves),
        tables.stages(contents),
        Remarks((f"Note: {short}.",)) if short else None,
        Paragraph(computed) if untrained else None,
    )


def overview_page(study: StudyFile, comparison: StudyComparison, *, with_pdf: bool) -> Page:
    """The page of a study with several cells: every comparison, maps, trends, failures, links.

    Args:
        study: what it is.
        comparison: what was found in all cells.
        with_pdf: whether figures are drawn as PDF too.
    """
    studio = Studio(study.arm_names, study.baseline, with_pdf=with_pdf)
    metric = comparison.metric
    titles = {cell.cell: tables.cell_title(cell) for cell in comparison.cells}
    sentences = tuple(
        (e.pairing.treatment, f"{titles[e.pairing.cell]}: {words.full_verdict(e, metric)}")
        for e in comparison.comparisons
    )
    seeds_notes = tuple(
        f"{titles[entry.pairing.cell]}: {note}"
        for entry in comparison.comparisons
        for note in words.notes(entry, metric)
    )
    with_runs = [
        cell
        for cell in comparison.cells
        if sum(run.cell == cell.cell and run.status == "failed" for run in comparison.bad_runs)
        < len(comparison.arms) * len(comparison.seeds)
    ]
    trends = tables.trends(comparison)
    facts = f"{len(titles)} cells, each a data set with an imbalance."
    return Page(
        title=measured.title(study),
        headline=words.headline(comparison),
        lead=_lead(comparison, facts),
        opening=(),
        sections=(
            *_failed(comparison),
            *section("maps", "Where each arm helps", figures.heat_maps(studio, comparison)),
            *section(
                "differences",
                "Every comparison",
                _differences(comparison),
                Remarks(seeds_notes) if seeds_notes else None,
                Folded("Each verdict in a sentence", (Verdicts(sentences),)) if sentences else None,
            ),
            *section(
                "trends",
                "Does it depend on the imbalance?",
                trends,
                trends
                and Paragraph(
                    "Cells of one data set share inputs and seeds, so factors are not independent; "
                    "seeds are."
                ),
            ),
            *section(
                "scores", "Scores", tables.scores(comparison), tables.chosen_settings(comparison)
            ),
            *section(
                "cells",
                "The cells",
                Links(tuple((titles[c.cell], f"{CELLS}/{c.cell}/report.html") for c in with_runs)),
            ),
            *_how_measured(study),
        ),
        styles=studio.styles,
    )


def scores_page(comparison: StudyComparison, scores: Scores, *, with_pdf: bool) -> Page:
    """The page of scores that were trained elsewhere: all but what needs logits.

    Args:
        comparison: of `cwjax.report.csv_scores`.
        scores: that it was made from.
        with_pdf: whether figures are drawn as PDF too.
    """
    studio = Studio(comparison.arms, comparison.baseline, with_pdf=with_pdf)
    slopes = studio.slopes(comparison.comparisons, comparison.metric, scores, "the same seed")
    return Page(
        title=f"Scores of {comparison.cells[0].dataset}, trained elsewhere",
        headline=words.headline(comparison),
        lead=_lead(comparison, words.count(len(comparison.seeds), "seed") + "."),
        opening=_differences(comparison),
        sections=(
            *_verdicts(comparison, studio),
            *section("scores", "Scores", tables.scores(comparison), slopes),
        ),
        styles=studio.styles,
    )


def side_by_side_page(studies: Sequence[tuple[StudyFile, StudyComparison]]) -> Page:
    """Several studies on one page, each with its own verdict.

    Args:
        studies: at most 26, as they are lettered.
    """
    arms = dict.fromkeys(arm for study, _ in studies for arm in study.arm_names)
    studio = Studio(list(arms), studies[0][0].baseline, with_pdf=False)
    labels = string.ascii_uppercase[: len(studies)]
    overview = tables.Table(
        "The studies",
        ("study", "data", "seeds", "finding"),
        tuple(
            (label, measured.title(study), str(len(study.seeds)), words.headline(comparison))
            for label, (study, comparison) in zip(labels, studies, strict=True)
        ),
        is_text=True,
    )
    return Page(
        title="cwjax",
        headline=f"{len(studies)} studies side by side",
        lead=f"Each study is judged by itself; an arm has one colour throughout. {_ARM}",
        opening=(
            overview,
            *_settings_that_differ(labels, [study for study, _ in studies]),
            Remarks(tuple(words.definitions(studies[0][1]))),
        ),
        sections=tuple(
            part
            for label, (study, comparison) in zip(labels, studies, strict=True)
            for part in section(
                f"study-{label}",
                f"{label}: {measured.title(study)}",
                Paragraph(words.headline(comparison)),
                tables.differences(comparison) if comparison.comparisons else None,
                studio.differences(comparison, f"differences-{label}")
                if len(study.cells) == 1
                else None,
                tables.scores(comparison),
            )
        ),
        styles=studio.styles,
    )


def _settings_that_differ(labels: str, studies: Sequence[StudyFile]) -> list[tables.Table]:
    settings = [
        measured.settings(study, _only_cell(study)) | {"arms": ", ".join(study.arm_names)}
        for study in studies
    ]
    names = dict.fromkeys(name for each in settings for name in each)
    rows = [(name, *(each.get(name, words.UNDEFINED) for each in settings)) for name in names]
    differing = tuple(row for row in rows if len(set(row[1:])) > 1)
    if not differing:
        return []
    return [tables.Table("Settings that differ", ("setting", *labels), differing, is_text=True)]


def _only_cell(study: StudyFile) -> StoredCell | None:
    """The cell of a study that has one."""
    return next(iter(study.cells.values())) if len(study.cells) == 1 else None


def _design(comparison: StudyComparison) -> tuple[Block, ...]:
    """How the study was designed, the history of its looks, and what looks untrained."""
    notes = [*words.training_notes(comparison), *words.tuning_notes(comparison)]
    design = Paragraph(" ".join(words.design_sentences(comparison)))
    looks = tables.looks(comparison)
    return (
        *([Remarks(tuple(notes))] if notes else []),
        design,
        *([looks] if looks is not None else []),
    )


def _lead(comparison: StudyComparison, facts: str) -> str:
    """What was asked and on what, in plain words."""
    metric, effect = comparison.metric, comparison.smallest_effect
    arms = list(dict.fromkeys(entry.pairing.treatment for entry in comparison.judged))
    sentences = [
        f"Asked: {'do' if len(arms) > 1 else 'does'} {words.listed(arms)} change {metric.title}, "
        f"compared with {comparison.baseline}? {_ARM}"
        if arms
        else _ARM,
        facts,
    ]
    if effect is not None:
        sentences.append(f"Differences within ±{words.amount(metric, effect)} do not matter.")
    return " ".join(sentences)


def _has_history(contents: CellContents, arm: str) -> bool:
    return any(run.history for run in contents.runs[arm].values())


def _data_sentence(contents: CellContents) -> str:
    counts = measured.class_counts(contents.cell)
    largest, smallest = max(high for _, high in counts), min(low for low, _ in counts)
    sizes = [contents.cell.num_test(seed) for seed in contents.seeds]
    return (
        f"{words.count(len(sizes), 'seed')}, the same for every arm; {largest:,} down to "
        f"{smallest:,} training examples per class; judged on "
        f"{words.span(min(sizes), max(sizes))} test examples."
    )


def _differences(comparison: StudyComparison) -> tuple[Block, ...]:
    """The table of differences and what its columns mean."""
    if not comparison.comparisons:
        return ()
    return (
        tables.differences(comparison),
        Remarks(tuple(words.definitions(comparison))),
        *_design(comparison),
    )


def _failed(comparison: StudyComparison) -> list[Section]:
    """The runs that failed, and what to do about them."""
    table = tables.failures(comparison)
    tuned = any(summary.tuning for summary in comparison.summaries)
    fix = (
        "The comparisons that miss them are refused"
        + "; a tuned arm's run is chosen among its other settings" * tuned
        + ". With --retry-failed the same command trains them again."
    )
    return [] if table is None else section("failed", "Failed runs", table, Paragraph(fix))


def _verdicts(comparison: StudyComparison, studio: Studio) -> list[Section]:
    """Every verdict in a sentence, and the figure of differences."""
    entries = comparison.comparisons
    sentences = tuple(
        (entry.pairing.treatment, words.full_verdict(entry, comparison.metric)) for entry in entries
    )
    return section(
        "verdicts",
        "Verdicts",
        Verdicts(sentences) if sentences else None,
        studio.differences(comparison),
    )


def _all_scores(part: StudyComparison) -> Block:
    metrics = list(METRICS.values())
    secondary = tables.secondary(part, metrics)
    note = Paragraph(
        f"Only {part.metric.title} was chosen before the runs, so only it is judged. What stands "
        "here may suggest a question for new runs."
    )
    rest = () if secondary is None else (note, secondary)
    return Folded("Every metric", (tables.scores(part, metrics), *rest))


def _how_measured(study: StudyFile, name: str | None = None) -> list[Section]:
    """Facts and settings, of one cell or of all, and the command that does it again."""
    cell = None if name is None else study.cells[name]
    facts = measured.facts(study)
    if cell is not None:
        facts = measured.data_facts(cell) | facts
    command = measured.command(study)
    return [
        *section(
            "measured",
            "How this was measured",
            Paragraph(_PAIRED_FITS if study.estimators else _PAIRED),
            tables.pairs("Data, seeds and versions", facts),
            tables.pairs("Settings of every run", measured.settings(study, cell)),
        ),
        *section(
            "again",
            "Do it again",
            Paragraph(command.note) if command.note else None,
            Code(command.text),
        ),
    ]
