"""How a study was measured: everything needed to judge it and to do it again."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TypeAlias

import numpy as np

from cwjax.analysis.looks import default_looks
from cwjax.arms.custom_weights import CustomWeights
from cwjax.config import (
    NAMED_SOURCES,
    AnalysisConfig,
    DataConfig,
    SourceConfig,
    TrainConfig,
    default_training,
)
from cwjax.models.estimators import ESTIMATORS, PREFIX, is_estimator
from cwjax.report import words
from cwjax.store.contents import CellContents
from cwjax.store.schema import CodeIdentity, RunRecord, StoredArm, StoredCell, StudyFile

_Config: TypeAlias = DataConfig | TrainConfig | AnalysisConfig

PLACEHOLDER = "PATH/TO"
"""Stands in commands for directories that are not recorded."""


def facts(study: StudyFile) -> dict[str, str]:
    """Seeds, code, device, versions: name -> value."""
    environment = study.environment
    values = {
        "seeds": words.seeds_text(study.seeds),
        "code": "; ".join(map(_code_text, study.code)) or "not recorded",
        "device": f"{environment.platform} ({environment.device_kind})",
        "versions": ", ".join(f"{name} {v}" for name, v in environment.versions.items()),
    }
    if environment.cpu_threads is not None:
        values["CPU threads"] = str(environment.cpu_threads)
    for flag, value in environment.jax_flags.items():
        values[f"JAX flag {flag}"] = str(value)
    if study.environment_changes:
        values["environment changed"] = "; ".join(study.environment_changes)
    return values


def data_facts(cell: StoredCell) -> dict[str, str]:
    """The data of a cell: name -> value."""
    dataset = cell.dataset
    values = {
        "data set": dataset.name,
        "fingerprint (SHA-256)": dataset.fingerprint,
        "inputs": " × ".join(map(str, dataset.input_shape)),
        "training file": f"{dataset.num_train:,} examples",
        "test examples": f"{dataset.num_test:,}",
        "training examples per class": _counts_text(cell.class_counts),
        "validation examples per class": _counts_text(cell.validation_counts),
    }
    if cell.data.test_split == "per-seed":
        values["test examples"] = "a fifth of all examples, drawn anew by each seed"
    not_validated = words.not_validated(dataset.class_names, cell.validation_counts)
    if not_validated is not None:
        values["validation scores"] = not_validated
    for number, note in enumerate(dataset.notes, start=1):
        values[f"note {number}"] = note
    for arm, same in cell.equal_arms.items():
        values[f"arm {arm}"] = f"has the same settings as {same} here: trained once"
    return values


def _counts_text(by_seed: Mapping[int, Sequence[int]]) -> str:
    texts = {", ".join(map(str, counts)) for counts in by_seed.values()}
    return texts.pop() if len(texts) == 1 else "differ by seed" if texts else "not recorded"


def _code_text(code: CodeIdentity) -> str:
    commit = "" if code.commit is None else f", commit {code.commit[:12]}"
    return f"cwjax {code.version}{commit}{' with changes' if code.dirty else ''}"


def settings(study: StudyFile, cell: StoredCell | None = None) -> dict[str, str]:
    """Every setting that has an effect: name -> value.

    Args:
        study: its training and analysis.
        cell: its data; None where cells differ.
    """
    parts: list[_Config] = [study.train, study.analysis]
    if cell is not None:
        parts.insert(0, cell.data)
    values = {
        name: "not set" if value is None else str(value)
        for part in parts
        for name, value in _in_effect(part).items()
    }
    for name, estimator in study.estimators.items():
        settings = ", ".join(f"{key}={value}" for key, value in estimator.parameters.items())
        values[name] = f"{estimator.kind.rpartition('.')[2]}({settings})"
    return values


def _in_effect(config: _Config) -> dict[str, object]:
    """The fields of a configuration without those that change nothing."""
    values = dataclasses.asdict(config)
    if isinstance(config, DataConfig):
        given, default = values.pop("source"), dataclasses.asdict(SourceConfig())
        values |= {name: value for name, value in given.items() if value != default[name]}
    if isinstance(config, TrainConfig) and is_estimator(config.model):
        for name in TrainConfig.of_networks():
            del values[name]
    if isinstance(config, DataConfig) and config.imbalance == "none":
        del values["imbalance_factor"], values["permute_classes"]
    return values


def class_counts(cell: StoredCell) -> list[tuple[int, int]]:
    """The least and the largest number of training examples of each class over the seeds."""
    by_class = zip(*cell.class_counts.values(), strict=True)
    return [(min(counts), max(counts)) for counts in by_class]


def class_order(cell: StoredCell) -> np.ndarray:
    """Class indices from the largest to the smallest, by their mean count over the seeds."""
    counts = np.array(list(cell.class_counts.values()), float)
    return np.argsort(-counts.mean(axis=0), kind="stable")


def recalls(runs: Sequence[RunRecord]) -> np.ndarray:
    """Recall of each class `[num_runs, num_classes]`, NaN for a class absent from the test set."""
    return np.stack([run.class_scores["recall"] for run in runs])


def stage_steps(contents: CellContents) -> dict[str, tuple[int, ...]]:
    """Optimiser steps of each stage of an arm's first run, for every arm trained in steps."""
    first = {record.key.arm: record.stage_steps for record in reversed(contents.records)}
    return {arm: first[arm] for arm in contents.arms if first.get(arm)}


