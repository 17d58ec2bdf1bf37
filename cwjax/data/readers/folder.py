"""Images in a folder: a directory per class, in one tree or in a `train` and a `test` tree."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cwjax.data.cache import cached_dataset
from cwjax.data.dataset import Dataset
from cwjax.data.readers.frames import encode_groups, read_frame, require_column
from cwjax.data.readers.images import ImageFile, decode_images, named
from cwjax.data.sources import ReadOptions, user_path
from cwjax.data.split import with_held_out_test
from cwjax.errors import DataError

_SPLITS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "val",
    "valid": "val",
    "validation": "val",
}
_IGNORED = {"thumbs.db", "desktop.ini", "__macosx"}  # as are names that begin with a dot


@dataclass(frozen=True)
class _File(ImageFile):
    """An image and its class; its place is below the folder."""

    class_name: str


@dataclass(frozen=True)
class _Tree:
    """The files of a folder by split, in the order of their places."""

    train: list[_File]
    test: list[_File]
    notes: tuple[str, ...]


def read(place: str, options: ReadOptions) -> Dataset:
    """Reads the folder `place`.

    A class is a directory of images, which may lie in directories below it. With the directories
    `train` and `test` (also Training, Testing) the classes stand in each of them; `val` is
    the test split where there is no other, and otherwise belongs to the training file, from which
    every seed cuts a validation split of its own. Without them a test split is held out.

    Raises:
        DataError: no such folder, no classes, or a file that is no image; with its path.
    """
    folder = user_path(place)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such directory: give folder:DIR a directory of classes")
    folder = folder.resolve()
    tree = _find_files(folder)
    settings = options.source
    group_file = None if settings.group_file is None else user_path(settings.group_file)
    files: list[Path | str] = [str(file.content) for file in (*tree.train, *tree.test)]
    if group_file is not None:
        if not group_file.is_file():
            raise DataError(f"--group-file {group_file}: no such file")
        files.append(group_file)
    return cached_dataset(
        "folder",
        folder,
        files,
        lambda: _decode(folder, tree, group_file, options),
        settings,
    )


def _find_files(folder: Path) -> _Tree:
    directories, loose, ignored = _listing(folder, str(folder), "")
    kinds = {name: _SPLITS.get(name.lower()) for name in directories}
    if "train" not in kinds.values() or None in kinds.values():  # perhaps a class named "test"
        return _one_tree(folder, directories, loose, ignored)
    by_split: dict[str, list[_File]] = {"train": [], "test": [], "val": []}
    for name, kind in kinds.items():
        assert kind is not None
        if by_split[kind]:
            raise DataError(
                f"{folder}: {name} is a second directory of the {kind} split: join them"
            )
        inner, inner_loose, more = _listing(folder, directories[name], name)
        _require_classes(folder / name, inner, inner_loose)
        loose, ignored = [*loose, *inner_loose], [*ignored, *more]
        by_split[kind] = _files_of_classes(folder, inner, ignored)
    notes = []
    train, test = by_split["train"], by_split["test"]
    if by_split["val"]:
        if test:
            train = sorted([*train, *by_split["val"]], key=lambda file: file.place)
            notes.append(
                "the validation directory is part of the training file: each seed cuts its own"
            )
        else:
            test = by_split["val"]
            notes.append("the validation directory is the test split, there is no other")
    return _Tree(train, test, (*notes, *_ignored_notes(loose, ignored)))


def _one_tree(
    folder: Path, directories: dict[str, str], loose: list[str], ignored: list[str]
) -> _Tree:
    _require_classes(folder, directories, loose)
    if len(directories) < 2:
        (only,) = directories
        raise DataError(
            f"{folder}: {only!r} is its only directory, so there is one class: give at least 2, or "
            f"folder:{folder / only} if the classes are in there"
        )
    files = _files_of_classes(folder, directories, ignored)
    return _Tree(files, [], _ignored_notes(loose, ignored))


def _require_classes(place: Path, directories: dict[str, str], loose: list[str]) -> None:
    if not directories:
        raise DataError(
            f"{place}: has no directory and {len(loose)} files: give a directory per class, with "
            "its images"
        )


def _listing(folder: Path, path: str, place: str) -> tuple[dict[str, str], list[str], list[str]]:
    """Directories (name -> path) and places of files in a directory, and what is ignored there."""
    directories, files, ignored = {}, [], []
    for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
        inner = f"{place}/{entry.name}" if place else entry.name
        if entry.name.startswith(".") or entry.name.lower() in _IGNORED:
            ignored.append(inner)
            continue
        if entry.is_symlink():
            _check_link(folder, entry, inner)
        if entry.is_dir():
            directories[entry.name] = entry.path
        elif entry.is_file():
            files.append(inner)
        else:
            raise DataError(f"{folder / inner}: is no regular file: remove it")
    return directories, files, ignored


def _check_link(folder: Path, entry: os.DirEntry[str], place: str) -> None:
    target = Path(entry.path).resolve()
    if not target.is_relative_to(folder):
        raise DataError(
            f"{folder / place}: is a link that leaves the folder: copy what it points to"
        )
    if entry.is_dir():
        raise DataError(f"{folder / place}: is a link to a directory: copy what it points to")


def _files_of_classes(folder: Path, classes: dict[str, str], ignored: list[str]) -> list[_File]:
    """All files of a split in the order of classes; adds to what is ignored."""
    found, names = [], dict[str, str]()
    for directory, path in classes.items():
        # The same letters may be written in two ways, and a copied tree may mix them.
        name = unicodedata.normalize("NFC", directory)
        if name in names:
            raise DataError(f"{folder}: two directories are named {name!r}: rename one")
        names[name] = directory
        places = list(_walk(folder, path, os.path.relpath(path, folder), ignored))
        if not places:
            raise DataError(f"{path}: has no images: add some, or remove the directory")
        found += [_File(f"{folder}/{place}", place, name) for place in places]
    return found


def _walk(folder: Path, path: str, place: str, ignored: list[str]) -> Iterator[str]:
    directories, files, more = _listing(folder, path, place)
    ignored += more
    yield from files
    for name, inner in directories.items():
        yield from _walk(folder, inner, f"{place}/{name}", ignored)


def _ignored_notes(loose: list[str], ignored: list[str]) -> tuple[str, ...]:
    return (
        *([f"{named(loose)} beside the classes ignored"] if loose else []),
        *([f"hidden and system files ignored: {named(ignored)}"] if ignored else []),
    )


def _decode(folder: Path, tree: _Tree, group_file: Path | None, options: ReadOptions) -> Dataset:
    class_names = tuple(sorted({file.class_name for file in tree.train}))
    unknown = next((file for file in tree.test if file.class_name not in class_names), None)
    if unknown is not None:
        raise DataError(
            f"{folder / unknown.place}: its class {unknown.class_name!r} has no training images: "
            "leave it out, or add some"
        )
    files = [*tree.train, *tree.test]
    decoded = decode_images(folder, files, options)
    good = [files[place] for place in decoded.kept]
    numbers = {name: label for label, name in enumerate(class_names)}
    labels = np.array([numbers[file.class_name] for file in good], np.int32)
    groups = None if group_file is None else _read_groups(group_file, good)
    notes = (*tree.notes, *decoded.notes)
    if not tree.test:
        return with_held_out_test(
            folder.name, decoded.images, labels, class_names, groups=groups, notes=notes
        )
    num_train = int((decoded.kept < len(tree.train)).sum())
    return Dataset(
        folder.name, decoded.images, labels, num_train, class_names, groups=groups, notes=notes
    )


def _read_groups(file: Path, images: list[_File]) -> npt.NDArray[np.int32]:
    frame = read_frame(file)
    for column in ("path", "group"):
        require_column(file, frame, column, "give the columns path and group")
    repeated = frame["path"][frame["path"].duplicated()]
    if len(repeated):
        raise DataError(f"{file}: path {repeated.iloc[0]!r} stands twice: leave one out")
    by_place = dict(zip(frame["path"].astype(str), frame["group"], strict=True))
    missing = [image.place for image in images if image.place not in by_place]
    if missing:
        raise DataError(
            f"{file}: has no row for {named(missing)}: give every image below the folder a group"
        )
    return encode_groups(file, [by_place[image.place] for image in images])
