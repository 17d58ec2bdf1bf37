"""No duration is taken from a clock that somebody may set."""

from __future__ import annotations

from pathlib import Path

import pytest
from comparisons import Compare, files


@pytest.mark.slow
@pytest.mark.fault(62, 70)
def test_a_clock_that_is_set_back_and_forth_changes_nothing(
    compare: Compare, unbroken: Path, tmp_path: Path
) -> None:
    """Durations come from the monotonic clock, so no checkpoint is ever due."""
    never = [("kill", "*.checkpoint", 1)]
    assert compare(tmp_path, faults=never, clock_jumps=True) == (0, "")
    assert files(tmp_path) == files(unbroken)
