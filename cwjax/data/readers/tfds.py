"""MNIST and Fashion-MNIST through TensorFlow Datasets (TFDS), read and prepared without TensorFlow.

TFDS stores examples in an order of its own, not that of the original files.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cwjax.data.cache import cached_dataset
from cwjax.data.dataset import Dataset
from cwjax.data.readers.idx import read_idx_dataset
from cwjax.data.sources import ReadOptions, user_path
from cwjax.errors import DataError, one_line

if TYPE_CHECKING:
    from cwjax.data.download import Home

_FILE_FORMAT = "array_record"  # the one that TFDS reads without TensorFlow


def read(place: str, options: ReadOptions) -> Dataset:
    """Reads the TFDS data set of the name `place`, downloaded and prepared first if need be.

    Raises:
        DataError: it is damaged, or can neither be found nor downloaded.
    """
    roots = tfds_roots(options.data_dir)
    directory = find_prepared(place, roots) or download_and_prepare(place, roots[0])
    files = [file for file in directory.iterdir() if file.is_file()]
    return cached_dataset(place, directory, files, lambda: read_prepared(place, directory))


def tfds_roots(data_dir: Path | None) -> list[Path]:
    """Where prepared data is looked for: data_dir, `$TFDS_DATA_DIR`, `~/tensorflow_datasets`."""
    places = [data_dir, os.environ.get("TFDS_DATA_DIR"), "~/tensorflow_datasets"]
    return [user_path(str(place)) for place in places if place]


def find_prepared(name: str, roots: list[Path]) -> Path | None:
    """Find the newest version of a data set in the first root that has a readable one.

    Returns:
        The version's directory, or None where nothing is prepared.

    Raises:
        DataError: versions are prepared, but none in a file format that is read without TensorFlow.
    """
    unreadable = []
    for root in roots:
        versions = [path for path in root.glob(f"{name}/*") if _version(path)]
        for directory in sorted(versions, key=_version, reverse=True):
            file_format = _stored_format(directory)
            if file_format == _FILE_FORMAT:
                return directory
            unreadable.append(f"{directory} is stored as {file_format}")
    if unreadable:
        raise DataError(
            f"{'; '.join(unreadable)}: without TensorFlow only {_FILE_FORMAT} can be read; give "
            "--data-dir another directory, where the data is prepared in that format"
        )
    return None


def _version(directory: Path) -> tuple[int, ...]:
    """`(3, 0, 1)` of `.../mnist/3.0.1`; empty for what TFDS has not finished or another thing."""
    numbers = directory.name.split(".")
    is_finished = (directory / "dataset_info.json").is_file()
    is_version = all(number.isdecimal() for number in numbers)
    return tuple(int(number) for number in numbers) if is_finished and is_version else ()


def _stored_format(directory: Path) -> str:
    file = directory / "dataset_info.json"
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
        return str(info.get("fileFormat", "tfrecord"))  # the only one before the field existed
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{file}: cannot be read ({one_line(error)}): delete its directory, and the data is "
            "downloaded again"
        ) from error


def read_prepared(name: str, directory: Path) -> Dataset:
    """Decode the training and test split of a prepared directory.

    Raises:
        DataError: a file is missing or damaged.
    """
    import tensorflow_datasets as tfds  # half a second, not needed when the cache answers

    try:
        builder = tfds.builder_from_directory(directory)
        # Undecoded, because TFDS takes twice as long and logs that OpenCV would be faster still.
        sources = builder.as_data_source(decoders={"image": tfds.decode.SkipDecoding()})
        train, test = _decode(sources["train"]), _decode(sources["test"])
        class_names = tuple(builder.info.features["label"].names)
    except Exception as error:  # TFDS, ArrayRecord and Pillow each raise types of their own
        raise DataError(
            f"{directory}: cannot be read ({one_line(error)}): delete it, and the data is "
            "downloaded again"
        ) from error
    return Dataset.from_splits(name, train, test, class_names)


def _decode(source: Any) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    from PIL import Image

    examples = source.__getitems__(range(len(source)))
    images = [np.asarray(Image.open(io.BytesIO(example["image"]))) for example in examples]
    labels = [example["label"] for example in examples]
    return np.stack(images)[..., None], np.array(labels, dtype=np.int32)


def download_and_prepare(name: str, root: Path, home: Home | None = None) -> Path:
    """Fetch a data set's original files and let a TFDS builder prepare them below root.

    Args:
        name: "mnist" or "fashion_mnist".
        root: TFDS's data directory.
        home: where the files are and what they must be [default: `download.HOMES[name]`].

    Returns:
        The version's directory: what TFDS itself prepares, in names, order and pixels.

    Raises:
        DataError: the files cannot be had whole, or root cannot be written. Then nothing is left.
    """
    from cwjax.data.download import HOMES, fetch_files  # rarely needed, and slow to import

    with tempfile.TemporaryDirectory() as folder:
        fetch_files(home or HOMES[name], Path(folder))
        original = read_idx_dataset(Path(folder))
    import tensorflow_datasets as tfds

    builder = _builder_class(name, original)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(sys.stderr):  # TFDS prints what it does
            prepared = builder(data_dir=root, file_format=_FILE_FORMAT)
            prepared.download_and_prepare()
    except OSError as error:
        raise DataError(
            f"{root}: cannot be written ({one_line(error)}): give another --data-dir"
        ) from error
    return Path(prepared.data_path)


def _builder_class(name: str, original: Dataset) -> Any:
    """TFDS's own builder of a data set, with a generator that needs no TensorFlow.

    TFDS encodes arrays through TensorFlow, but Pillow images without. Metadata and version are
    inherited; the index as key gives the order that TFDS's own generator gives.
    """
    import tensorflow_datasets as tfds
    from PIL import Image
    from tensorflow_datasets.core import registered

    base: Any = {
        "mnist": tfds.image_classification.MNIST,
        "fashion_mnist": tfds.image_classification.FashionMNIST,
    }[name]
    with registered.skip_registration():

        class Builder(base):  # type: ignore[misc]
            def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
                return {
                    "train": self._generate_examples(original.train_inputs, original.train_labels),
                    "test": self._generate_examples(original.test_inputs, original.test_labels),
                }

            def _generate_examples(self, images: Any, labels: Any) -> Iterator[tuple[int, Any]]:
                for index, (image, label) in enumerate(zip(images, labels, strict=True)):
                    yield index, {"image": Image.fromarray(image[..., 0]), "label": int(label)}

    Builder.name = name
    return Builder
