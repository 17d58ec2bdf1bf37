"""`config.json`: what an experiment is, and whether a call may continue a directory."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cwjax.config import ExperimentConfig
from cwjax.data.dataset import Dataset
from cwjax.errors import ConfigError
from cwjax.methods.arms import weight_files
from cwjax.results.store import SCHEMA_VERSION, Store

_PACKAGES = ("cwjax", "jax", "jaxlib", "flax", "optax", "numpy", "scipy")


def manifest(
    config: ExperimentConfig,
    *,
    dataset: Dataset,
    class_counts: Mapping[str, list[int]],
    equal_arms: Mapping[str, str],
    device: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of `config.json`.

    Args:
        config: the experiment.
        dataset: that all runs are trained on.
        class_counts: training examples of each class `[num_classes]`, for every seed.
        equal_arms: arms that equal an earlier one on every seed: name -> the earlier one's name.
        device: platform, kind and the number of runs side by side in one program.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "settings": config.settings(),
        "arms": list(config.arms),
        "seeds": list(config.all_seeds),
        "null_control": config.null_control,
        "custom_weights": weight_files(config.arms),
        "dataset": {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "num_train": len(dataset.train_labels),
            "num_test": len(dataset.test_labels),
            "image_shape": list(dataset.image_shape),
            "class_names": list(dataset.class_names),
        },
        "class_counts": dict(class_counts),
        "equal_arms": dict(equal_arms),
        "environment": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
            **device,
        },
        "environment_changes": [],
        "width": None,  # runs side by side in one program, where the device decides it
    }


def recorded_threads(directory: Path) -> int | None:
    """Threads of the CPU's pool that an experiment began with; None in a new directory."""
    content = Store(directory).read_config() or {"environment": {}}
    return content["environment"].get("cpu_threads")


def continued(
    new: dict[str, Any], old: dict[str, Any], *, allow_environment_change: bool
) -> dict[str, Any]:
    """The manifest of a directory that is continued: what `old` has, plus new arms and seeds.

    Args:
        new: what this call asks for.
        old: what the directory's `config.json` holds.
        allow_environment_change: go on under other versions or devices, and record it.

    Raises:
        ConfigError: the two are not one experiment; the differing fields are named.
    """
    if old.get("schema_version") != SCHEMA_VERSION:
        raise ConfigError(
            f"config.json has schema version {old.get('schema_version')}, this cwjax writes "
            f"{SCHEMA_VERSION}: give another --out"
        )
    differing = differences(
        {"settings": old["settings"], "dataset": old["dataset"]["fingerprint"]},
        {"settings": new["settings"], "dataset": new["dataset"]["fingerprint"]},
    )
    if differing:
        raise ConfigError(
            f"the directory holds another experiment ({'; '.join(differing)}): "
            "give the same settings or another --out"
        )
    changes = differences(old["environment"], new["environment"])
    unrecorded = [change for change in changes if change not in old["environment_changes"]]
    if unrecorded and not allow_environment_change:
        raise ConfigError(
            f"the directory was begun in another environment ({'; '.join(unrecorded)}): runs would "
            "not be comparable bit for bit; go back to it, or give --allow-environment-change"
        )
    return {
        **old,
        "arms": union(old["arms"], new["arms"]),
        "seeds": union(old["seeds"], new["seeds"]),
        "null_control": old["null_control"] or new["null_control"],
        "custom_weights": {**old.get("custom_weights", {}), **new["custom_weights"]},
        "class_counts": {**old["class_counts"], **new["class_counts"]},
        "equal_arms": new["equal_arms"],
        "environment_changes": union(old["environment_changes"], changes),
    }


def union(old: list[Any], new: list[Any]) -> list[Any]:
    """What is in either, in the order of appearance."""
    return [*old, *(item for item in new if item not in old)]


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """The fields that differ, each as `name: old, now new`."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            difference
            for key in sorted(old.keys() | new.keys())
            for difference in differences(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))
        ]
    if old == new:
        return []
    field = name.removeprefix("settings.")
    return [f"{field}: {json.dumps(old)}, now {json.dumps(new)}"]
