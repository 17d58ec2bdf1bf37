"""A trained model as a directory of its own: for `cwjax.load_model`, and for other frameworks."""

from __future__ import annotations

import importlib.metadata
import io
from pathlib import Path

import numpy as np

from cwjax.analysis.deployment import fit_temperature
from cwjax.analysis.metrics import METRICS, score
from cwjax.errors import ConfigError
from cwjax.models.registry import OWN_MODEL, model_name
from cwjax.report.exported import readme
from cwjax.store import schema
from cwjax.store.directory import MODELS, StudyDirectory
from cwjax.store.schema import ExportedModel, RunRecord, defined_scores
from cwjax.training.runs import RunKey

MODEL = "model.json"
"""Tells what an exported model is."""

ARRAYS = "arrays.npz"
"""Its parameters."""


def export(directory: StudyDirectory, key: RunKey, out: Path) -> ExportedModel:
    """Writes a run's model to a new directory.

    Args:
        directory: of the study, whose models were kept.
        key: of the run.
        out: to be written.

    Raises:
        ConfigError: the study is of estimators; the run is not there, has diverged, or its model
            was not kept; or `out` is there already.
    """
    study = directory.known_study()
    if study.estimators:
        raise ConfigError(
            f"{directory.path} holds estimators, which are not kept: fit the one you want again "
            "with scikit-learn"
        )
    if out.exists():
        raise ConfigError(f"--out {out} exists: give a new directory")
    record = _finished(directory, key)
    header, arrays = directory.read_model(key)
    cell, labels = study.cells[key.cell], record.validation_labels
    exported = ExportedModel(
        cwjax=importlib.metadata.version("cwjax"),
        run=key,
        dataset=cell.dataset,
        columns=header.columns,
        model=model_name(study.train.model, cell.dataset.input_shape),
        own_model=study.own_model,
        precision=study.train.precision,
        cpu_threads=study.environment.cpu_threads,
        chosen=record.chosen,
        temperature=None if labels is None else fit_temperature(record.validation_logits, labels),
        logit_prior=None if record.logit_prior is None else tuple(record.logit_prior.tolist()),
        class_counts=tuple(record.class_counts.tolist()),
        test_scores=defined_scores(record),
    )
    written = StudyDirectory(out)
    if own := OWN_MODEL.fullmatch(study.train.model):
        source = directory.path / MODELS / own[1]
        if not source.is_file():
            raise ConfigError(f"{source} is missing, the file that the model is written in")
        written.write_bytes(own[1], source.read_bytes())
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    written.write_bytes(ARRAYS, buffer.getvalue())
    written.write_text("README.md", readme(exported, arrays))
    written.write_bytes(MODEL, schema.to_json(exported))  # last: with it the directory is whole
    return exported


def best_on_validation(
    directory: StudyDirectory, cell: str, arm: str | None = None, seed: int | None = None
) -> RunKey:
    """The run with the best primary metric on its own validation examples, the first of equals.

    Args:
        directory: of the study.
        cell: in which it is looked for.
        arm: the only one that is looked at.
        seed: the only one that is looked at.

    Raises:
        ConfigError: no run has ended well, or validation labels were not stored.
    """
    study = directory.known_study()
    metric = METRICS[study.analysis.metric]
    found: list[tuple[float, RunKey]] = []
    for stored in study.arms:
        for each in study.seeds:
            key = RunKey(cell, stored.name, each)
            if arm not in (None, stored.name) or seed not in (None, each):
                continue
            if not directory.has_run(key) or (record := directory.read_run(key)).status != "ok":
                continue
            if record.validation_labels is None:
                raise ConfigError(f"{directory.path} holds no validation labels: give --seed")
            value = score(
                metric.name,
                record.validation_logits,
                record.validation_labels,
                record.class_counts,
            )
            found.append((value if metric.higher_is_better else -value, key))
    defined = [each for each in found if np.isfinite(each[0])]
    if not defined:
        raise ConfigError(f"no run of {cell} has a {metric.title} on validation: give --seed")
    return max(defined, key=lambda each: each[0])[1]


def _finished(directory: StudyDirectory, key: RunKey) -> RunRecord:
    if not directory.has_run(key):
        raise ConfigError(f"{directory.path} holds no run {key} of {key.cell}: give another")
    record = directory.read_run(key)
    if record.status != "ok":
        raise ConfigError(f"{key} has diverged: give another run")
    return record
