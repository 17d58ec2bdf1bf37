"""What is kept of a data set: even, bounded, and the same bytes for the same data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_runs import make_dataset

from cwjax.errors import ConfigError
from cwjax.store import examples
from cwjax.store.directory import StudyDirectory
from cwjax.store.examples import examples_name, keep_examples, pick_examples, read_examples

FINGERPRINT = make_dataset().fingerprint
NAME = examples_name(FINGERPRINT)


def test_round_trip(tmp_path: Path) -> None:
    dataset = make_dataset()
    picked = pick_examples(dataset)
    for place in ("a", "b"):
        keep_examples(StudyDirectory(tmp_path / place), make_dataset())
    first, second = ((tmp_path / place / NAME).read_bytes() for place in "ab")
    assert first == second
    for name, value in vars(read_examples(StudyDirectory(tmp_path / "a"), FINGERPRINT)).items():
        np.testing.assert_array_equal(value, getattr(picked, name), err_msg=name)
    np.testing.assert_array_equal(picked.test_images, dataset.test_inputs)
    np.testing.assert_array_equal(np.bincount(picked.sample_labels), [6, 6, 6])


def test_they_are_written_once(tmp_path: Path) -> None:
    (tmp_path / NAME).parent.mkdir()
    (tmp_path / NAME).write_bytes(b"as it was")
    keep_examples(StudyDirectory(tmp_path), make_dataset())
    assert (tmp_path / NAME).read_bytes() == b"as it was"


def test_large_test_sets_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make_dataset()
    monkeypatch.setattr(examples, "MAX_TEST_BYTES", 7 * dataset.test_inputs[0].nbytes)
    picked = pick_examples(dataset)
    np.testing.assert_array_equal(picked.test_indices, [0, 10, 20, 30, 39, 49, 59])
    np.testing.assert_array_equal(picked.test_images, dataset.test_inputs[picked.test_indices])
    assert len(picked.test_labels) == 60


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", None])
def test_damaged_or_missing(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / NAME).parent.mkdir()
        (tmp_path / NAME).write_bytes(content)
    with pytest.raises(ConfigError, match=rf"{NAME} is (damaged|missing).*command"):
        read_examples(StudyDirectory(tmp_path), FINGERPRINT)


@pytest.mark.parametrize(
    "changes",
    [
        {"test_labels": np.zeros(60)},
        {"test_labels": -np.ones(60, int)},
        {"test_labels": np.zeros(3, int)},
        {"test_images": np.zeros((60, 6, 5), np.uint8)},
        {"test_images": np.zeros((59, 6, 5, 1), np.uint8)},
        {"samples": np.zeros((18, 6, 5, 1))},
        {"sample_labels": np.zeros(0, int)},
        {"more": np.zeros(1)},
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, changes: dict[str, np.ndarray]) -> None:
    (tmp_path / NAME).parent.mkdir()
    np.savez(tmp_path / NAME, **vars(pick_examples(make_dataset())) | changes)
    with pytest.raises(ConfigError, match=rf"{NAME} is damaged .*: remove it and give the"):
        read_examples(StudyDirectory(tmp_path), FINGERPRINT)
