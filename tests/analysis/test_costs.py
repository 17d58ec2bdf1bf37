"""Files of costs, well and badly written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cwjax.analysis.costs import read_costs
from cwjax.errors import ConfigError


def test_csv_and_json_say_the_same_in_any_order(tmp_path: Path) -> None:
    table, tree = tmp_path / "costs.csv", tmp_path / "costs.json"
    table.write_text("true,dog,cat\ncat,1,0\ndog,0,5.5\n")
    tree.write_text('{"dog": {"cat": 5.5, "dog": 0}, "cat": {"dog": 1, "cat": 0}}')
    expected = np.array([[0, 1], [5.5, 0]])
    for path in (table, tree):
        np.testing.assert_array_equal(read_costs(path).for_classes(("cat", "dog")), expected)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.csv", "t,a,b\na,0\nb,1,0\n", "row 'a' has 1 costs for 2 predicted classes"),
        ("c.csv", "t,a,b\na,0,1\na,1,0\n", "a class is there twice"),
        ("c.csv", "t,a,a\na,0,1\nb,1,0\n", "a class is there twice"),
        ("c.csv", "t,a,b\na,0,x\nb,1,0\n", "the cost of 'a' taken for 'b' is 'x': give a finite"),
        ("c.csv", "t,a,b\na,0,inf\nb,1,0\n", "the cost of 'a' taken for 'b' is 'inf'"),
        ("c.csv", "", "give a row and a column for every class"),
        ("c.csv", "t,a,b,c\na,0,1,1\nb,1,0,1\nc,1,1,0\n", "rows: unknown class 'c': give each"),
        ("c.csv", "t,a,b\na,0,1\nx,1,0\n", "rows: unknown class 'x'"),
        ("c.csv", "t,a,x\na,0,1\nb,1,0\n", "row 'a': unknown class 'x'"),
        ("c.json", '{"a": {"a": 0, "b": 1}, "b": {"a": 1}}', "row 'b': no class 'b'"),
        ("c.json", '{"a": {"a": 0, "b": true}, "b": {"a": 1, "b": 0}}', "is True: give a finite"),
        ("c.json", '{"a": {"a": 0, "a": 1}}', "names class 'a' twice"),
        ("c.json", "[1]", "give an object of objects"),
        ("c.json", "{", "is not JSON"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=f"--cost-matrix {name}: .*{message}") as error:
        read_costs(tmp_path / name).for_classes(("a", "b"))
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_costs(tmp_path / "none.csv")
