"""What is kept of a data set: even, bounded, and the same bytes for the same data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_runs import make_dataset

from cwjax.errors import ConfigError
from cwjax.results import examples
from cwjax.results.examples import pick_examples, read_examples, to_bytes


def test_round_trip(tmp_path: Path) -> None:
    dataset = make_dataset()
    picked = pick_examples(dataset)
    assert to_bytes(picked) == to_bytes(pick_examples(make_dataset()))
    (tmp_path / "examples.npz").write_bytes(to_bytes(picked))
    for name, value in vars(read_examples(tmp_path / "examples.npz")).items():
        np.testing.assert_array_equal(value, getattr(picked, name), err_msg=name)
    np.testing.assert_array_equal(picked.test_images, dataset.test_images)
    np.testing.assert_array_equal(np.bincount(picked.sample_labels), [6, 6, 6])


def test_large_test_sets_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make_dataset()
    monkeypatch.setattr(examples, "MAX_TEST_BYTES", 7 * dataset.test_images[0].nbytes)
    picked = pick_examples(dataset)
    np.testing.assert_array_equal(picked.test_indices, [0, 10, 20, 30, 39, 49, 59])
    np.testing.assert_array_equal(picked.test_images, dataset.test_images[picked.test_indices])
    assert len(picked.test_labels) == 60


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", None])
def test_damaged_or_missing(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "examples.npz").write_bytes(content)
    with pytest.raises(ConfigError, match=r"examples\.npz is (damaged|missing).*command"):
        read_examples(tmp_path / "examples.npz")
