"""Stored runs, and what would become of them elsewhere."""

from __future__ import annotations

from cwjax.analysis.deployment import Questions, RunLogits, deployment_facts
from cwjax.analysis.results import DeploymentFacts
from cwjax.store.contents import CellContents, read_cell, read_headers
from cwjax.store.directory import StudyDirectory
from cwjax.store.schema import RunRecord
from cwjax.study.judge import progress, split_sizes, study_pairings

DEPLOYMENT = "deployment.json"
"""The answers, where something was asked."""


def deployed(directory: StudyDirectory, questions: Questions) -> tuple[DeploymentFacts, ...]:
    """The answers to all questions about every cell that has a run that ended well; only reads.

    Raises:
        ConfigError: see `deployment_facts`; or a file is missing or damaged.
    """
    study = directory.known_study()
    headers = read_headers(directory, study) if study.looks else {}
    expected = frozenset(progress(study, headers).expected)
    answers = (
        _of_cell(read_cell(directory, study, cell, expected), questions) for cell in study.cells
    )
    return tuple(facts for facts in answers if facts is not None)


def _of_cell(contents: CellContents, questions: Questions) -> DeploymentFacts | None:
    runs = {
        arm: {record.key.seed: _logits(contents, record) for record in contents.ok_runs(arm)}
        for arm in contents.arms
    }
    splits = split_sizes(contents.study)
    if not any(runs.values()):
        return None
    return deployment_facts(
        contents.name,
        runs,
        [pairing for pairing in study_pairings(contents.study) if pairing.cell == contents.name],
        questions,
        contents.class_names,
        contents.study.analysis.confidence,
        None if splits is None else splits[contents.name],
    )


def _logits(contents: CellContents, record: RunRecord) -> RunLogits:
    labels = record.test_labels
    return RunLogits(
        test_logits=record.test_logits,
        test_labels=contents.examples.test_labels if labels is None else labels,
        validation_logits=record.validation_logits,
        validation_labels=record.validation_labels,
        class_counts=record.class_counts,
        prior=record.logit_prior,
    )
