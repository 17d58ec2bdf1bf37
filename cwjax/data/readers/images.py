"""Encoded images of any format and mode to one array: decoded in threads, brought to one size."""

from __future__ import annotations

import functools
import io
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from cwjax.config import available_cores
from cwjax.data.dataset import WARNING
from cwjax.data.sources import ReadOptions, require_memory
from cwjax.errors import DataError, one_line

if TYPE_CHECKING:
    import PIL.Image

_LARGEST_SIDE = 64
_NAMED = 3  # files of each kind of conversion
_EXIF_ORIENTATION = 0x0112
_TRANSPOSED = (5, 6, 7, 8)  # orientations that exchange height and width

Result = TypeVar("Result")


@dataclass(frozen=True)
class ImageFile:
    """An encoded image.

    Attributes:
        content: its path, or its bytes.
        place: where it is, for messages.
    """

    content: str | bytes
    place: str


@dataclass(frozen=True, eq=False)
class DecodedImages:
    """What became of image files.

    Attributes:
        images: uint8 `[num_kept, height, width, channels]`.
        kept: `[num_kept]`, which of the files, ascending.
        notes: what was converted or left out.
    """

    images: npt.NDArray[np.uint8]
    kept: npt.NDArray[np.intp]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Header:
    """What an image says of itself before it is decoded."""

    height: int
    width: int
    is_grey: bool
    conversions: tuple[str, ...]


def decode_images(folder: Path, files: Sequence[ImageFile], options: ReadOptions) -> DecodedImages:
    """Decodes every file, as `SourceConfig` says; grey only if all are, or if asked for.

    Transparency is placed on white, the first of several frames is taken, what has more than 8 bits
    is scaled down, and cameras' orientation is applied.

    Args:
        folder: where the files are, for messages.
        files: at least one.
        options: size, grey, what to do with bad files, and whom to tell the progress.

    Raises:
        DataError: a file is no image, is cut short or too large; with its path.
    """
    settings = options.source
    reader = _Reader(folder, 2 * len(files), options)
    headers = reader.read_all(_read_header, files)
    opened = [place for place, header in enumerate(headers) if header is not None]
    known = [header for header in headers if header is not None]
    if not known:
        raise DataError(f"{folder}: none of its {len(files)} files is an image")
    size = settings.size or _median_size(known)
    channels = 1 if settings.grey or all(header.is_grey for header in known) else 3
    require_memory(folder, len(known) * size[0] * size[1] * channels)
    images = np.empty((len(known), *size, channels), np.uint8)
    rows = {files[place].place: row for row, place in enumerate(opened)}

    def fill(file: ImageFile) -> bool:
        images[rows[file.place]] = _read_pixels(file, size, channels)
        return True

    whole = reader.read_all(fill, [files[place] for place in opened])
    kept = np.flatnonzero([is_whole is not None for is_whole in whole])
    good = [(files[opened[row]].place, known[row]) for row in kept]
    return DecodedImages(
        images if len(kept) == len(images) else images[kept],
        np.array(opened, np.intp)[kept],
        (
            *_size_notes(good, size),
            *_conversion_notes(good, channels),
            *reader.notes,
        ),
    )


class _Reader:
    """Reads files in threads; what cannot be read is an error, or skipped and remembered."""

    def __init__(self, folder: Path, num_steps: int, options: ReadOptions) -> None:
        self._folder = folder
        self._num_steps = num_steps
        self._skip_bad = options.source.skip_bad_images
        self._progress = options.progress
        self._done = 0
        self._bad: dict[str, str] = {}

    def read_all(
        self, step: Callable[[ImageFile], Result], files: Sequence[ImageFile]
    ) -> list[Result | None]:
        """What `step` makes of every file, None for a bad one."""
        import PIL.Image

        PIL.Image.init()
        results: list[Result | None] = []
        pool = ThreadPoolExecutor(available_cores(), thread_name_prefix="images")
        try:
            with warnings.catch_warnings():  # on odd metadata, of every file again
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
                for result in pool.map(lambda file: self._attempt(step, file), files):
                    results.append(result)
                    self._done += 1
                    if self._progress is not None:
                        self._progress(self._done, self._num_steps)
        finally:
            pool.shutdown(cancel_futures=True)
        return results

    def _attempt(self, step: Callable[[ImageFile], Result], file: ImageFile) -> Result | None:
        try:
            return step(file)
        except Exception as error:  # Pillow raises types of its own for each format
            known = isinstance(error, DataError)
            problem = str(error) if known else f"cannot be read as an image ({one_line(error)})"
        if not self._skip_bad:
            raise DataError(
                f"{self._folder / file.place}: {problem}: remove it, or give --skip-bad-images"
            )
        self._bad[file.place] = problem
        return None

    @property
    def notes(self) -> tuple[str, ...]:
        """What was skipped: how many as a warning, then each."""
        if not self._bad:
            return ()
        return (
            f"{WARNING}{len(self._bad):,} files are left out, they cannot be read as images: "
            f"{named(sorted(self._bad))}",
            *(f"left out: {place} {problem}" for place, problem in sorted(self._bad.items())),
        )


