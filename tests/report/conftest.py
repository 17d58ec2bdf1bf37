"""Directories of drawn runs, ready to be looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_runs import Effects, write_study

from cwjax.analysis.metrics import METRICS
from cwjax.analysis.results import StudyComparison
from cwjax.analysis.rules import Rules
from cwjax.report.csv_scores import CsvScores, compare_scores
from cwjax.store.directory import StudyDirectory
from cwjax.study.derive import derive

NOISE = np.array([3, -1, 2, -2, 1, -3, 2, -2, 1, -1, 4, -4]) * 1e-3


@pytest.fixture
def make_directory(tmp_path: Path) -> Callable[..., Path]:
    """Writes a study as `write_study` does and derives the rest; returns the directory."""

    def make(effects: Effects | Sequence[Effects], num_seeds: int = 8, **settings: Any) -> Path:
        directory = tmp_path / f"study-{len(list(tmp_path.iterdir()))}"
        write_study(directory, effects, num_seeds, **settings)
        derive(StudyDirectory(directory))
        return directory

    return make


@pytest.fixture
def shifted() -> Callable[..., StudyComparison]:
    """A comparison of arms that differ from `uniform` by given amounts, in balanced accuracy."""

    def make(shifts: dict[str, float], num_seeds: int = 12, **rules: Any) -> StudyComparison:
        metric = METRICS[rules.pop("metric", "balanced_accuracy")]
        scores = {"uniform": np.linspace(0.7, 0.8, num_seeds)}
        for place, (arm, shift) in enumerate(shifts.items()):
            # Even noise: an arm that does not differ is not below the detectable size by luck.
            scores[arm] = scores["uniform"] + shift + np.roll(NOISE[:num_seeds], place)
        by_seed = {arm: dict(enumerate(values.tolist())) for arm, values in scores.items()}
        given = CsvScores("drawn", metric, by_seed)
        return compare_scores(given, "uniform", Rules(metric=metric, **rules))

    return make
