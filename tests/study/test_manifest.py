"""Whether a directory may be continued: same settings, same data, same environment."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from cwjax.results.manifest import continued
from cwjax.results.store import SCHEMA_VERSION
from drawn_runs import write_runs

from cwjax.errors import ConfigError


@pytest.fixture
def old(tmp_path: Path) -> dict[str, Any]:
    write_runs(tmp_path, {"uniform": 0.0, "balanced": 0.5}, 1)
    return json.loads((tmp_path / "config.json").read_text())


@pytest.mark.fault(20)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("jax", "0.0.1"),
        ("jaxlib", "0.0.1"),
        ("numpy", "0.0.1"),
        ("platform", "gpu"),
        ("device_kind", "NVIDIA H100"),
        ("jax_threefry_partitionable", False),
    ],
)
def test_another_environment_is_refused_or_recorded(
    old: dict[str, Any], field: str, value: object
) -> None:
    new = copy.deepcopy(old)
    new["environment"][field] = value
    change = f"{field}: {json.dumps(old['environment'].get(field))}, now {json.dumps(value)}"
    with pytest.raises(ConfigError, match="give --allow-environment-change") as error:
        continued(new, old, allow_environment_change=False)
    assert change in str(error.value)
    allowed = continued(new, old, allow_environment_change=True)
    assert allowed["environment_changes"] == [change]
    assert allowed["environment"] == old["environment"]
    assert continued(new, allowed, allow_environment_change=False) == allowed


def test_another_schema_version_is_refused(old: dict[str, Any]) -> None:
    message = f"has schema version 0, this cwjax writes {SCHEMA_VERSION}"
    with pytest.raises(ConfigError, match=message):
        continued(old, old | {"schema_version": 0}, allow_environment_change=True)
