"""A user's own data: arrays in an .npz file, brought into the types of `Dataset`."""

from __future__ import annotations

import math
import sys
import zipfile
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cwjax.data.cache import cached_dataset
from cwjax.data.dataset import Dataset, check_labels, numbered_classes
from cwjax.data.readers.frames import encode_groups
from cwjax.data.sources import ReadOptions, require_memory, user_path
from cwjax.data.split import dataset_of_splits
from cwjax.errors import DataError, one_line

_OWN_NAMES = ("images", "labels", "test_images", "test_labels")
_KERAS_NAMES = ("x_train", "y_train", "x_test", "y_test")

# In pixel values. Floats that were pixels / 255 are this close to whole ones, even as float16.
_PIXEL_TOLERANCE = 0.1


@dataclass(frozen=True)
class Header:
    """What an array is, known before its data are read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def read(place: str, options: ReadOptions) -> Dataset:
    """Reads the file `place`.

    Raises:
        DataError: there is no such file, or see `read_npz_dataset`.
    """
    file = user_path(place)
    if not file.is_file():
        raise DataError(f"{file}: no such file: give npz:FILE the path of an .npz file")
    group_column = options.source.group_column
    return cached_dataset(
        "npz", file, [file], lambda: read_npz_dataset(file, group_column), group_column
    )


def read_npz_dataset(file: Path, group_column: str | None = None) -> Dataset:
    """Read images and labels, and optionally a test split and class names.

    The arrays are `images`, `labels`, `test_images`, `test_labels` or Keras's `x_train`, `y_train`,
    `x_test`, `y_test`, and `class_names`. Images are `[num_examples, height, width]` (grayscale) or
    `[num_examples, height, width, channels]` of the pixels that `images_to_uint8` takes; labels are
    integers `[num_examples]` or, as Keras stores some, `[num_examples, 1]`. Without a test split
    a stratified fifth of the examples, always the same, is held out as one.

    The headers of all arrays are compared first: a small file may unpack to many gigabytes.

    Args:
        file: its path.
        group_column: the array of the examples' groups; that of the test split is named
            `test_` and then the same.

    Raises:
        DataError: the file is damaged, holds Python objects, misses an array or has an unknown one,
            or the data is unusable; with the array and the place.
    """
    arrays = read_arrays(file, partial(_check_headers, group_column))
    images, labels, test_images, test_labels = _array_names(arrays)
    if "class_names" in arrays:
        class_names = class_names_of(f"{file}: class_names", arrays["class_names"])
        check_number_of_names(file, len(class_names), labels, arrays[labels])
    else:
        class_names = numbered_classes(arrays[labels])
    splits = [
        _examples(file, arrays, *names, len(class_names))
        for names in ((images, labels), (test_images, test_labels))
        if names[0] in arrays
    ]
    groups = groups_of(file, arrays, group_arrays(group_column, has_test=len(splits) == 2))
    return dataset_of_splits(file.stem, splits, class_names, groups=groups)


def group_arrays(group_column: str | None, *, has_test: bool) -> tuple[str, ...]:
    """The names of the arrays of groups: of the training file and, if it has one, the test split.

    Args:
        group_column: of `SourceConfig`.
        has_test: whether there is a test split.
    """
    if group_column is None:
        return ()
    return (group_column, *([f"test_{group_column}"] if has_test else []))


def groups_of(
    file: Path, arrays: Mapping[str, npt.NDArray[Any]], names: Sequence[str]
) -> npt.NDArray[np.int32] | None:
    """The groups of all examples as numbers; None without groups.

    Args:
        file: for the message.
        arrays: by name.
        names: as `group_arrays` gives them.

    Raises:
        DataError: see `encode_groups`.
    """
    values = [value for name in names for value in arrays[name].tolist()]
    return encode_groups(file, values) if names else None


def read_arrays(
    file: Path, check: Callable[[Path, Mapping[str, Header]], None]
) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an .npz file by name.

    Args:
        file: its path.
        check: called with the arrays' headers before any data is read.

    Raises:
        DataError: the file is damaged, holds Python objects or unpacks to more than this machine's
            memory, or what check raises.
    """
    try:
        stream = file.open("rb")
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error
    arrays = {}
    name = ""
    with stream:
        if not zipfile.is_zipfile(stream):
            raise DataError(f"{file}: not a whole .npz file: it is cut short or of another format")
        try:
            with zipfile.ZipFile(stream) as archive:
                headers = {}
                for member in archive.infolist():
                    name = member.filename.removesuffix(".npy")
                    headers[name] = _read_header(file, archive, member)
                check(file, headers)
                sizes = [math.prod(each.shape) * each.dtype.itemsize for each in headers.values()]
                require_memory(file, sum(sizes))
                for name in headers:
                    with archive.open(f"{name}.npy") as data:
                        arrays[name] = np.lib.format.read_array(data, allow_pickle=False)
        except DataError:
            raise
        except Exception as error:  # a damaged zip file can raise nearly anything
            raise _unreadable(file, name, one_line(error)) from error
    return arrays


