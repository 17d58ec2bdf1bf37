"""Settings that check themselves, before anything is loaded."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from cwjax.config import (
    MAX_SEEDS,
    AnalysisConfig,
    DataConfig,
    DesignConfig,
    RuntimeConfig,
    StudyConfig,
    TrainConfig,
)
from cwjax.errors import ConfigError


@pytest.mark.fault(47, 48, 49)
@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (DataConfig, {"imbalance_factor": 0.5}, "--imbalance-factor is 0.5: give a finite number"),
        (DataConfig, {"imbalance_factor": float("nan")}, "--imbalance-factor is nan"),
        (DataConfig, {"imbalance_factor": float("inf")}, "--imbalance-factor is inf"),
        (
            DataConfig,
            {"imbalance": "steps"},
            "--imbalance is 'steps': choose one of auto, no",
        ),
        (DataConfig, {"protocol": "notebook"}, "give --imbalance none, not long_tailed"),
        (DataConfig, {"imbalance": "none", "permute_classes": True}, "has no effect without an im"),
        (TrainConfig, {"num_epochs": 0}, "--num-epochs is 0"),
        (TrainConfig, {"batch_size": 0}, "--batch-size is 0"),
        (TrainConfig, {"learning_rate": 0.0}, "--learning-rate is 0.0"),
        (TrainConfig, {"learning_rate": float("inf")}, "--learning-rate is inf"),
        (TrainConfig, {"reduction": "sum"}, "--reduction is 'sum'"),
        (AnalysisConfig, {"confidence": 0.9999999999999999}, "give a number from 0.5 to 0.9999"),
        (AnalysisConfig, {"confidence": 0.3}, "--confidence is 0.3"),
        (AnalysisConfig, {"confidence": float("nan")}, "--confidence is nan"),
        (AnalysisConfig, {"smallest_effect": -1.0}, "--smallest-effect is -1.0"),
        (AnalysisConfig, {"diverged": "drop"}, "--diverged is 'drop': choose one of drop-pair"),
        (DesignConfig, {"num_seeds": 0}, f"give an integer from 1 to {MAX_SEEDS}"),
        (DesignConfig, {"num_seeds": 10**9}, f"give an integer from 1 to {MAX_SEEDS}"),
        (DesignConfig, {"seeds": ()}, "--seeds is empty"),
        (DesignConfig, {"seeds": (3, 4, 3)}, r"--seeds repeats \[3\]"),
        (DesignConfig, {"seeds": (-1,)}, r"--seeds has -1: give integers from 0 to 2\*\*32 - 1"),
        (DesignConfig, {"seeds": (2**32,)}, "--seeds has 4294967296"),
        (DesignConfig, {"seeds": tuple(range(MAX_SEEDS + 1))}, "--seeds has 10001 seeds"),
        (StudyConfig, {"data": ()}, "a study needs the data of at least one cell"),
        (RuntimeConfig, {"max_parallel_runs": 0}, "--max-parallel-runs is 0"),
        (RuntimeConfig, {"platform": "cuda"}, "--platform is 'cuda': choose one of auto, cpu"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    make: Callable[..., object], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make(**settings)
    assert "\n" not in str(caught.value)


def test_ranges_that_are_just_allowed() -> None:
    assert AnalysisConfig(confidence=0.9999).confidence == 0.9999
    assert DataConfig(imbalance_factor=1).factor == 1
    assert DesignConfig(seeds=(2**32 - 1,)).all_seeds == (2**32 - 1,)
    start = time.monotonic()
    assert len(DesignConfig(seeds=tuple(range(MAX_SEEDS))).all_seeds) == MAX_SEEDS
    assert time.monotonic() - start < 1  # repeats are counted in linear time


def test_cells_are_named_by_data_set_and_profile() -> None:
    data = [
        DataConfig(dataset="npz:data/my digits.npz", imbalance="none"),
        DataConfig(dataset="npz:data/my digits.npz", imbalance_factor=2.5),
        DataConfig(imbalance="step", imbalance_factor=10),
    ]
    names = ["my_digits-none", "my_digits-long_tailed-2.5", "mnist5k-step-10"]
    assert list(StudyConfig(data=tuple(data)).cells) == names
    assert [each.name() for each in data] == names


def test_cells_of_one_name_are_refused() -> None:
    pair = (DataConfig(dataset="npz:a/x.npz"), DataConfig(dataset="npz:b/x.npz"))
    with pytest.raises(ConfigError, match=r"npz:a/x\.npz and npz:b/x\.npz would both be named x"):
        StudyConfig(data=pair)


def test_places_are_no_part_of_what_is_compared() -> None:
    data = DataConfig(dataset="npz:/home/me/mine.npz").without_directory()
    assert data.dataset == "npz:mine.npz"
    assert DataConfig().without_directory() == DataConfig()


def test_settings_import_nothing_that_is_slow() -> None:
    code = "import sys, cwjax.config; print({'numpy', 'jax', 'msgspec'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("set()\n", "")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "long_tailed"),
        ({"dataset": "mnist"}, "long_tailed"),
        ({"dataset": "folder:photos"}, "none"),
        ({"dataset": "folder:photos", "imbalance_factor": 10.0}, "long_tailed"),
        ({"dataset": "folder:photos", "permute_classes": True}, "long_tailed"),
        ({"dataset": "folder:photos", "imbalance": "step"}, "step"),
        ({"imbalance": "none"}, "none"),
    ],
)
def test_data_of_ones_own_are_taken_as_they_are(settings: dict[str, Any], expected: str) -> None:
    assert DataConfig(**settings).imbalance == expected


def test_a_cluster_needs_ray_and_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    for address in ("local", "auto", "head.example.org:6379"):
        assert RuntimeConfig(cluster=address).cluster == address
    for address in ("", "LOCAL", "head", "head:port", "ray://head:1"):
        with pytest.raises(ConfigError, match="give local, auto or HOST:PORT"):
            RuntimeConfig(cluster=address)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"--cluster needs Ray: pip install 'cwjax\[cluster\]'"):
        RuntimeConfig(cluster="auto")
