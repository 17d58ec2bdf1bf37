"""The cache saves time and changes nothing: not when stale, damaged, unwritable or interrupted."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import platformdirs
import pytest

from cwjax.data.cache import cache_directory, cached_dataset
from cwjax.data.dataset import Dataset


class Source:
    """A source of one file that counts how often it is decoded."""

    def __init__(self, file: Path, dataset: Dataset) -> None:
        self.file = file
        self.dataset = dataset
        self.decoded = 0
        file.write_text("content")

    def load(self) -> Dataset:
        return cached_dataset("kind", self.file, [self.file], self._decode)

    def _decode(self) -> Dataset:
        self.decoded += 1
        return self.dataset


@pytest.fixture
def source(tmp_path: Path, make_dataset: Callable[..., Dataset]) -> Source:
    return Source(tmp_path / "source", make_dataset(np.array([0, 1, 1, 0, 1])))


def only_entry(cache: Path) -> Path:
    (entry,) = (cache / "datasets").iterdir()
    return entry


def test_second_load_is_read_from_the_cache(source: Source) -> None:
    first, second = source.load(), source.load()
    assert source.decoded == 1
    assert second.fingerprint == first.fingerprint == source.dataset.fingerprint
    assert (second.name, second.class_names) == ("made", ("class 0", "class 1"))


@pytest.mark.parametrize("is_held_out", [False, True])
def test_how_the_test_split_came_about_is_kept(source: Source, is_held_out: bool) -> None:
    source.dataset = replace(source.dataset, is_test_held_out=is_held_out)
    assert [source.load().is_test_held_out for _ in range(2)] == [is_held_out] * 2
    assert source.decoded == 1


def test_place_of_the_cache(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    assert cache_directory() == cache
    monkeypatch.setenv("CWJAX_CACHE", "")
    assert cache_directory() == platformdirs.user_cache_path("cwjax")


def test_changed_source_is_decoded_again_into_the_same_entry(source: Source, cache: Path) -> None:
    source.load()
    entry = only_entry(cache)
    source.file.write_text("other size")
    source.load()
    os.utime(source.file, ns=(1, 1))
    source.load()
    assert source.decoded == 3
    assert only_entry(cache) == entry


def test_sources_do_not_share_an_entry(source: Source, tmp_path: Path) -> None:
    source.load()
    other = Source(tmp_path / "other", source.dataset)
    other.load()
    assert (source.decoded, other.decoded) == (1, 1)


def test_source_that_changes_while_it_is_decoded_is_decoded_again(source: Source) -> None:
    def decode() -> Dataset:
        source.file.write_text("changed meanwhile")
        return source.dataset

    cached_dataset("kind", source.file, [source.file], decode)
    source.load()
    assert source.decoded == 1


def cut_short(content: bytearray) -> bytearray:
    return content[: len(content) // 2]


def flip_a_bit(content: bytearray) -> bytearray:
    place = content.index(source_images())
    content[place] ^= 1
    return content


def source_images() -> bytes:
    return bytes(range(5))


@pytest.mark.parametrize("damage", [cut_short, flip_a_bit, lambda content: bytearray()])
def test_damaged_entry_is_replaced_with_a_warning(
    source: Source, cache: Path, damage: Callable[[bytearray], bytearray]
) -> None:
    source.load()
    entry = only_entry(cache)
    entry.write_bytes(damage(bytearray(entry.read_bytes())))
    with pytest.warns(RuntimeWarning, match=f"{entry}: cannot be read"):
        assert source.load().fingerprint == source.dataset.fingerprint
    source.load()
    assert source.decoded == 2


def test_unwritable_cache_warns_and_gives_the_same(source: Source, cache: Path) -> None:
    cache.write_text("a file where the directory should be")
    for _ in range(2):
        with pytest.warns(RuntimeWarning, match=r"cannot be written .* set CWJAX_CACHE"):
            assert source.load().fingerprint == source.dataset.fingerprint
    assert source.decoded == 2


def test_full_disk_leaves_no_half_entry(
    source: Source, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_half(file: object, **arrays: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", write_half)
    with pytest.warns(RuntimeWarning, match="No space left on device"):
        assert source.load().fingerprint == source.dataset.fingerprint
    assert list((cache / "datasets").iterdir()) == []


def test_failing_source_is_not_cached(source: Source, cache: Path) -> None:
    def fail() -> Dataset:
        raise RuntimeError("bad source")

    with pytest.raises(RuntimeError, match="bad source"):
        cached_dataset("kind", source.file, [source.file], fail)
    assert not cache.exists()