def title(study: StudyFile) -> str:
    """The data of a study in a few words."""
    if len(study.cells) > 1:
        return f"Sweep over {len(study.cells)} cells"
    (cell,) = study.cells.values()
    return cell_title(cell)


def cell_title(cell: StoredCell) -> str:
    """The data of a cell in a few words."""
    return words.data_title(cell.dataset.name, cell.data.imbalance, cell.data.factor)


@dataclasses.dataclass(frozen=True)
class Command:
    """What does it again."""

    text: str
    note: str
    """What to put in first; empty where it runs as it is."""


def command(study: StudyFile) -> Command:
    """The command that does a study again; what is not recorded has a placeholder."""
    name = study.train.model.removeprefix(PREFIX).partition(":")[0]
    if study.estimators and name not in ESTIMATORS:
        return _call(study)
    cells = [cell.data for cell in study.cells.values()]
    places: list[str] = []
    name = "compare" if len(cells) == 1 else "sweep"
    parts = ["cwjax", name, *_data_flags(cells, places)]
    if study.estimators and cells[0].test_split == "fixed":  # per-seed where nothing is said
        parts += ["--test-split", "fixed"]
    default = default_training(cells[0].protocol)
    parts += _flags(_in_effect(study.train), _in_effect(default))
    if study.own_model is not None:
        at = parts.index("--model") + 1
        file, colon, _ = parts[at].partition(":")
        if not colon:  # a class or function of a program
            file, parts[at] = f"model.py (a file with {file})", f"model.py:{file}"
        places.append(file)
        parts[at] = f"{PLACEHOLDER}/{parts[at]}"
    parts += _flags(_in_effect(study.analysis), _in_effect(AnalysisConfig()))
    if any(arm.own_rule for stored in study.arms for arm in _with_nested(stored)):
        parts += ["--schemes", f"{PLACEHOLDER}/schemes.py"]
        places.append("schemes.py (your own schemes)")
    arms = [_arm_text(arm, places) for arm in study.arms]
    parts += ["--arms", *arms]
    if study.baseline != "uniform":
        parts += ["--baseline", arms[0]]
    if study.looks:
        parts += ["--max-seeds", str(study.looks[-1])]
        if study.looks != default_looks(study.looks[-1], study.analysis.confidence):
            parts += ["--looks", *map(str, study.looks)]
    elif isinstance(seeds := _seeds(study), int):
        parts += ["--num-seeds", str(seeds)]
    else:
        parts += ["--seeds", *map(str, seeds)]
    if study.null_control:
        parts.append("--null-control")
    parts += ["--out", "results/again"]
    note = ""
    if places:
        note = f"Put in first, for {PLACEHOLDER}: the directory of {words.listed(places)}."
    return Command(shlex.join(parts), note)


