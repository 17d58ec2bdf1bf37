"""Directories of drawn runs, ready to be looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from cwjax.results.derive import derive
from cwjax.results.store import Store
from drawn_runs import write_runs


@pytest.fixture
def make_directory(tmp_path: Path) -> Callable[..., Path]:
    """Writes runs as `write_runs` does and derives the rest; returns the directory."""

    def make(effects: Mapping[str, float], num_seeds: int = 8, **settings: Any) -> Path:
        directory = tmp_path / f"experiment-{len(list(tmp_path.iterdir()))}"
        write_runs(directory, effects, num_seeds, **settings)
        derive(Store(directory))
        return directory

    return make
