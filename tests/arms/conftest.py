"""What a test registers is gone after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cwjax.arms.arm import SCHEMES


@pytest.fixture(autouse=True)
def _schemes_as_before() -> Iterator[None]:
    before = dict(SCHEMES)
    yield
    SCHEMES.clear()
    SCHEMES.update(before)
