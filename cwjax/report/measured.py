"""How an experiment was measured: everything needed to judge it and to do it again."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping
from typing import Any

from cwjax.config import ExperimentConfig


def facts(config: Mapping[str, Any]) -> dict[str, str]:
    """Data set, seeds, versions: name -> value.

    Args:
        config: the content of `config.json`.
    """
    dataset, environment = config["dataset"], config["environment"]
    height, width, channels = dataset["image_shape"]
    counts = {json.dumps(counts)[1:-1] for counts in config["class_counts"].values()}
    values = {
        "data set": dataset["name"],
        "fingerprint (SHA-256)": dataset["fingerprint"],
        "images": f"{height} × {width} × {channels}",
        "training file": f"{dataset['num_train']:,} examples",
        "test examples": f"{dataset['num_test']:,}",
        "training examples a class": counts.pop() if len(counts) == 1 else "differ by seed, below",
        "seeds": ", ".join(map(str, config["seeds"])),
        "device": f"{environment['platform']} ({environment['device_kind']})",
        "versions": ", ".join(
            f"{name} {version}"
            for name, version in environment.items()
            if name not in ("platform", "device_kind")
        ),
    }
    for arm, same in config["equal_arms"].items():
        values[f"arm {arm}"] = f"has the same settings as {same} here: trained once"
    if config["environment_changes"]:
        values["environment changed"] = "; ".join(config["environment_changes"])
    return values


def settings(config: Mapping[str, Any]) -> dict[str, str]:
    """Every setting that all runs share: name -> value, None as "not set"."""
    return {
        name: "not set" if value is None else str(value)
        for part in ("data", "train", "analysis")
        for name, value in config["settings"][part].items()
    }


def class_counts(config: Mapping[str, Any]) -> list[tuple[int, int]]:
    """The least and the largest number of training examples of each class over the seeds."""
    by_class = zip(*config["class_counts"].values(), strict=True)
    return [(min(counts), max(counts)) for counts in by_class]


def span(low: int, high: int) -> str:
    """`97`, or `7 to 360` where seeds differ."""
    return f"{low}" if low == high else f"{low} to {high}"


def title(config: Mapping[str, Any]) -> str:
    """The data and their imbalance in a few words."""
    data = config["settings"]["data"]
    if data["imbalance"] == "none":
        return f"{config['dataset']['name']}, as it is"
    profile = data["imbalance"].replace("_", "-")
    return f"{config['dataset']['name']}, {profile}, imbalance factor {data['imbalance_factor']:g}"


def command(config: Mapping[str, Any]) -> str:
    """The command that does it again; files are named without their directory."""
    default = ExperimentConfig()
    parts = ["python", "-m", "experiments.compare"]
    for part in ("data", "train", "analysis"):
        defaults = dataclasses.asdict(getattr(default, part))
        for name, value in config["settings"][part].items():
            if value != defaults[name]:
                parts += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    parts += ["--arms", *config["arms"], "--baseline", config["settings"]["baseline"]]
    seeds = config["seeds"]
    if seeds == list(range(len(seeds))):
        parts += ["--num-seeds", str(len(seeds))]
    else:
        parts += ["--seeds", *map(str, seeds)]
    if config["null_control"]:
        parts.append("--null-control")
    return shlex.join(parts)
