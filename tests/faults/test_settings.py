"""Settings that cannot be used, as the script meets them: refused with the field and the mend."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Refused = Callable[..., str]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        pytest.param(
            {"a": -1, "b": 1, "c": 1},
            "class 'a' is -1; give a finite number of at least 0",
            marks=pytest.mark.fault(41),
        ),
        pytest.param(
            {"a": float("nan"), "b": 1, "c": 1}, "class 'a' is nan", marks=pytest.mark.fault(41)
        ),
        pytest.param(
            {"a": 1, "b": float("inf"), "c": 1}, "class 'b' is inf", marks=pytest.mark.fault(41)
        ),
        pytest.param(
            {"a": 0, "b": 0, "c": 0},
            "at least one class with a weight above 0",
            marks=pytest.mark.fault(41),
        ),
        pytest.param([1, 2, 3, 4], "must hold a JSON object", marks=pytest.mark.fault(42)),
        pytest.param(
            {"0": 1, "1": 1, "2": 1, "3": 1}, "unknown class '3'", marks=pytest.mark.fault(42, 44)
        ),
        pytest.param({"a": 1, "b": 1}, "no weight for class 'c'", marks=pytest.mark.fault(42, 44)),
        pytest.param({"a": 1, "b": 1, "d": 1}, "unknown class", marks=pytest.mark.fault(44)),
    ],
)
def test_class_weights(
    tiny_npz: str, tmp_path: Path, refused: Refused, weights: object, message: str
) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(weights))
    line = refused(
        "--dataset", tiny_npz, "--imbalance-factor", "4", "--arms", f"custom:file={file}"
    )
    assert "custom:file=" in line
    assert "mine" in line
    assert message in line


@pytest.mark.parametrize(
    ("flag", "values"),
    [
        pytest.param("--batch-size", ["0", "-1"], marks=pytest.mark.fault(47)),
        pytest.param("--num-epochs", ["0", "-3"], marks=pytest.mark.fault(47)),
        pytest.param("--learning-rate", ["0", "-0.1", "nan", "inf"], marks=pytest.mark.fault(47)),
        pytest.param(
            "--imbalance-factor", ["0.99", "0", "-2", "nan", "inf"], marks=pytest.mark.fault(47)
        ),
        pytest.param("--num-seeds", ["0", "-1"], marks=pytest.mark.fault(47)),
        pytest.param("--seeds", ["-1", str(2**32)], marks=pytest.mark.fault(49)),
    ],
)
def test_numbers_out_of_range(refused: Refused, flag: str, values: list[str]) -> None:
    for value in values:
        line = refused(flag, value)
        assert f"{flag} " in line
        assert "give " in line


@pytest.mark.fault(46)
def test_a_batch_larger_than_the_training_split(tiny_npz: str, refused: Refused) -> None:
    line = refused("--dataset", tiny_npz, "--imbalance-factor", "4", "--batch-size", "95")
    assert "--batch-size is 95, but seed 0 trains on 94 examples: give a smaller batch" in line


@pytest.mark.fault(37)
def test_an_imbalance_that_empties_a_class(tiny_npz: str, refused: Refused) -> None:
    line = refused("--dataset", tiny_npz, "--imbalance-factor", "55")
    assert "1 of 3 classes would keep no training example; give at most 54" in line


@pytest.mark.fault(48)
def test_a_seed_given_twice(refused: Refused) -> None:
    assert "--seeds repeats [1]: give each seed once" in refused("--seeds", "1", "2", "1")


@pytest.mark.fault(38)
def test_a_metric_without_a_class_to_be_taken_over(tiny_npz: str, refused: Refused) -> None:
    line = refused("--dataset", tiny_npz, "--imbalance-factor", "4", "--metric", "recall_many")
    assert "--metric recall_many (recall of classes with > 100 examples) is undefined" in line
    assert "with the classes of seed 0, which have 54, 27, 13 training examples" in line


@pytest.mark.fault(64)
@pytest.mark.parametrize(
    "name",
    ["<script>alert(1)</script>", "café", "a,b", "line\nend", "../../up", "x" * 300, "uniform/.."],
)
def test_names_of_arms(refused: Refused, name: str) -> None:
    assert "no scheme " in refused("--arms", "uniform", name)
