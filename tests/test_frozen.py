"""Numbers that stay as they are: draws, rows and what is derived from stored runs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from golden import make_frozen

FROZEN = json.loads(make_frozen.FILE.read_text("utf-8"))


def assert_frozen(actual: dict[str, Any], expected: dict[str, Any], tolerance: float) -> None:
    now = dict(make_frozen.leaves(json.loads(json.dumps(actual))))
    then = dict(make_frozen.leaves(expected))
    assert now.keys() == then.keys()
    for place, value in then.items():
        if isinstance(value, float) and isinstance(now[place], int | float):
            close = pytest.approx(value, rel=tolerance, abs=tolerance)
            assert now[place] == close, place
        else:
            assert now[place] == value, place


def test_splits() -> None:
    assert make_frozen.splits() == FROZEN["splits"]


def test_rows_to_six_digits() -> None:
    assert_frozen(make_frozen.rows(), FROZEN["rows"], 1e-6)


def test_orders_of_epochs() -> None:
    assert make_frozen.orders() == FROZEN["orders"]


def test_mixing() -> None:
    assert_frozen(make_frozen.mixed(), FROZEN["mixing"], 1e-6)


def test_what_is_derived_from_stored_runs() -> None:
    assert_frozen(make_frozen.derived(), FROZEN["derived"], 1e-9)


def test_nothing_is_left_out() -> None:
    assert set(FROZEN) == {"splits", "rows", "orders", "mixing", "derived"}
    assert len(FROZEN["splits"]) == 15
    assert len(FROZEN["rows"]) == 28
    assert len(FROZEN["derived"]["arms"]) > 1_000