def _call(study: StudyFile) -> Command:
    """The call that does a study of estimators again that a program has made."""
    whole = study.train.model not in study.estimators
    arms = [_arm_text(arm, []) for arm in study.arms]
    given = [f"seeds={_seeds(study)}", f"metric={study.analysis.metric!r}"]
    data = next(iter(study.cells.values())).data
    if data.test_split != "per-seed":
        given.append(f"test_split={data.test_split!r}")
    if study.analysis.smallest_effect is not None:
        given.append(f"smallest_effect={study.analysis.smallest_effect}")
    if study.analysis.confidence != AnalysisConfig().confidence:
        given.append(f"confidence={study.analysis.confidence}")
    first = "None" if whole else "estimator"
    named = "arms={" + ", ".join(f"{arm!r}: ..." for arm in arms) + "}"
    what = named if whole else f"weights={arms!r}"
    return Command(
        f"cwjax.compare_estimators({first}, X, y, {what}, {', '.join(given)})",
        "In Python, with the same X and y and the estimators of the settings above.",
    )


def _seeds(study: StudyFile) -> int | list[int]:
    """How many where they are 0, 1, 2, …; else which."""
    counted = study.seeds == tuple(range(len(study.seeds)))
    return len(study.seeds) if counted else list(study.seeds)


def _data_flags(cells: Sequence[DataConfig], places: list[str]) -> list[str]:
    """Flags whose product is these cells, as those of a sweep are."""
    default, first = DataConfig(), cells[0]
    datasets = list(dict.fromkeys(data.dataset for data in cells))
    profiles = list(dict.fromkeys(data.imbalance for data in cells))
    factors = list(dict.fromkeys(data.factor for data in cells if data.imbalance != "none"))
    parts = []
    if datasets != [default.dataset]:
        parts += ["--dataset", *(_place(dataset, places) for dataset in datasets)]
    unsaid = default.imbalance
    if len(cells) == 1:
        unsaid = DataConfig(
            dataset=first.dataset,
            imbalance_factor=factors[0] if factors else default.imbalance_factor,
            permute_classes=first.permute_classes,
        ).imbalance
    if profiles != [unsaid]:
        parts += ["--imbalance", *profiles]
    if factors and (len(cells) > 1 or factors != [default.imbalance_factor]):
        parts += ["--imbalance-factor", *(f"{factor!r}".removesuffix(".0") for factor in factors)]
    if any(data.permute_classes for data in cells):
        parts.append("--permute-classes")
    if first.protocol != default.protocol:
        parts += ["--protocol", first.protocol]
    if first.test_split != default.test_split:
        parts += ["--test-split", first.test_split]
    given = [(f.name, getattr(c.source, f.name), f.default)
             for c in reversed(cells) for f in dataclasses.fields(SourceConfig)]  # fmt: skip
    source = SourceConfig(**{name: value for name, value, default in given if value != default})
    if source.test_file is not None:
        source = dataclasses.replace(source, test_file=_placed(source.test_file, places))
    if source.group_file is not None:
        source = dataclasses.replace(source, group_file=_placed(source.group_file, places))
    return parts + source.flags()


def _place(dataset: str, places: list[str]) -> str:
    kind, colon, place = dataset.partition(":")
    if not colon or kind in NAMED_SOURCES:
        return dataset
    return f"{kind}:{_placed(place, places)}"


def _placed(place: str, places: list[str]) -> str:
    """A file or directory below the placeholder; notes that the user has to fill that in."""
    places.append(place)
    return f"{PLACEHOLDER}/{PurePath(place).name}"


def _flags(values: dict[str, object], defaults: dict[str, object]) -> list[str]:
    parts = []
    for name, value in values.items():
        if value != defaults[name]:
            parts += [f"--{name.replace('_', '-')}", str(value)]
    return parts


def _with_nested(arm: StoredArm) -> list[StoredArm]:
    return [arm, *(each for nested in arm.weights.values() for each in _with_nested(nested))]


def _arm_text(stored: StoredArm, places: list[str]) -> str:
    """The arm as one types it: with the file that its canonical name only has the stem of."""
    text = stored.name
    for arm in _with_nested(stored):
        for file in arm.files.values():
            name = f"{file.stem}.json"
            weights = CustomWeights(file.stem, tuple(sorted(file.class_weights.items())))
            text = text.replace(str(weights), f"{PLACEHOLDER}/{name}")
            places.append(name)
    return text