def _unreadable(file: Path, name: str, reason: str) -> DataError:
    return DataError(
        f"{file}: {name!s:.80}: cannot be read ({reason}): save plain arrays with np.savez"
    )


def _read_header(file: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Header:
    name = member.filename.removesuffix(".npy")
    if name == member.filename:
        raise _unreadable(file, ascii(name)[1:-1], "its name does not end in .npy")
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read_header is None:  # later versions are for the names of structured arrays
            raise _unreadable(file, name, f"version {version} of the .npy format")
        shape, _, dtype = read_header(stream)
        if dtype.hasobject:
            raise _unreadable(file, name, "Python objects need allow_pickle, which is off")
        expected, held = math.prod(shape) * dtype.itemsize, member.file_size - stream.tell()
    if held != expected:
        raise _unreadable(file, name, f"its header asks for {expected} bytes, it holds {held}")
    return Header(shape, dtype)


def _array_names(found: Container[str]) -> tuple[str, str, str, str]:
    return _KERAS_NAMES if "x_train" in found else _OWN_NAMES


def _check_headers(group_column: str | None, file: Path, headers: Mapping[str, Header]) -> None:
    """Checks all that can be known before any data is read."""
    names = _array_names(headers)
    groups = group_arrays(group_column, has_test=names[2] in headers)
    _check_names(file, list(headers), groups)
    for images_name, labels_name, *group_name in (
        (*names[:2], *groups[:1]),
        (*names[2:], *groups[1:]),
    ):
        if images_name not in headers:
            continue
        images = headers[images_name]
        _check_image_type(f"{file}: {images_name}", images.shape, images.dtype)
        for name, kind in zip((labels_name, *group_name), ("label", "group"), strict=False):
            if headers[name].shape[:1] != images.shape[:1]:
                raise DataError(
                    f"{file}: {name} has shape {headers[name].shape} for {images.shape[0]} "
                    f"{images_name}: give one {kind} per image"
                )


def _check_names(file: Path, found: Sequence[str], groups: Sequence[str]) -> None:
    names = _array_names(found)
    missing = [name for name in (*names[:2], *groups) if name not in found]
    if (names[2] in found) != (names[3] in found):
        missing += [name for name in names[2:] if name not in found]
    refuse_arrays(
        file,
        found,
        missing,
        {*names, *groups, "class_names"},
        "images, labels [, test_images, test_labels] or x_train, y_train [, x_test, y_test], "
        "[class_names]",
    )


def refuse_arrays(
    file: Path, found: Iterable[str], missing: Sequence[str], known: Container[str], wanted: str
) -> None:
    """Checks the names of arrays.

    Args:
        file: for the message.
        found: names of its arrays.
        missing: those that it lacks.
        known: all that it may have.
        wanted: what to give, for the message.

    Raises:
        DataError: one is missing or unknown.
    """
    names = sorted(found)
    unknown = [ascii(name)[1:-1] for name in names if name not in known]
    if missing or unknown:
        listing = ", ".join(ascii(name)[1:-1] for name in names)
        raise DataError(
            f"{file}: has the arrays {listing:.500}; missing: {', '.join(missing) or 'none'}; "
            f"unknown: {', '.join(unknown) or 'none':.500}; give {wanted}, and groups by the name "
            "that --group-column gives"
        )


def check_number_of_names(
    file: Path, num_names: int, labels_name: str, labels: npt.NDArray[Any]
) -> None:
    """Checks the names: fewer than classes is a mistake in them, not in the labels.

    Args:
        file: for the message.
        num_names: of them.
        labels_name: name of the labels' array.
        labels: `[num_examples]`.

    Raises:
        DataError: there are fewer.
    """
    if labels.dtype.kind in "iu" and len(np.unique(labels)) > num_names:
        raise DataError(
            f"{file}: class_names has {num_names} names, but {labels_name} has "
            f"{len(np.unique(labels))} different classes, {labels.min()} to {labels.max()}: give "
            "one name per class"
        )


def _examples(
    file: Path,
    arrays: dict[str, npt.NDArray[Any]],
    images_name: str,
    labels_name: str,
    num_classes: int,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    images = images_to_uint8(f"{file}: {images_name}", arrays[images_name])
    return images, labels_to_int32(f"{file}: {labels_name}", arrays[labels_name], num_classes)


def class_names_of(field: str, names: npt.NDArray[Any]) -> tuple[str, ...]:
    """The names in an array of strings; DataError where it is none."""
    if names.ndim != 1 or names.dtype.kind != "U":
        raise DataError(f"{field} is {names.dtype} {names.shape}, expected strings (classes,)")
    code_points = np.ascontiguousarray(names.astype(names.dtype.newbyteorder("="))).view(np.uint32)
    if names.size and code_points.max() > sys.maxunicode:
        raise DataError(
            f"{field} has the character 0x{code_points.max():x}, Unicode ends at "
            f"0x{sys.maxunicode:x}: save the names anew"
        )
    return tuple(names.tolist())


def labels_to_int32(
    field: str, labels: npt.NDArray[Any], num_classes: int
) -> npt.NDArray[np.int32]:
    """Integers `[num_examples]` or `[num_examples, 1]` to int32 `[num_examples]`, all in range.

    Raises:
        DataError: another shape or type, or a label outside 0 .. num_classes - 1.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    check_labels(field, labels, num_classes)
    return labels.astype(np.int32)


def images_to_uint8(field: str, images: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Grayscale `[N, H, W]` or `[N, H, W, C]` of other types to uint8 `[N, H, W, C]`.

    Integers in 0 .. 255 are taken as they are. Floats are taken only if all are in [0, 1] and were
    made by dividing pixels by 255: then round(255·x) gives those pixels back and nothing is lost.
    Other floats would lose precision or mean something else, so they are an error.

    Args:
        field: file and array, for the message.
        images: the images.

    Raises:
        DataError: another shape or type, NaN or infinite pixels, or pixels out of range; with
            their number.
    """
    _check_image_type(field, images.shape, images.dtype)
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind == "f":
        return _unit_floats_to_uint8(field, images)
    _refuse(field, (images < 0) | (images > 255), "outside 0 to 255", "store pixels as uint8")
    return images.astype(np.uint8)


def _check_image_type(field: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if len(shape) not in (3, 4):
        raise DataError(
            f"{field} has shape {shape}, expected (examples, height, width) or (examples, "
            "height, width, channels)"
        )
    if dtype.kind not in "iuf":  # a timedelta64 is an integer to NumPy, too
        raise DataError(f"{field} is {dtype}: store pixels as uint8")


def _unit_floats_to_uint8(field: str, images: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    _refuse(field, ~np.isfinite(images), "NaN or infinite", "fix or leave out these images")
    _refuse(field, (images < 0) | (images > 1), "outside 0 to 1", "store pixels as uint8")
    scaled = images.astype(np.float32) * 255
    pixels = np.round(scaled)
    between = np.abs(scaled - pixels) > _PIXEL_TOLERANCE
    _refuse(field, between, "no multiple of 1/255", "round(255 * images) and store as uint8")
    return pixels.astype(np.uint8)


def _refuse(field: str, wrong: npt.NDArray[np.bool_], what: str, fix: str) -> None:
    if wrong.any():
        raise DataError(f"{field}: {wrong.sum()} of {wrong.size} pixels are {what}: {fix}")
