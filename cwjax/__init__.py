"""cwjax: does class weighting help on this data, by how much, and how sure are we?

Public names are imported on first use, so that `import cwjax` costs nothing and `--help` does not
pay for JAX.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cwjax.api import paired_comparison
    from cwjax.arms.arm import scheme
    from cwjax.config import (
        AnalysisConfig,
        DataConfig,
        RuntimeConfig,
        StudyConfig,
        TrainConfig,
    )
    from cwjax.data.dataset import Dataset
    from cwjax.data.sources import load_dataset
    from cwjax.errors import ConfigError
    from cwjax.models.cnn import CNN
    from cwjax.study.run import run

__all__ = [
    "CNN",
    "AnalysisConfig",
    "ConfigError",
    "DataConfig",
    "Dataset",
    "RuntimeConfig",
    "StudyConfig",
    "TrainConfig",
    "load_dataset",
    "paired_comparison",
    "run",
    "scheme",
]

_HOMES = {
    "AnalysisConfig": "cwjax.config",
    "CNN": "cwjax.models.cnn",
    "ConfigError": "cwjax.errors",
    "DataConfig": "cwjax.config",
    "Dataset": "cwjax.data.dataset",
    "RuntimeConfig": "cwjax.config",
    "StudyConfig": "cwjax.config",
    "TrainConfig": "cwjax.config",
    "load_dataset": "cwjax.data.sources",
    "paired_comparison": "cwjax.api",
    "run": "cwjax.study.run",
    "scheme": "cwjax.arms.arm",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cwjax' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
