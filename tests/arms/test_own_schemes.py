"""A Python file of the user's own schemes: what it gives, and how it is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cwjax.arms import schemes
from cwjax.arms.arm import SCHEMES, ArmContext
from cwjax.arms.grammar import arm_row, list_arms, load_schemes, parse_arm
from cwjax.errors import ConfigError

OWN = """
from typing import Annotated
from cwjax.arms.arm import ArmContext, scheme
from cwjax.arms.settings import Range
from cwjax.arms.row import ArmRow
from cwjax.arms.schemes import weighted_row


@scheme(formula="w_c = n_c^-power", source="mine", kind="class_weights")
def mine(
    context: ArmContext, *, power: float = 2.0, s: Annotated[float, Range(0, 1)] = 0.0
) -> ArmRow:
    '''Rare classes count more.'''
    return weighted_row(context, 1.0 / context.weight_counts**power)
"""
COUNTS = np.array([8, 4, 2])
CONTEXT = ArmContext(COUNTS, COUNTS, ("a", "b", "c"), num_epochs=4)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    return path


def test_a_file_of_schemes_is_used_like_the_others(file: Path) -> None:
    load_schemes(file)
    weights = arm_row(parse_arm("mine:power=1"), CONTEXT).class_weights
    np.testing.assert_allclose(weights / weights[0], [1, 2, 4], rtol=1e-6)
    nested = arm_row(parse_arm("focal:weights=mine(1)"), CONTEXT)
    np.testing.assert_array_equal(nested.class_weights, weights)
    assert "mine" in {row.name for row in list_arms()}
    assert SCHEMES["mine"].about == "Rare classes count more."


def test_a_plain_float_takes_any_finite_number(file: Path) -> None:
    load_schemes(file)
    assert str(parse_arm("mine:power=-3")) == "mine:power=-3"
    for text in ("inf", "nan", "two"):
        with pytest.raises(ConfigError, match="power='"):
            parse_arm(f"mine:power={text}")
    with pytest.raises(ConfigError, match=r"s='2': out of range; give a number in \[0, 1\]"):
        parse_arm("mine:s=2")


def test_what_the_rule_is_made_of_is_known_of_own_schemes_alone(file: Path) -> None:
    assert SCHEMES["balanced"].function is schemes.balanced
    assert SCHEMES["balanced"].own_rule is None
    load_schemes(file)
    first = SCHEMES.pop("mine").own_rule
    assert first is not None
    assert len(first) == 64
    file.write_text("# a comment above the rule changes nothing\n" + OWN)
    load_schemes(file)
    assert SCHEMES.pop("mine").own_rule == first
    file.write_text(OWN.replace("1.0 /", "3.0 /"))
    load_schemes(file)
    assert SCHEMES.pop("mine").own_rule != first


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such Python file: give one that ends in .py"),
        ("x = 1", "registers no scheme: decorate one with @cwjax.scheme"),
        ("def", "SyntaxError"),
        ("raise RuntimeError('a\\nb')", "RuntimeError: a b"),
        (OWN.replace("def mine", "def balanced"), "defines balanced again: give it another name"),
        (OWN.replace("float = 2.0", "list = []"), "setting power is annotated .*give float,"),
        (OWN.replace("power: float = 2.0", "power=2.0"), "setting power is annotated None: give"),
        (OWN.replace("float = 2.0", "Nothing = 2.0"), "NameError|power is annotated"),
    ],
)
def test_files_that_cannot_be_used(file: Path, content: str | None, message: str) -> None:
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_schemes(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_directory_and_another_suffix_are_no_python_files(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(OWN)
    for place in (tmp_path, tmp_path / "text.txt"):
        with pytest.raises(ConfigError, match=r"no such Python file: give one that ends in \.py"):
            load_schemes(place)
