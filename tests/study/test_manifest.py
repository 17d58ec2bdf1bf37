"""Whether a directory may be continued: same settings, same data, same environment."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from drawn_runs import CELL, SWEEP, SWEEP_EFFECTS, write_study

from cwjax.arms.grammar import parse_arm
from cwjax.config import AnalysisConfig, TrainConfig
from cwjax.errors import ConfigError
from cwjax.store.schema import CodeIdentity, Environment, StudyFile, store_arm
from cwjax.study.manifest import continued

replace = dataclasses.replace


@pytest.fixture
def old(tmp_path: Path) -> StudyFile:
    return write_study(tmp_path, {"uniform": 0.0, "balanced": 0.5}, 1)


def in_environment(study: StudyFile, **changes: Any) -> StudyFile:
    return replace(study, environment=replace(study.environment, **changes))


@pytest.mark.fault(20)
@pytest.mark.parametrize(
    ("field", "before", "now"),
    [
        ("jax", "0.10", "0.0.1"),
        ("python", "3.11", "3.12"),
        ("platform", "cpu", "gpu"),
        ("device_kind", "cpu", "NVIDIA H100"),
        ("cpu_threads", "not set", 3),
        ("jax_threefry_partitionable", "not set", False),
    ],
)
def test_another_environment_is_refused_or_recorded(
    old: StudyFile, field: str, before: str, now: Any
) -> None:
    versions = old.environment.versions
    if field in versions:
        new = in_environment(old, versions=versions | {field: now})
    elif field.startswith("jax_"):
        new = in_environment(old, jax_flags={field: now})
    else:
        new = in_environment(old, **{field: now})
    change = f"{field}: {before}, now {now}"
    with pytest.raises(ConfigError, match="give --allow-environment-change") as error:
        continued(new, old, allow_environment_change=False)
    assert change in str(error.value)
    assert "\n" not in str(error.value)
    allowed = continued(new, old, allow_environment_change=True)
    assert allowed.environment_changes == (change,)
    assert allowed.environment == old.environment
    assert continued(new, allowed, allow_environment_change=False) == allowed


def test_every_field_of_the_environment_is_compared() -> None:
    """A field that is added is tried above."""
    names = {field.name for field in dataclasses.fields(Environment)}
    assert names == {"versions", "platform", "device_kind", "cpu_threads", "jax_flags"}


@pytest.mark.fault(20)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": TrainConfig(num_epochs=4)}, "num_epochs: 3, now 4"),
        ({"train": TrainConfig(num_epochs=3, model="other")}, "model: auto, now other"),
        ({"train": TrainConfig(num_epochs=3, optimizer="x")}, "optimizer: rmsprop, now x"),
        ({"analysis": AnalysisConfig(metric="loss")}, "metric: balanced_accuracy, now loss"),
        ({"baseline": "balanced"}, "baseline: uniform, now balanced"),
    ],
)
def test_other_settings_are_refused(old: StudyFile, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        continued(replace(old, **changes), old, allow_environment_change=True)
    assert "give the same settings or another --out" in str(error.value)


@pytest.mark.fault(20)
def test_other_data_are_refused(old: StudyFile, tmp_path: Path) -> None:
    cell = old.cells[CELL]
    other = replace(cell, data=replace(cell.data, imbalance_factor=7.0))
    changed = replace(cell, dataset=replace(cell.dataset, fingerprint="0" * 64))
    for cells, message in (
        ({other.data.name(): other}, r"imbalance_factor: 50\.0, now 7\.0"),
        ({CELL: changed}, rf"dataset: {cell.dataset.fingerprint}, now 0000"),
    ):
        with pytest.raises(ConfigError, match=message):
            continued(replace(old, cells=cells), old, allow_environment_change=True)
    sweep = write_study(tmp_path / "sweep", SWEEP_EFFECTS, 1, data=SWEEP)
    fewer = replace(sweep, cells=dict(list(sweep.cells.items())[:2]))
    with pytest.raises(ConfigError, match=r"cells: .*-4, .*-16, .*-64, now .*-4, .*-16\b"):
        continued(fewer, sweep, allow_environment_change=True)


def test_arms_and_seeds_only_grow(old: StudyFile) -> None:
    focal = store_arm(parse_arm("focal"))
    new = replace(old, arms=(old.arms[0], focal), seeds=(5,), null_control=True)
    grown = continued(new, old, allow_environment_change=False)
    assert grown.arm_names == ("uniform", "balanced", "focal", "null_control")
    assert grown.seeds == (0, 5)
    assert continued(old, grown, allow_environment_change=False) == grown


def test_an_arm_of_the_same_name_and_another_rule_is_refused(old: StudyFile) -> None:
    other = replace(old.arms[1], own_rule="0" * 64)
    with pytest.raises(ConfigError, match="arm 'balanced' is another one than that of the same"):
        continued(replace(old, arms=(old.arms[0], other)), old, allow_environment_change=True)


def test_the_code_may_change_and_every_one_is_kept(old: StudyFile) -> None:
    newer = replace(old, code=(CodeIdentity("0.3", "a" * 40, dirty=True),))
    both = continued(newer, old, allow_environment_change=False)
    assert both.code == (*old.code, *newer.code)
    assert continued(newer, both, allow_environment_change=False).code == both.code