@functools.cache
def _formats() -> list[str]:
    """What Pillow reads, in the order of trying; not EPS, which starts another program."""
    import PIL.Image

    common = ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"]
    return [*common, *sorted(PIL.Image.OPEN.keys() - {*common, "EPS"})]


def _open(file: ImageFile) -> PIL.Image.Image:
    """The image, not yet decoded."""
    import PIL.Image

    content = file.content
    if not (os.path.getsize(content) if isinstance(content, str) else len(content)):
        raise DataError("is empty")
    stream = content if isinstance(content, str) else io.BytesIO(content)
    try:
        return PIL.Image.open(stream, formats=_formats())
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        limit = PIL.Image.MAX_IMAGE_PIXELS
        raise DataError(f"has more than {limit:,} pixels, it would fill the memory") from error


def _read_header(file: ImageFile) -> _Header:
    with _open(file) as image:
        width, height = image.size
        # Pillow would decode a whole PNG to look for EXIF data behind the pixels.
        has_exif = image.format != "PNG" or "exif" in image.info
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1) if has_exif else 1
        if orientation in _TRANSPOSED:
            width, height = height, width
        conversions = {
            "first frame of several": getattr(image, "is_animated", False)
            and image.format != "MPO",
            "CMYK": image.mode == "CMYK",
            "more than 8 bits": image.mode[0] in "IF",
            "palette": image.mode in ("P", "PA"),
            "transparency, placed on white": image.has_transparency_data,
            "turned by its EXIF orientation": orientation in range(2, 9),
        }
        return _Header(
            height=height,
            width=width,
            is_grey=image.mode[0] in "1LIF" and image.mode != "LAB",
            conversions=tuple(name for name, applies in conversions.items() if applies),
        )


def _read_pixels(file: ImageFile, size: tuple[int, int], channels: int) -> npt.NDArray[np.uint8]:
    """The image `[height, width, channels]`."""
    import PIL.Image
    import PIL.ImageOps

    with _open(file) as opened:
        opened.draft(
            None, (2 * max(size), 2 * max(size))
        )  # a JPEG is decoded no larger than needed
        image = PIL.ImageOps.exif_transpose(opened)
    if image.mode[0] in "IF":
        image = PIL.Image.fromarray(_to_8_bits(np.asarray(image)))
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        white = PIL.Image.new("RGBA", colours.size, "white")
        image = PIL.Image.alpha_composite(white, colours)
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != size[::-1]:
        image = image.resize(size[::-1], PIL.Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(*size, channels)


def _to_8_bits(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Integers are of 16 bits; floats are from 0 to 1 or from 0 to 255."""
    low, high = pixels.min(), pixels.max()
    is_float = pixels.dtype.kind == "f"
    if not (low >= 0 and high <= (255 if is_float else 65535)):  # also where one is NaN
        raise DataError(f"has pixels from {low} to {high}: store them in 8 bits")
    factor = (255 if high <= 1 else 1) if is_float else 1 / 257
    return np.round(pixels * factor).astype(np.uint8)


def _median_size(headers: list[_Header]) -> tuple[int, int]:
    """The median height and width, made smaller where it does not fit into 64 x 64."""
    height = float(np.median([header.height for header in headers]))
    width = float(np.median([header.width for header in headers]))
    factor = min(1.0, _LARGEST_SIDE / max(height, width))
    return max(1, round(factor * height)), max(1, round(factor * width))


def _size_notes(good: list[tuple[str, _Header]], size: tuple[int, int]) -> tuple[str, ...]:
    resized = [header for _, header in good if (header.height, header.width) != size]
    if not resized:
        return ()
    sizes = sorted({(header.height, header.width) for header in resized})
    low, high = sizes[0], sizes[-1]
    between = f"{low[0]} x {low[1]}" + (f" to {high[0]} x {high[1]}" if high != low else "")
    return (
        f"{len(resized):,} of {len(good):,} images resized from {between} to {size[0]} x {size[1]}",
    )


def _conversion_notes(good: list[tuple[str, _Header]], channels: int) -> tuple[str, ...]:
    places: dict[str, list[str]] = {}
    for place, header in good:
        for name in header.conversions:
            places.setdefault(name, []).append(place)
        if header.is_grey != (channels == 1):
            kind = "colour made grey" if channels == 1 else "grey made colour"
            places.setdefault(kind, []).append(place)
    return tuple(
        f"{name}: {len(found):,} of {len(good):,} images, {named(found)}"
        for name, found in places.items()
    )


def named(places: Sequence[str]) -> str:
    """The first few places, and how many more there are."""
    more = len(places) - _NAMED
    return ", ".join(places[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")
