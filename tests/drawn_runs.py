"""Experiment directories without training: logits are drawn, everything else is the real thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cwjax.config import AnalysisConfig, DataConfig, ExperimentConfig
from cwjax.data.dataset import Dataset
from cwjax.plan import NULL_CONTROL
from cwjax.results.examples import pick_examples, to_bytes
from cwjax.results.manifest import manifest
from cwjax.results.record import HISTORY_METRICS, RunRecord, trained_record
from cwjax.results.store import Store, open_store

DEVICE = {"platform": "cpu", "device_kind": "cpu"}


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

    return Dataset(name, *split(30), *split(num_test_per_class), tuple(class_names))


def make_record(
    dataset: Dataset, arm: str, seed: int, effect: float, *, num_epochs: int = 3, bad: bool = False
) -> RunRecord:
    """A run whose recall of rare classes grows with `effect`; pairs share their seed's noise."""
    num_classes, labels = dataset.num_classes, dataset.test_labels
    counts = np.geomspace(100, 4, num_classes).round().astype(np.int64)
    shared, own = np.random.default_rng(seed), np.random.default_rng([seed, *arm.encode()])

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
    test_logits = logits(len(labels), labels)
    if bad:
        test_logits[0, 0] = np.nan
    weights = (counts.mean() / counts) ** effect
    return trained_record(
        arm=arm,
        seed=seed,
        history=history,
        test_logits=test_logits,
        test_labels=labels,
        validation_logits=logits(5, np.zeros(5, int)),
        class_counts=counts,
        class_weights=weights.astype(np.float32),
        head_kernel=np.zeros((2, num_classes), np.float32),
        head_bias=np.zeros(num_classes, np.float32),
    )


def write_runs(
    directory: Path,
    effects: Mapping[str, float],
    num_seeds: int = 8,
    *,
    dataset: Dataset | None = None,
    null_control: bool = False,
    bad_runs: Sequence[tuple[str, int]] = (),
    equal_arms: Mapping[str, str] | None = None,
    num_epochs: int = 3,
    data: Mapping[str, Any] | None = None,
    **analysis: Any,
) -> None:
    """A directory as training leaves it: settings, examples and runs, nothing derived."""
    dataset = dataset or make_dataset()
    config = ExperimentConfig(
        data=DataConfig(**(data or {})),
        analysis=AnalysisConfig(**analysis),
        arms=tuple(effects),
        num_seeds=num_seeds,
        null_control=null_control,
    )
    with open_store(directory) as store:
        write_start(store, config, dataset, equal_arms)
        for arm, effect in [*effects.items(), *([(NULL_CONTROL, 0.0)] if null_control else [])]:
            for seed in config.all_seeds:
                bad = (arm, seed) in bad_runs
                store.write_run(
                    make_record(dataset, arm, seed, effect, num_epochs=num_epochs, bad=bad)
                )


def write_start(
    store: Store,
    config: ExperimentConfig,
    dataset: Dataset,
    equal_arms: Mapping[str, str] | None = None,
) -> None:
    """What is in a directory before the first run."""
    counts = make_record(dataset, "uniform", 0, 0).class_counts.tolist()
    content = manifest(
        config,
        dataset=dataset,
        class_counts={str(seed): counts for seed in config.all_seeds},
        equal_arms=equal_arms or {},
        device=DEVICE,
    )
    store.write_json("config.json", content)
    store.write_bytes("examples.npz", to_bytes(pick_examples(dataset)))
