"""What the small comparison leaves when nothing goes wrong, and when it is stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
from comparisons import Compare


@pytest.fixture(scope="session")
def compare(tiny_npz: str) -> Compare:
    return Compare(tiny_npz)


@pytest.fixture(scope="session")
def unbroken(compare: Compare, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a comparison in which nothing went wrong."""
    out = tmp_path_factory.mktemp("unbroken") / "out"
    assert compare(out) == (0, "")
    return out


@pytest.fixture(scope="session")
def interrupted(compare: Compare, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with two checkpoints of each of two runs, and no finished run."""
    out = tmp_path_factory.mktemp("interrupted") / "out"
    stop = [("terminate", "*.checkpoint", 6)]
    code, _ = compare(out, faults=stop, checkpoint_seconds=0)
    assert code == 143
    assert len(list(out.glob("checkpoints/*/*.checkpoint"))) == 4
    assert not list(out.glob("runs/*/*"))
    return out
