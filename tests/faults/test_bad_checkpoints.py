"""A checkpoint that cannot be trusted is never used, and never passed over without a word."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparisons import Compare, files, log

pytestmark = pytest.mark.slow


@pytest.fixture
def out(interrupted: Path, tmp_path: Path) -> Path:
    """A copy of the interrupted comparison."""
    return shutil.copytree(interrupted, tmp_path / "out")


def newest(out: Path) -> list[Path]:
    """The newest checkpoint of each chunk."""
    return [sorted(chunk.iterdir())[-1] for chunk in sorted((out / "checkpoints").iterdir())]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """The checkpoint with another header, and the SHA-256 that belongs to it."""
    with np.load(io.BytesIO(path.read_bytes()[32:])) as archive:
        arrays = dict(archive)
    header = json.loads(str(arrays["header"]))
    change(header)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays | {"header": np.array(json.dumps(header))})
    path.write_bytes(hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue())


@pytest.mark.fault(14, 15)
def test_a_damaged_checkpoint_is_told_and_the_previous_serves(
    compare: Compare, unbroken: Path, out: Path
) -> None:
    flipped, short = newest(out)
    flip(flipped)
    cut(short)
    code, errors = compare(out)
    assert code == 0
    assert sorted(errors.splitlines()) == [
        f"warning: checkpoint {path} is damaged: its SHA-256 is another; the one before it is used"
        for path in (flipped, short)
    ]
    assert log(out)[1]["continued"] == 2
    assert files(out) == files(unbroken)


@pytest.mark.fault(16)
def test_without_a_sound_checkpoint_nothing_is_started_again_silently(
    compare: Compare, unbroken: Path, out: Path
) -> None:
    chunk = newest(out)[0].parent
    for path in chunk.iterdir():
        flip(path)
    before = files(out)
    assert compare(out) == (
        2,
        f"error: every checkpoint in {chunk} is damaged: remove that directory to train its runs "
        "from their start\n",
    )
    assert files(out) == before
    shutil.rmtree(chunk)
    assert compare(out) == (0, "")
    assert files(out) == files(unbroken)


def another_learning_rate(header: dict[str, Any]) -> None:
    header["train"]["learning_rate"] = 0.5


def another_version(header: dict[str, Any]) -> None:
    header["schema_version"] = 99


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        pytest.param(
            another_learning_rate,
            {},
            "the checkpoint in {chunk} is of another study (learning_rate: 0.5, now 0.001)",
            marks=pytest.mark.fault(17),
        ),
        pytest.param(
            None,
            {"num_features": 64},
            "the checkpoint of {arm} seed 0 is of another model (",
            marks=pytest.mark.fault(18),
        ),
        pytest.param(
            another_version,
            {},
            "{path} has schema version 99, this cwjax reads",
            marks=pytest.mark.fault(19),
        ),
    ],
    ids=["configuration", "shapes", "schema"],
)
def test_a_checkpoint_of_something_else_is_refused_with_the_difference(
    compare: Compare, out: Path, change: Any, options: dict[str, int], words: str
) -> None:
    path = newest(out)[0]
    if change:
        rewrite(path, change)
    before = files(out)
    code, errors = compare(out, **options)
    assert (code, errors.count("\n")) == (2, 1)
    places = [words.format(chunk=path.parent, path=path, arm=a) for a in ("uniform", "balanced")]
    assert errors.startswith(tuple(f"error: {place}" for place in places))
    if options:
        assert "params/head/kernel/value: float32[1, 128, 3], now float32[1, 64, 3]" in errors
    assert files(out) == before
