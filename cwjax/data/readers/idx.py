"""The IDX format of MNIST's four files, gzipped or not. Format: http://yann.lecun.com/exdb/mnist/."""

from __future__ import annotations

import contextlib
import gzip
import io
import math
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cwjax.data.cache import cached_dataset
from cwjax.data.dataset import Dataset, numbered_classes
from cwjax.data.sources import ReadOptions, require_memory, user_path
from cwjax.errors import DataError

_CHUNK = 1 << 20
_IMAGES = 3  # dimensions: examples, height, width
_LABELS = 1


def read(place: str, options: ReadOptions) -> Dataset:
    """Reads the directory `place` of IDX files.

    Raises:
        DataError: see `read_idx_dataset`.
    """
    directory = user_path(place)
    files = idx_files(directory).values()
    return cached_dataset("idx", directory, files, lambda: read_idx_dataset(directory))


def idx_files(directory: Path) -> dict[str, Path]:
    """Find the four files, by the keys train_images, train_labels, test_images and test_labels.

    Their names are `train-` or `t10k-`, then `images-idx3-ubyte` or `labels-idx1-ubyte` (the first
    hyphen of these may be a dot), then perhaps `.gz`. Where a file is there packed and unpacked,
    the unpacked one is taken.

    Raises:
        DataError: one of them is missing.
    """
    files = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        for kind, dimensions in (("images", _IMAGES), ("labels", _LABELS)):
            names = [
                f"{prefix}-{kind}{separator}idx{dimensions}-ubyte{suffix}"
                for suffix in ("", ".gz")
                for separator in "-."
            ]
            found = [directory / name for name in names if (directory / name).is_file()]
            if not found:
                raise DataError(f"{directory}: has none of {', '.join(names)}: give one of them")
            files[f"{split}_{kind}"] = found[0]
    return files


def read_idx_dataset(directory: Path) -> Dataset:
    """Read a directory of IDX files; it gives the data set its name, the labels name the classes.

    The headers of all files are compared first: a small gzip file may unpack to many gigabytes.

    Raises:
        DataError: a file is missing, damaged or of another format, or the data is unusable.
    """
    files = idx_files(directory)
    shapes = {
        name: read_idx_shape(file, _IMAGES if name.endswith("images") else _LABELS)
        for name, file in files.items()
    }
    for split in ("train", "test"):
        num_images, num_labels = shapes[f"{split}_images"][0], shapes[f"{split}_labels"][0]
        if num_images != num_labels:
            raise DataError(
                f"{directory}: {split}_images has {num_images} images and {split}_labels "
                f"{num_labels} labels: give one label per image"
            )
    require_memory(directory, sum(map(math.prod, shapes.values())))
    train_labels = read_idx(files["train_labels"], _LABELS).astype(np.int32)
    test_labels = read_idx(files["test_labels"], _LABELS).astype(np.int32)
    return Dataset.from_splits(
        directory.resolve().name,
        (read_idx(files["train_images"], _IMAGES)[..., None], train_labels),
        (read_idx(files["test_images"], _IMAGES)[..., None], test_labels),
        numbered_classes(train_labels),
    )


def read_idx(file: Path, num_dimensions: int) -> npt.NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes; a name that ends in .gz is unpacked.

    Args:
        file: its path.
        num_dimensions: 3 for images, 1 for labels.

    Returns:
        uint8 `[num_examples, height, width]` or `[num_examples]`, read-only.

    Raises:
        DataError: the file is damaged, or not what its header or name says; expected and actual.
    """
    with _opened(file) as stream:
        shape = _read_header(file, stream, num_dimensions)
        expected = math.prod(shape)
        # One byte more than expected: finds excess, and makes gzip compare its checksum.
        content = read_up_to(expected + 1, stream)
    if len(content) != expected:
        actual = f"{len(content)}" if len(content) < expected else "more"
        raise DataError(
            f"{file}: its header {shape} asks for {expected} bytes, the file holds {actual}: "
            "get the file again"
        )
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def read_idx_shape(file: Path, num_dimensions: int) -> tuple[int, ...]:
    """The dimensions that the header of an IDX file claims; arguments and errors as `read_idx`."""
    with _opened(file) as stream:
        return _read_header(file, stream, num_dimensions)


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[io.BufferedIOBase]:
    """The file's content, unpacked; what cannot be read is a `DataError`."""
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            yield stream
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{file}: not a whole gzip file ({error}): get the file again") from error
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error


def _read_header(file: Path, stream: io.BufferedIOBase, num_dimensions: int) -> tuple[int, ...]:
    """Read the magic number (0x08: unsigned bytes; number of dimensions) and the dimensions."""
    size = 4 * (1 + num_dimensions)
    header = read_up_to(size, stream)
    if len(header) < size:
        raise DataError(
            f"{file}: holds {len(header)} bytes, its header alone has {size}: get the file again"
        )
    magic, *shape = (int(word) for word in np.frombuffer(header, dtype=">u4"))
    expected = 0x0800 + num_dimensions
    if magic != expected:
        raise DataError(
            f"{file}: begins with 0x{magic:08x}, expected 0x{expected:08x} (IDX, unsigned bytes in "
            f"{num_dimensions} dimensions): get the file again"
        )
    return tuple(shape)


def read_up_to(size: int, stream: io.BufferedIOBase) -> bytes:
    """Read size bytes, or fewer where the stream ends; allocates no more than it holds."""
    content = bytearray()
    while len(content) < size:
        try:
            chunk = stream.read1(min(_CHUNK, size - len(content)))
        except EOFError:  # gzip's word for a file that was cut short
            break
        if not chunk:
            break
        content += chunk
    return bytes(content)
