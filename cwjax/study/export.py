"""A trained model as a directory of its own: for `cwjax.load_model`, and for other frameworks."""

from __future__ import annotations

import importlib.metadata
import io
from pathlib import Path

import numpy as np

from cwjax.analysis.deployment import fit_temperature
from cwjax.analysis.metrics import METRICS
from cwjax.errors import ConfigError, check_name
from cwjax.models.registry import OWN_MODEL, model_name
from cwjax.report.exported import readme
from cwjax.store import schema
from cwjax.store.directory import MODELS, StudyDirectory
from cwjax.store.schema import ExportedModel, RunRecord, StudyFile, defined_scores
from cwjax.study.tuning import validation_gain
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


def chosen_run(
    directory: StudyDirectory,
    *,
    cell: str | None = None,
    arm: str | None = None,
    seed: int | None = None,
    best_on_validation: bool = False,
) -> RunKey:
    """The run that is meant.

    Args:
        directory: of the study.
        cell: needed where there are several.
        arm: its name.
        seed: of the run.
        best_on_validation: the run with the best primary metric on its own validation examples, the
            first of equals; of the arm and the seed, where they are given.

    Raises:
        ConfigError: no such cell, arm or seed; none is named; or no run has such a score.
    """
    study = directory.known_study()
    if cell is None:
        if len(study.cells) > 1:
            raise ConfigError(f"there are several cells: give --cell {' or '.join(study.cells)}")
        (cell,) = study.cells
    check_name("--cell", cell, study.cells)
    if arm is not None:
        check_name("--arm", arm, study.arm_names)
    if seed is not None:
        check_name("--seed", str(seed), [str(each) for each in study.seeds])
    if not best_on_validation:
        if arm is None or seed is None:
            raise ConfigError("no model is named: give --arm and --seed, or --best-on-validation")
        return RunKey(cell, arm, seed)
    arms = [each.name for each in study.arms] if arm is None else [arm]
    seeds = study.seeds if seed is None else [seed]
    keys = [RunKey(cell, each_arm, each_seed) for each_arm in arms for each_seed in seeds]
    scores = {key: _validation_score(directory, study, key) for key in keys}
    defined = {key: value for key, value in scores.items() if np.isfinite(value)}
    if not defined:
        raise ConfigError(
            f"no run of {cell} has a {METRICS[study.analysis.metric].title} on validation: give "
            "--arm and --seed"
        )
    return max(defined, key=lambda key: defined[key])


def _validation_score(directory: StudyDirectory, study: StudyFile, key: RunKey) -> float:
    """The primary metric, larger is better; NaN without a run that ended well or its labels."""
    if not directory.has_run(key):
        return float("nan")
    record = directory.read_run(key)
    if record.status != "ok" or record.validation_labels is None:
        return float("nan")
    return validation_gain(record, record.validation_labels, study.analysis.metric)


def _finished(directory: StudyDirectory, key: RunKey) -> RunRecord:
    if not directory.has_run(key):
        raise ConfigError(f"{directory.path} holds no run {key} of {key.cell}: give another")
    record = directory.read_run(key)
    if record.status != "ok":
        raise ConfigError(f"{key} has diverged: give another run")
    return record
