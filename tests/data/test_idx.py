"""The IDX format: whole files, and every way in which they arrive broken."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from cwjax.data.readers.idx import read_idx, read_idx_dataset
from cwjax.errors import DataError

IMAGES = "train-images-idx3-ubyte.gz"


@pytest.fixture
def images(idx_directory: Path) -> Path:
    return idx_directory / IMAGES


def replace(file: Path, content: bytes) -> None:
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)


def test_reads_what_was_written(idx_directory: Path, original: dict[str, np.ndarray]) -> None:
    dataset = read_idx_dataset(idx_directory)
    assert dataset.name == "digits"
    assert dataset.class_names == tuple("0123456789")
    assert np.array_equal(dataset.train_inputs[..., 0], original["train_images"])
    assert np.array_equal(dataset.train_labels, original["train_labels"])
    assert np.array_equal(dataset.test_inputs[..., 0], original["test_images"])
    assert np.array_equal(dataset.test_labels, original["test_labels"])


@pytest.mark.parametrize("separator", ["-", "."])
def test_unpacked_files_under_both_names(idx_directory: Path, separator: str) -> None:
    packed = read_idx_dataset(idx_directory).fingerprint
    for file in list(idx_directory.iterdir()):
        name = file.name.removesuffix(".gz").replace("-idx", f"{separator}idx")
        file.with_name(name).write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    assert read_idx_dataset(idx_directory).fingerprint == packed


@pytest.mark.parametrize("name", [IMAGES, "t10k-labels-idx1-ubyte.gz"])
def test_missing_file_is_named(idx_directory: Path, name: str) -> None:
    (idx_directory / name).unlink()
    with pytest.raises(DataError, match=f"{idx_directory}: has none of .*{name}"):
        read_idx_dataset(idx_directory)


@pytest.mark.fault(32)
def test_labels_with_a_gap(idx_directory: Path, original: dict[str, np.ndarray]) -> None:
    file = idx_directory / "train-labels-idx1-ubyte.gz"
    labels = np.where(original["train_labels"] == 3, 10, original["train_labels"])
    replace(file, struct.pack(">2I", 0x0801, 40) + labels.astype(np.uint8).tobytes())
    place = int(np.argmax(labels == 10))
    with pytest.raises(DataError, match=rf"train_labels\[{place}\] is 10, expected 0 to 9"):
        read_idx_dataset(idx_directory)


@pytest.mark.fault(25)
def test_packed_file_cut_short(images: Path) -> None:
    images.write_bytes(images.read_bytes()[:20_000])
    with pytest.raises(DataError, match=r"asks for 31360 bytes, the file holds (\d+)") as caught:
        read_idx(images, 3)
    assert str(images) in str(caught.value)
    held = int(str(caught.value).split("holds ")[1].split(":")[0])
    assert 15_000 < held < 31_360


@pytest.mark.fault(25)
def test_unpacked_file_cut_short_or_too_long(tmp_path: Path) -> None:
    file = tmp_path / "train-labels-idx1-ubyte"
    header = struct.pack(">2I", 0x0801, 10)
    replace(file, header + bytes(7))
    with pytest.raises(DataError, match="asks for 10 bytes, the file holds 7"):
        read_idx(file, 1)
    replace(file, header + bytes(11))
    with pytest.raises(DataError, match="asks for 10 bytes, the file holds more"):
        read_idx(file, 1)
    replace(file, header[:5])
    with pytest.raises(DataError, match="holds 5 bytes, its header alone has 8"):
        read_idx(file, 1)


@pytest.mark.fault(26)
def test_bad_gzip_checksum(images: Path) -> None:
    content = bytearray(images.read_bytes())
    content[-8] ^= 0xFF  # the checksum is in the last eight bytes, with the length
    images.write_bytes(content)
    with pytest.raises(DataError, match=rf"{images}: not a whole gzip file \(CRC check failed"):
        read_idx(images, 3)


@pytest.mark.fault(26)
def test_damaged_gzip_content(images: Path) -> None:
    content = bytearray(images.read_bytes())
    content[100:2000] = bytes(1900)
    images.write_bytes(content)
    with pytest.raises(DataError, match=str(images)):
        read_idx(images, 3)


@pytest.mark.fault(27)
def test_web_page_under_the_name_of_a_file(images: Path) -> None:
    page = b"<!DOCTYPE html><title>404 Not Found</title>"
    images.write_bytes(page)
    with pytest.raises(DataError, match=rf"{images}: not a whole gzip file .*b'<!'"):
        read_idx(images, 3)
    plain = images.with_suffix("")
    plain.write_bytes(page)
    with pytest.raises(DataError, match="begins with 0x3c21444f, expected 0x00000803"):
        read_idx(plain, 3)


@pytest.mark.fault(28)
def test_wrong_magic_number(images: Path) -> None:
    with pytest.raises(DataError, match="begins with 0x00000803, expected 0x00000801"):
        read_idx(images, 1)


@pytest.mark.fault(29)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_header_that_claims_too_much_allocates_nothing(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"train-images-idx3-ubyte{suffix}"
    replace(file, struct.pack(">4I", 0x0803, 2**31, 28, 28) + bytes(784))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="asks for 1683627180032 bytes, the file holds 784"):
            read_idx(file, 3)
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()


@pytest.mark.fault(28, 31)
def test_dimensions_that_do_not_fit(idx_directory: Path, original: dict[str, np.ndarray]) -> None:
    images = original["test_images"].tobytes()
    file = idx_directory / "t10k-images-idx3-ubyte.gz"
    replace(file, struct.pack(">4I", 0x0803, 20, 14, 56) + images)
    with pytest.raises(DataError, match=r"\(28, 28, 1\) and test_images \(14, 56, 1\)"):
        read_idx_dataset(idx_directory)
    replace(file, struct.pack(">4I", 0x0803, 19, 28, 28) + images[784:])
    with pytest.raises(DataError, match=r"test_images has 19 images and .* 20 labels"):
        read_idx_dataset(idx_directory)


@pytest.mark.fault(40)
def test_no_examples(idx_directory: Path) -> None:
    replace(idx_directory / "train-labels-idx1-ubyte.gz", struct.pack(">2I", 0x0801, 0))
    replace(idx_directory / IMAGES, struct.pack(">4I", 0x0803, 0, 28, 28))
    with pytest.raises(DataError, match="train_labels has 0 examples"):
        read_idx_dataset(idx_directory)
