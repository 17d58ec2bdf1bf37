"""Directories of studies without training: logits are drawn, everything else is the real thing."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cwjax.arms.arm import NULL_CONTROL
from cwjax.arms.row import uniform_row
from cwjax.config import AnalysisConfig, DataConfig, StudyConfig, TrainConfig
from cwjax.data.dataset import Dataset
from cwjax.store.directory import open_study
from cwjax.store.examples import keep_examples
from cwjax.store.record import HISTORY_METRICS, trained_record, with_test_logits
from cwjax.store.schema import (
    CodeIdentity,
    Environment,
    Failure,
    RunRecord,
    StoredCell,
    StudyFile,
    store_arm,
)
from cwjax.study.manifest import describe_dataset
from cwjax.study.plan import parse_design
from cwjax.training.runs import Run, RunFinished, RunKey

CELL = DataConfig().name()
"""Name of the one cell of a study that is told nothing of its data."""

FACTORS = (4.0, 16.0, 64.0)
SWEEP = tuple(DataConfig(imbalance_factor=factor) for factor in FACTORS)
"""The data of a study with three cells."""

SWEEP_EFFECTS = [  # one entry per cell of SWEEP: the difference grows with the factor
    {"uniform": 0.0, "balanced": effect, "focal": 0.0} for effect in (0.2, 0.5, 0.9)
]

Effects = Mapping[str, float]  # arm -> what `make_record` takes
RunName = RunKey | tuple[str, int]  # arm and seed, in every cell


def make_dataset(
    class_names: Sequence[str] = ("ant", "bee", "cat"),
    name: str = "toy",
    num_test_per_class: int = 20,
    image_shape: tuple[int, int, int] = (6, 5, 1),
) -> Dataset:
    rng = np.random.default_rng(0)

    def split(num_per_class: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.arange(len(class_names), dtype=np.int32), num_per_class)
        return rng.integers(0, 256, (len(labels), *image_shape), np.uint8), labels

    return Dataset.from_splits(name, split(30), split(num_test_per_class), tuple(class_names))


def class_counts(dataset: Dataset) -> np.ndarray:
    """Training examples of each class of every drawn run."""
    counts: np.ndarray = np.geomspace(100, 4, dataset.num_classes).round().astype(np.int64)
    return counts


def make_record(
    dataset: Dataset,
    key: RunKey,
    effect: float,
    *,
    num_epochs: int = 3,
    bad: bool = False,
    chosen: Collection[str] = (),
) -> RunRecord:
    """A run whose recall of rare classes grows with `effect`; pairs share their seed's noise.

    Args:
        dataset: its test labels and number of classes are used.
        key: of the run.
        effect: 0 as uniform, 1 as if classes were balanced.
        num_epochs: of its history.
        bad: whether it diverged.
        chosen: settings that a post-hoc arm chose on validation.
    """
    num_classes, counts = dataset.num_classes, class_counts(dataset)
    shared = np.random.default_rng(key.seed)
    own = np.random.default_rng([key.seed, *key.arm.encode()])

    def logits(size: int, truth: np.ndarray) -> np.ndarray:
        noise = shared.normal(0, 1, (size, num_classes)) + own.normal(0, 0.4, (size, num_classes))
        bias = (1 - effect) * np.log(counts / counts.mean())
        return (noise + bias + 2.0 * np.eye(num_classes)[truth]).astype(np.float32)

    epochs = np.arange(1, num_epochs + 1)
    curve = np.clip(0.3 + 0.5 * (1 - 0.7**epochs) + own.normal(0, 0.02, num_epochs), 0, 1)
    history = [
        {"train_loss": float(1 / epoch), **dict.fromkeys(HISTORY_METRICS, float(value))}
        for epoch, value in zip(epochs, curve, strict=True)
    ]
    test_logits = logits(len(dataset.test_labels), dataset.test_labels)
    validation_logits = logits(5, np.zeros(5, int))
    if bad:
        test_logits[0, 0] = np.nan
    weights = ((counts.mean() / counts) ** effect).astype(np.float32)
    row = uniform_row(num_classes)._replace(class_weights=weights)
    if key.arm == "crt":
        row = row._replace(second_stage_from=np.int32(num_epochs - 1))
    run = Run(
        key=key,
        key_seed=key.seed,
        row=row,
        train_indices=np.arange(dataset.num_train, dtype=np.int32),
        validation_indices=np.arange(5, dtype=np.int32),
        test_indices=np.arange(dataset.num_train, len(dataset.labels), dtype=np.int32),
        first_stage_epochs=num_epochs,
        num_epochs=num_epochs,
    )
    head_kernel = np.zeros((2, num_classes), np.float32)
    head_bias = np.zeros(num_classes, np.float32)
    finished = RunFinished(
        run, test_logits, validation_logits, head_kernel, head_bias,
        stage_steps=tuple(20 * epochs for epochs in run.stages),
    )  # fmt: skip
    record = trained_record(finished, history, dataset.labels, counts)
    if not chosen or bad:
        return record
    values = dict.fromkeys(chosen, 0.5 + 0.25 * (key.seed % 3))
    posthoc = dataclasses.replace(record, chosen=values, history={}, stage_steps=())
    return with_test_logits(posthoc, test_logits, validation_logits, dataset.test_labels)


def write_study(
    path: Path,
    effects: Effects | Sequence[Effects],
    num_seeds: int = 8,
    *,
    data: DataConfig | Sequence[DataConfig] | None = None,
    dataset: Dataset | None = None,
    seeds: tuple[int, ...] | None = None,
    null_control: bool = False,
    bad_runs: Collection[RunName] = (),
    failures: Mapping[RunName, str] | None = None,
    missing: Collection[RunName] = (),
    equal_arms: Mapping[str, str] | None = None,
    num_epochs: int = 3,
    looks: tuple[int, ...] | None = None,
    **analysis: Any,
) -> StudyFile:
    """A directory as training leaves it: `study.json`, examples and runs, nothing derived.

    Args:
        path: of the directory; one of the same study is continued.
        effects: what `make_record` takes, by arm, the baseline first; for several cells one such
            mapping per cell, all with the same arms.
        num_seeds: of every arm.
        data: of the one cell, or of each [default: one cell with the default data].
        dataset: from which all cells take their examples.
        seeds: the seeds themselves, instead of their number.
        null_control: with runs of an A/A control, whose effect is 0.
        bad_runs: those that diverged.
        failures: those that failed, each with its reason; they have no file.
        missing: those that have not been trained yet; they have no file either.
        equal_arms: arms that equal an earlier one and have its runs.
        num_epochs: of every run.
        looks: numbers of seeds at which results are read, the last of them `num_seeds`.
        **analysis: fields of `AnalysisConfig`.
    """
    dataset = dataset or make_dataset()
    by_cell = [effects] if isinstance(effects, Mapping) else list(effects)
    config = StudyConfig(
        data=(data,) if isinstance(data, DataConfig) else tuple(data or [DataConfig()]),
        arms=tuple(by_cell[0]),
        baseline=next(iter(by_cell[0])),
        num_seeds=num_seeds,
        seeds=seeds,
        max_seeds=None if looks is None else num_seeds,
        looks=looks,
        null_control=null_control,
        train=TrainConfig(num_epochs=num_epochs),
        analysis=AnalysisConfig(**analysis),
    )
    design = parse_design(config)
    counts = tuple(class_counts(dataset).tolist())
    cells = {
        name: StoredCell(
            data=each.without_directory(),
            dataset=describe_dataset(dataset),
            class_counts=dict.fromkeys(design.seeds, counts),
            equal_arms=dict(equal_arms or {}),
            split_sizes=dict.fromkeys(
                design.seeds if each.test_split == "per-seed" else (),
                (len(dataset.test_labels), dataset.num_train),
            ),
        )
        for name, each in config.cells.items()
    }
    names = dict(zip(by_cell[0], map(str, design.arms), strict=True))  # canonical

    def keys(runs: Collection[RunName]) -> list[RunKey]:
        return [
            run if isinstance(run, RunKey) else RunKey(cell, names.get(run[0], run[0]), run[1])
            for run in runs
            for cell in ([run.cell] if isinstance(run, RunKey) else cells)
        ]

    failed = [
        Failure(key, reason) for run, reason in (failures or {}).items() for key in keys([run])
    ]
    study = StudyFile(
        train=design.train,
        analysis=design.analysis,
        baseline=str(design.baseline),
        arms=tuple(map(store_arm, design.arms)),
        seeds=design.seeds,
        looks=design.looks,
        null_control=null_control,
        cells=cells,
        environment=Environment(
            versions={"python": "3.11", "jax": "0.10"}, platform="cpu", device_kind="cpu"
        ),
        code=(CodeIdentity("0.2"),),
        failures=tuple(failed),
    )
    absent = {*keys(missing), *(failure.run for failure in failed)}
    bad = set(keys(bad_runs))
    chosen = {
        str(arm): [name for name, value in arm.settings if value is None]
        for arm in design.arms
        if arm.kind == "post_hoc"
    }
    with open_study(path) as directory:
        directory.write_study(study)
        keep_examples(directory, dataset)
        for cell, of_cell in zip(cells, by_cell, strict=True):
            of_arm = {names[arm]: effect for arm, effect in of_cell.items()} | {NULL_CONTROL: 0.0}
            for key in study.run_keys:
                if key.cell == cell and key not in absent and not directory.has_run(key):
                    arm = cells[cell].equal_arms.get(key.arm, key.arm)
                    record = make_record(
                        dataset,
                        dataclasses.replace(key, arm=arm),
                        of_arm[arm],
                        num_epochs=num_epochs,
                        bad=key in bad,
                        chosen=chosen.get(arm, ()),
                    )
                    directory.write_run(dataclasses.replace(record, key=key))
    return study
