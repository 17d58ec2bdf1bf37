"""An arm is parsed once: it is written down with all that it stands for, and comes back equal."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cwjax.arms.arm import SCHEMES, Arm, ArmContext
from cwjax.arms.grammar import arm_row, load_schemes, parse_arm, parse_arms, schemes_in_order
from cwjax.arms.row import row_bytes
from cwjax.errors import ConfigError
from cwjax.store.schema import StoredArm, from_json, restore_arm, store_arm, to_json

COUNTS = np.array([400, 100, 4])
CONTEXT = ArmContext(COUNTS, COUNTS, ("cat", "dog", "eel"), num_epochs=10)
OWN = """
from cwjax.arms.arm import ArmContext, scheme
from cwjax.arms.row import ArmRow
from cwjax.arms.schemes import weighted_row


@scheme(formula="w_c = n_c^-power", source="mine", kind="class_weights")
def mine(context: ArmContext, *, power: float = 2.0) -> ArmRow:
    return weighted_row(context, 1.0 / context.weight_counts**power)
"""


@pytest.fixture(autouse=True)
def _schemes_as_before() -> Iterator[None]:
    before = dict(SCHEMES)
    yield
    SCHEMES.clear()
    SCHEMES.update(before)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    load_schemes(path)
    return path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "w.json"
    path.write_text('{"cat": 1, "dog": 0.1, "eel": 3}')
    return path


def through_json(arm: Arm) -> Arm:
    return restore_arm(from_json(to_json(store_arm(arm)), StoredArm, "study.json"))


def assert_equal(back: Arm, arm: Arm) -> None:
    assert back == arm
    assert str(back) == str(arm)
    if arm.kind != "post_hoc":
        for each, original in zip(back.candidates or [back], arm.candidates or [arm], strict=True):
            assert row_bytes(arm_row(each, CONTEXT)) == row_bytes(arm_row(original, CONTEXT))


def every_spec() -> list[str]:
    """Each scheme at its defaults, and each with its settings at other values."""
    others = []
    for scheme in schemes_in_order():
        changed = {
            setting.name: "0.37" if isinstance(setting.default, float | None) else "balanced"
            for setting in scheme.settings
            if not setting.is_required
        }
        special = {"kappa": "2.5", "min_steps": "37"}
        changed = {name: special.get(name, value) for name, value in changed.items()}
        if changed and scheme.name != "custom":
            others.append(":".join([scheme.name, *(f"{k}={v}" for k, v in changed.items())]))
    return [*(str(arm) for arm in parse_arms(["all"])), *others]


@pytest.mark.parametrize("spec", every_spec())
def test_every_scheme_comes_back(spec: str) -> None:
    arm = parse_arm(spec)
    assert_equal(through_json(arm), arm)


def test_the_test_above_tries_every_setting() -> None:
    tried = {setting for spec in every_spec() for setting in parse_arm(spec).settings}
    for scheme in schemes_in_order():
        for setting in scheme.settings:
            if not setting.is_required and scheme.name != "custom":
                values = {value for name, value in tried if name == setting.name}
                assert values - {setting.default}, (scheme.name, setting.name)


@pytest.mark.parametrize(
    "spec",
    [
        "focal:weights=effective_number(0.9999):drw=0.25",
        "ldam:weights=uniform",
        "custom:file={file}:drw=0.5",
        "focal:weights=custom({file})",
        "mine",
        "mine:power=0.5",
        "focal:weights=mine(3)",
        "focal:gamma=best(0.5,2):weights=effective_number(0.9):weight_decay=best(0,0.1)",
        "custom:file={file}:best",
        "mine:best",
    ],
)
@pytest.mark.usefixtures("own")
def test_weight_files_nested_weights_and_own_schemes_come_back(spec: str, weights: Path) -> None:
    arm = parse_arm(spec.format(file=weights))
    weights.unlink()
    assert_equal(through_json(arm), arm)
    assert str(weights.parent) not in to_json(store_arm(arm)).decode()


def test_an_own_scheme_that_changed_or_is_not_there_is_refused(own: Path) -> None:
    stored = [store_arm(parse_arm(spec)) for spec in ("mine:power=1", "focal:weights=mine(3)")]
    assert stored[0].own_rule is not None
    SCHEMES.pop("mine")
    for each in stored:
        with pytest.raises(ConfigError, match="whose scheme is not known here: give --schemes FIL"):
            restore_arm(each)
    for changed in (
        OWN.replace("1.0 /", "2.0 /"),
        OWN.replace("power: float = 2.0", "power: float = 2.0, more: float = 1.0"),
        OWN.replace("power", "exponent"),
        OWN.replace('kind="class_weights"', 'kind="training"'),
    ):
        SCHEMES.pop("mine", None)
        own.write_text(changed)
        load_schemes(own)
        with pytest.raises(ConfigError) as caught:
            restore_arm(stored[0])
        assert "'mine:power=1' was written with another scheme 'mine' than" in str(caught.value)
        assert "\n" not in str(caught.value)
    SCHEMES.pop("mine")
    own.write_text("# moved, not changed\n\n" + OWN)
    load_schemes(own)
    assert [str(restore_arm(each)) for each in stored] == [each.name for each in stored]


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "focal:gamma=3"},
        {"values": {"gamma": 2.0}},
        {"values": {"gamma": 2.0, "drw": 0.0, "more": 1.0}},
        {"values": {"gamma": 1.0, "drw": 0.0}},
        {"kind": "post_hoc"},
        {"own_rule": "0" * 64},
        {"weights": {}},
    ],
)
def test_an_arm_that_was_tampered_with_is_refused(changes: dict[str, object]) -> None:
    stored = dataclasses.replace(store_arm(parse_arm("focal")), **changes)
    with pytest.raises(ConfigError, match="was written with another scheme 'focal' than the one"):
        restore_arm(stored)


def test_cwjaxs_own_schemes_are_stored_without_their_source() -> None:
    for arm in parse_arms(["all"]):
        assert store_arm(arm).own_rule is None
        assert "cwjax" in inspect.getmodule(SCHEMES[arm.scheme].function).__name__
