"""Class weights from a file: what is accepted, and every way in which it can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cwjax.arms.arm import ArmContext
from cwjax.arms.grammar import arm_row, parse_arm, parse_arms
from cwjax.arms.row import row_bytes, uniform_row
from cwjax.errors import ConfigError

CONTEXT = ArmContext(
    class_counts=np.array([30, 20, 10]),
    weight_counts=np.array([30, 20, 10]),
    class_names=("cat", "dog", "eel"),
    num_epochs=10,
)


def written(directory: Path, text: str, name: str = "w.json") -> str:
    (directory / name).write_text(text, "utf-8")
    return f"custom:file={directory / name}"


@pytest.mark.parametrize("weights", [{"eel": 3, "cat": 1, "dog": 2.5}, {"0": 1, "1": 2.5, "2": 3}])
def test_weights_by_name_or_index_are_taken_as_they_are(tmp_path: Path, weights) -> None:
    row = arm_row(parse_arm(written(tmp_path, json.dumps(weights))), CONTEXT)
    np.testing.assert_array_equal(row.class_weights, np.float32([1, 2.5, 3]))


def test_names_that_look_like_indices_are_names(tmp_path: Path) -> None:
    context = ArmContext(np.array([5, 6]), np.array([5, 6]), ("1", "0"), 10)
    row = arm_row(parse_arm(written(tmp_path, '{"0": 7, "1": 8}')), context)
    np.testing.assert_array_equal(row.class_weights, [8, 7])


def test_the_name_holds_the_stem_and_the_contents_but_no_directory(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    arm = parse_arm(written(tmp_path, '{"0": 1, "1": 2}'))
    same = parse_arm(written(tmp_path / "elsewhere", '{ "1": 2.0, "0": 1 }'))
    other = parse_arm(written(tmp_path, '{"0": 1, "1": 3}'))
    assert arm == same
    assert str(arm) != str(other)
    assert str(arm).startswith("custom:file=w-")
    assert str(tmp_path) not in str(arm)
    with pytest.raises(ConfigError, match="twice"):
        parse_arms([written(tmp_path, '{"0": 1, "1": 2}'), written(tmp_path, '{"1":2,"0":1}')])


def test_contents_are_read_once_and_travel_with_the_arm(tmp_path: Path) -> None:
    arm = parse_arm(written(tmp_path, '{"cat": 1, "dog": 2, "eel": 3}'))
    (tmp_path / "w.json").unlink()
    assert arm_row(arm, CONTEXT).class_weights[2] == 3


def test_custom_weights_can_be_nested_and_deferred(tmp_path: Path) -> None:
    path = written(tmp_path, '{"cat": 1, "dog": 2, "eel": 3}').removeprefix("custom:file=")
    arm = parse_arm(f"focal:weights=custom({path}):drw=0.5")
    row = arm_row(arm, CONTEXT)
    np.testing.assert_array_equal(row.class_weights, [1, 2, 3])
    assert row.deferred_from == 5
    assert str(tmp_path) not in str(arm)


@pytest.mark.fault(41, 42, 44)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"cat": 1, "dog": 2, "owl": 3}', "unknown class 'cat', 'dog', 'owl'"),
        ('{"cat": 1, "dog": 2}', "no weight for class 'eel'"),
        ('{"0": 1, "1": 2}', "no weight for class '2'"),
        ('{"0": 1, "1": 2, "2": 3, "3": 4}', "unknown class '3'"),
        ("{}", "at least one class"),
        ('{"cat": 0, "dog": 0, "eel": 0}', "at least one class with a weight above 0"),
        ('{"cat": 1e-60, "dog": 0, "eel": 0}', "at least one class with a weight above 0"),
        ('{"cat": -1, "dog": 2, "eel": 3}', "class 'cat' is -1; give a finite number"),
        ('{"cat": NaN, "dog": 2, "eel": 3}', "class 'cat' is nan; give a finite number"),
        ('{"cat": Infinity, "dog": 2, "eel": 3}', "class 'cat' is inf"),
        ('{"cat": 1e39, "dog": 2, "eel": 3}', r"class 'cat' is 1e\+39"),
        ('{"cat": true, "dog": 2, "eel": 3}', "class 'cat' is of type bool; give a number"),
        ('{"cat": "1", "dog": 2, "eel": 3}', "class 'cat' is of type str; give a number"),
        ('{"cat": [1], "dog": 2, "eel": 3}', "class 'cat' is of type list; give a number"),
        ('{"cat": null, "dog": 2, "eel": 3}', "class 'cat' is of type NoneType; give a number"),
        ('{"cat": 1, "cat": 2, "dog": 2, "eel": 3}', "class 'cat' twice"),
        ("[1, 2, 3]", "JSON object"),
        ('{"cat": 1,', "is not JSON"),
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"cat": ' + "9" * 10_000 + "}", "is not JSON"),
        ('{"cat": ' + "9" * 400 + "}", "class 'cat' is 9999"),
    ],
)
def test_wrong_contents_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        arm_row(parse_arm(written(tmp_path, text)), CONTEXT)
    assert "\n" not in str(caught.value)
    assert "w" in str(caught.value)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"file='.*none\.json': cannot be read"):
        parse_arm(f"custom:file={tmp_path / 'none.json'}")
    with pytest.raises(ConfigError, match="cannot be read"):
        parse_arm(f"custom:file={tmp_path}")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not JSON"):
        parse_arm(f"custom:file={tmp_path / 'bytes.json'}")


@pytest.mark.fault(64)
@pytest.mark.parametrize("name", ["<script>.json", "a b.json", "x" * 101 + ".json", "line\nend"])
def test_files_whose_names_do_not_fit_an_arm_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="rename the file"):
        parse_arm(written(tmp_path, '{"0": 1}', name))


@pytest.mark.fault(45)
def test_weights_of_one_are_uniform_and_some_may_be_zero(tmp_path: Path) -> None:
    ones = arm_row(parse_arm(written(tmp_path, '{"0": 1, "1": 1, "2": 1}')), CONTEXT)
    assert row_bytes(ones) == row_bytes(uniform_row(3))
    some = arm_row(parse_arm(written(tmp_path, '{"0": 1, "1": 0, "2": 0}')), CONTEXT)
    np.testing.assert_array_equal(some.class_weights, [1, 0, 0])


def test_the_file_is_needed() -> None:
    with pytest.raises(ConfigError, match="custom needs file="):
        parse_arm("custom")
