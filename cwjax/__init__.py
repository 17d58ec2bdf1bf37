"""cwjax: does class weighting help on this data, by how much, and how sure are we?

Public names are imported on first use, so that `import cwjax` costs nothing and `--help` does not
pay for JAX.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cwjax.api import Study, compare, open_study, paired_comparison
    from cwjax.api_estimators import compare_estimators
    from cwjax.api_models import load_model
    from cwjax.arms.arm import ArmContext, scheme
    from cwjax.arms.row import ArmRow
    from cwjax.arms.schemes import weighted_row
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
    "ArmContext",
    "ArmRow",
    "ConfigError",
    "DataConfig",
    "Dataset",
    "RuntimeConfig",
    "Study",
    "StudyConfig",
    "TrainConfig",
    "compare",
    "compare_estimators",
    "load_dataset",
    "load_model",
    "open_study",
    "paired_comparison",
    "run",
    "scheme",
    "weighted_row",
]

_HOMES = {
    "AnalysisConfig": "cwjax.config",
    "CNN": "cwjax.models.cnn",
    "ArmContext": "cwjax.arms.arm",
    "ArmRow": "cwjax.arms.row",
    "ConfigError": "cwjax.errors",
    "DataConfig": "cwjax.config",
    "Dataset": "cwjax.data.dataset",
    "RuntimeConfig": "cwjax.config",
    "Study": "cwjax.api",
    "StudyConfig": "cwjax.config",
    "TrainConfig": "cwjax.config",
    "compare": "cwjax.api",
    "compare_estimators": "cwjax.api_estimators",
    "load_dataset": "cwjax.data.sources",
    "load_model": "cwjax.api_models",
    "open_study": "cwjax.api",
    "paired_comparison": "cwjax.api",
    "run": "cwjax.study.run",
    "scheme": "cwjax.arms.arm",
    "weighted_row": "cwjax.arms.schemes",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cwjax' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
