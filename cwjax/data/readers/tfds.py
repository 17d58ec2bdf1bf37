"""Image-classification sets of TensorFlow Datasets (TFDS), read without TensorFlow.

MNIST and Fashion-MNIST are also prepared without it; others are read where they are prepared. TFDS
stores examples in an order of its own, not that of the original files.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cwjax.config import SourceConfig
from cwjax.data.cache import cached_dataset
from cwjax.data.dataset import Dataset
from cwjax.data.readers.idx import read_idx_dataset
from cwjax.data.readers.images import ImageFile, decode_images
from cwjax.data.sources import ReadOptions, user_path
from cwjax.data.split import with_held_out_test
from cwjax.errors import DataError, one_line

if TYPE_CHECKING:
    from cwjax.data.download import Home

_FILE_FORMAT = "array_record"  # the one that TFDS reads without TensorFlow
_PREPARED_HERE = ("mnist", "fashion_mnist")
_SPLITS = ("train", "validation", "test")  # the last one that is there is the test split


def read(place: str, options: ReadOptions) -> Dataset:
    """Reads the TFDS data set of the name `place`, or NAME:VERSION, or NAME/CONFIG.

    Args:
        place: MNIST and Fashion-MNIST are downloaded and prepared first if need be.
        options: where prepared data may lie; size and colours of the images.

    Raises:
        DataError: it is damaged, no set of images and labels, or can neither be found nor
            downloaded.
    """
    name, _, version = place.partition(":")
    if not re.fullmatch(r"\w+(/[\w.-]+)?", name, re.ASCII):
        raise DataError(f"--dataset tfds:{place}: give tfds:NAME, NAME:VERSION or NAME/CONFIG")
    roots = tfds_roots(options.data_dir)
    directory = find_prepared(name, roots, version)
    if directory is None:
        if name not in _PREPARED_HERE or version:
            raise DataError(
                f"{name}{f' {version}' * bool(version)} is not prepared in "
                f"{' or '.join(map(str, roots))}: {_build_command(name, roots[0], version)}"
            )
        directory = download_and_prepare(name, roots[0])
    files = [file for file in directory.iterdir() if file.is_file()]
    return cached_dataset(
        name.replace("/", "-"),
        directory,
        files,
        lambda: read_prepared(name, directory, options),
        None if options.source == SourceConfig() else options.source,
    )


def _build_command(name: str, root: Path, version: str = "") -> str:
    wanted = f"{name}:{version}" if version else name
    return (
        f"prepare it once, with `pip install tensorflow` and `tfds build {wanted} "
        f"--file_format={_FILE_FORMAT} --data_dir={root}`"
    )


def tfds_roots(data_dir: Path | None) -> list[Path]:
    """Where prepared data is looked for: data_dir, `$TFDS_DATA_DIR`, `~/tensorflow_datasets`."""
    places = [data_dir, os.environ.get("TFDS_DATA_DIR"), "~/tensorflow_datasets"]
    return [user_path(str(place)) for place in places if place]


def find_prepared(name: str, roots: list[Path], version: str = "") -> Path | None:
    """Find the newest version of a data set in the first root that has a readable one.

    Args:
        name: of the data set, perhaps with a configuration, e.g. `mnist_corrupted/fog`.
        roots: where to look.
        version: the only one to take, if given.

    Returns:
        The version's directory, or None where nothing is prepared.

    Raises:
        DataError: versions are prepared, but none in a file format that is read without TensorFlow.
    """
    unreadable = []
    for root in roots:
        versions = [
            path for path in root.glob(f"{name}/*") if _version(path) and version in ("", path.name)
        ]
        for directory in sorted(versions, key=_version, reverse=True):
            file_format = _stored_format(directory)
            if file_format == _FILE_FORMAT:
                return directory
            unreadable.append(f"{directory} is stored as {file_format}")
    if unreadable:
        raise DataError(
            f"{'; '.join(unreadable)}: without TensorFlow only {_FILE_FORMAT} can be read; give "
            f"--data-dir another directory, or {_build_command(name, roots[0])}"
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


def read_prepared(name: str, directory: Path, options: ReadOptions | None = None) -> Dataset:
    """Decode the splits of a prepared directory.

    Where there is a test split, a validation split is part of the training file; where there is
    none, it is the test split.

    Args:
        name: of the data set.
        directory: of its version.
        options: size and colours of the images.

    Raises:
        DataError: a file is missing or damaged, or it is no set of images with one label each.
    """
    import tensorflow_datasets as tfds  # half a second, not needed when the cache answers

    try:
        builder = tfds.builder_from_directory(directory)
        features, splits = builder.info.features, list(builder.info.splits)
        image_name, label_name = (
            _only(features, kind) for kind in (tfds.features.Image, tfds.features.ClassLabel)
        )
        if image_name and label_name:
            # Undecoded, because TFDS takes twice as long and logs that OpenCV would be faster.
            sources = builder.as_data_source(decoders={image_name: tfds.decode.SkipDecoding()})
            read = {
                split: _examples(sources[split], split, image_name, label_name)
                for split in splits
                if split in _SPLITS
            }
            class_names = tuple(features[label_name].names)
    except Exception as error:  # TFDS and ArrayRecord each raise types of their own
        again = "downloaded" if name in _PREPARED_HERE else "prepared"
        raise DataError(
            f"{directory}: cannot be read ({one_line(error)}): delete it, and the data is {again} "
            "again"
        ) from error
    if not (image_name and label_name and "train" in splits):
        raise DataError(
            f"{directory}: has the features {', '.join(features)} and the splits "
            f"{', '.join(splits)}: only sets with one image, one class label and a train split can "
            "be used"
        )
    *in_train, test = [split for split in _SPLITS if split in read]
    train_splits = in_train or [test]
    files = [file for split in train_splits for file, _ in read[split]]
    num_train = len(files)
    if in_train:
        files += [file for file, _ in read[test]]
    numbers = {file.place: label for examples in read.values() for file, label in examples}
    decoded = decode_images(directory, files, options or ReadOptions())
    labels = np.array([numbers[files[place].place] for place in decoded.kept], np.int32)
    if not in_train:
        return with_held_out_test(name, decoded.images, labels, class_names, notes=decoded.notes)
    return Dataset(
        name,
        decoded.images,
        labels,
        int((decoded.kept < num_train).sum()),
        class_names,
        notes=decoded.notes,
    )


def _only(features: Any, kind: type) -> str | None:
    """The name of the only feature of a kind."""
    names = [name for name, feature in features.items() if isinstance(feature, kind)]
    return names[0] if len(names) == 1 else None


def _examples(
    source: Any, split: str, image_name: str, label_name: str
) -> list[tuple[ImageFile, int]]:
    """Images, not yet decoded, with their labels."""
    examples = source.__getitems__(range(len(source)))
    return [
        (ImageFile(example[image_name], f"{split}[{index}]"), int(example[label_name]))
        for index, example in enumerate(examples)
    ]


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
