"""A folder of images, as people have them: any format and mode, names of all kinds, bad files."""

from __future__ import annotations

import shutil
import unicodedata
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from cwjax.config import SourceConfig
from cwjax.data.dataset import Dataset
from cwjax.data.sources import ReadOptions, load_dataset
from cwjax.errors import ConfigError, DataError

RNG = np.random.default_rng(0)


def picture(height: int = 20, width: int = 20, channels: int = 3) -> PIL.Image.Image:
    pixels = RNG.integers(0, 256, (height, width, channels), dtype=np.uint8)
    return PIL.Image.fromarray(pixels[..., 0] if channels == 1 else pixels)


def save(image: PIL.Image.Image, file: Path, **options: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file, **options)  # type: ignore[arg-type]
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of six PNG images each."""
    for name in ("cat", "dog"):
        for index in range(6):
            save(picture(), tmp_path / "photos" / name / f"{index}.png")
    return tmp_path / "photos"


def load(folder: Path, **settings: object) -> Dataset:
    source = SourceConfig(**settings)  # type: ignore[arg-type]
    return load_dataset(f"folder:{folder}", ReadOptions(source=source))


def noted(dataset: Dataset, text: str) -> bool:
    return any(text in note for note in dataset.notes)


def test_one_tree_gets_a_held_out_test_split(folder: Path) -> None:
    dataset = load(folder)
    assert dataset.name == "photos"
    assert dataset.class_names == ("cat", "dog")
    assert dataset.inputs.shape == (12, 20, 20, 3)
    assert np.bincount(dataset.train_labels).tolist() == [5, 5]
    assert np.bincount(dataset.test_labels).tolist() == [1, 1]
    assert noted(dataset, "2 of 12 examples, always the same, are held out")


def test_pixels_are_those_of_the_files(folder: Path) -> None:
    dataset = load(folder)
    files = sorted(folder.rglob("*.png"))
    expected = {np.asarray(PIL.Image.open(file)).tobytes() for file in files}
    assert {image.tobytes() for image in dataset.inputs} == expected


@pytest.mark.parametrize(
    ("train", "test"), [("train", "test"), ("Training", "Testing"), ("TRAIN", "val")]
)
def test_trees_of_train_and_test(folder: Path, tmp_path: Path, train: str, test: str) -> None:
    root = tmp_path / "split"
    shutil.copytree(folder, root / train)
    save(picture(), root / test / "dog" / "new.png")
    save(picture(), root / test / "cat" / "deep" / "down.png")
    dataset = load(root)
    assert (dataset.num_train, len(dataset.test_labels)) == (12, 2)
    assert dataset.test_labels.tolist() == [0, 1]


def test_a_validation_tree_beside_a_test_tree_belongs_to_training(
    folder: Path, tmp_path: Path
) -> None:
    root = tmp_path / "split"
    shutil.copytree(folder, root / "train")
    for split in ("test", "val"):
        for name in ("cat", "dog"):
            save(picture(), root / split / name / "one.png")
    dataset = load(root)
    assert (dataset.num_train, len(dataset.test_labels)) == (14, 2)
    assert noted(dataset, "the validation directory is part of the training file")


def test_a_class_may_be_named_train(folder: Path) -> None:
    (folder / "cat").rename(folder / "train")
    assert load(folder).class_names == ("dog", "train")


def test_the_size_is_the_median_made_to_fit(tmp_path: Path) -> None:
    for index, (height, width) in enumerate([(30, 100), (60, 200), (90, 300)] * 2):
        save(picture(height, width), tmp_path / "in" / f"{index % 2}" / f"{index}.png")
    dataset = load(tmp_path / "in")
    assert dataset.input_shape == (19, 64, 3)
    assert noted(dataset, "6 of 6 images resized from 30 x 100 to 90 x 300 to 19 x 64")
    assert load(tmp_path / "in", image_size="32").input_shape == (32, 32, 3)
    assert load(tmp_path / "in", image_size="48x24", grey=True).input_shape == (48, 24, 1)


@pytest.mark.parametrize("size", ["", "0", "12x", "-3", "x5", "9.5", "99999"])
def test_sizes_that_are_none(size: str) -> None:
    with pytest.raises(ConfigError, match=r"--image-size is .*: give a height"):
        SourceConfig(image_size=size)


def test_grey_images_stay_grey_and_mixed_ones_become_colour(folder: Path, tmp_path: Path) -> None:
    for index in range(6):
        save(picture(channels=1), tmp_path / "grey" / f"{index % 2}" / f"{index}.jpg")
    assert load(tmp_path / "grey").input_shape == (20, 20, 1)
    save(picture(channels=1), folder / "cat" / "grey.png")
    dataset = load(folder)
    assert dataset.input_shape == (20, 20, 3)
    assert noted(dataset, "grey made colour: 1 of 13 images, cat/grey.png")


def converted(folder: Path, name: str) -> np.ndarray:
    """The image of this name in the data set that has only it besides plain black ones."""
    for each in ("cat", "dog"):
        for file in (folder / each).glob("?.png"):
            PIL.Image.new("L", (20, 20)).save(file)
    dataset = load(folder)
    bright = np.flatnonzero(dataset.inputs.reshape(len(dataset.inputs), -1).any(axis=1))
    assert len(bright) == 1
    image: np.ndarray = dataset.inputs[bright[0]]
    return image


@pytest.mark.fault(74)
@pytest.mark.filterwarnings("ignore:.*by content")  # of the black images
def test_sixteen_bits_are_scaled_not_clipped(folder: Path) -> None:
    pixels = np.linspace(0, 65535, 400).reshape(20, 20).astype(np.uint16)
    save(PIL.Image.fromarray(pixels), folder / "cat" / "deep.png")
    assert np.array_equal(converted(folder, "deep")[..., 0], np.round(pixels / 257))


@pytest.mark.fault(74)
@pytest.mark.filterwarnings("ignore:.*by content")
def test_transparency_is_placed_on_white(folder: Path) -> None:
    ink = np.zeros((20, 20, 4), np.uint8)  # black ink on nothing: without white all is black
    ink[5:10, 5:10, 3] = 255
    save(PIL.Image.fromarray(ink), folder / "cat" / "ink.png")
    image = converted(folder, "ink")[..., 0]
    assert (image[5:10, 5:10] == 0).all()
    assert image.sum() == 255 * (400 - 25)


@pytest.mark.fault(74)
@pytest.mark.filterwarnings("ignore:.*by content")
def test_orientation_of_cameras_is_applied(folder: Path) -> None:
    lying = np.zeros((20, 20, 3), np.uint8)
    lying[:, :4] = 255
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise
    save(PIL.Image.fromarray(lying), folder / "cat" / "turned.png", exif=exif)
    image = converted(folder, "turned")[..., 0]
    assert (image[:4] == 255).all()
    assert (image[4:] == 0).all()


@pytest.mark.fault(74)
def test_every_conversion_is_said(folder: Path) -> None:
    frames = [picture() for _ in range(3)]
    frames[0].save(folder / "cat" / "moves.gif", save_all=True, append_images=frames[1:])
    save(picture().convert("CMYK"), folder / "cat" / "print.jpg")
    save(picture().convert("P"), folder / "dog" / "palette.png")
    clear = picture().convert("RGBA")
    clear.putalpha(100)
    save(clear, folder / "dog" / "alpha.webp")
    save(PIL.Image.fromarray(np.full((20, 20), 0.5, np.float32)), folder / "dog" / "float.tiff")
    dataset = load(folder)
    assert dataset.inputs.shape == (17, 20, 20, 3)
    for text in (
        "first frame of several: 1 of 17 images, cat/moves.gif",
        "CMYK: 1 of 17 images, cat/print.jpg",
        "palette: ",
        "transparency, placed on white: 1 of 17 images, dog/alpha.webp",
        "more than 8 bits: 1 of 17 images, dog/float.tiff",
    ):
        assert noted(dataset, text), text
    (grey,) = [image for image in dataset.inputs if len(np.unique(image)) == 1]
    assert grey.max() == 128


@pytest.mark.fault(71)
def test_folder_without_classes(tmp_path: Path) -> None:
    save(picture(), tmp_path / "flat" / "one.png")
    with pytest.raises(DataError, match=r"flat: has no directory and 1 files: give a directory"):
        load(tmp_path / "flat")
    with pytest.raises(DataError, match="no such directory"):
        load(tmp_path / "nowhere")
    (tmp_path / "split" / "train").mkdir(parents=True)
    with pytest.raises(DataError, match=r"split/train: has no directory"):
        load(tmp_path / "split")


@pytest.mark.fault(71)
def test_class_without_images(folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="empty: has no images: add some, or remove"):
        load(folder)


@pytest.mark.fault(72)
def test_folder_of_one_class(folder: Path) -> None:
    with pytest.raises(DataError, match=r"'photos' is its only directory.* or folder:.*/photos if"):
        load(folder.parent)


def break_text(file: Path) -> None:
    file.write_text("no image")


def break_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-300])


def break_empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.fault(73)
@pytest.mark.parametrize("damage", [break_text, break_short, break_empty])
def test_bad_files(folder: Path, damage: Callable[[Path], None]) -> None:
    damage(folder / "dog" / "3.png")
    message = r"photos/dog/3.png: (cannot be read|is empty).*: remove it, or give --skip-bad-images"
    with pytest.raises(DataError, match=message) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    with pytest.warns(UserWarning, match="1 files are left out.*: dog/3.png"):
        dataset = load(folder, skip_bad_images=True)
    assert len(dataset.inputs) == 11
    assert noted(dataset, "left out: dog/3.png ")
    with pytest.warns(UserWarning, match="1 files are left out"):  # from the cache too
        assert load(folder, skip_bad_images=True).fingerprint == dataset.fingerprint


def huge_png() -> bytes:
    """A PNG whose header claims 30,000 x 30,000 pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    header = (30_000).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


@pytest.mark.fault(75)
def test_decompression_bomb(folder: Path) -> None:
    (folder / "cat" / "bomb.png").write_bytes(huge_png())
    with pytest.raises(DataError, match=r"cat/bomb.png: has more than [\d,]+ pixels"):
        load(folder)


@pytest.mark.fault(76)
def test_links(folder: Path, tmp_path: Path) -> None:
    inside = folder / "cat" / "same.png"
    inside.symlink_to(folder / "cat" / "0.png")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*by content")
        assert len(load(folder).inputs) == 13
    outside = save(picture(), tmp_path / "secret.png")
    (folder / "cat" / "leak.png").symlink_to(outside)
    with pytest.raises(DataError, match=r"cat/leak.png: is a link that leaves the folder"):
        load(folder)
    (folder / "cat" / "leak.png").unlink()
    (folder / "birds").symlink_to(folder / "cat")
    with pytest.raises(DataError, match="birds: is a link to a directory"):
        load(folder)


@pytest.mark.fault(77)
def test_names_are_kept_and_system_files_ignored(tmp_path: Path) -> None:
    names = ["Cat", "cat", "l'été", "two words", "ünï 猫", '"quoted"']
    for name in names:
        for index in range(3):
            save(picture(), tmp_path / "in" / name / f"an image {index}.png")
    for junk in ("Thumbs.db", ".DS_Store", "desktop.ini"):
        (tmp_path / "in" / "cat" / junk).write_bytes(b"junk")
    (tmp_path / "in" / "__MACOSX" / "cat").mkdir(parents=True)
    (tmp_path / "in" / ".hidden").mkdir()
    (tmp_path / "in" / "readme.txt").write_text("about")
    dataset = load(tmp_path / "in")
    assert dataset.class_names == tuple(sorted(names))
    assert len(dataset.inputs) == 18
    assert noted(dataset, "hidden and system files ignored: .hidden, __MACOSX, cat/.DS_Store and 2")
    assert noted(dataset, "readme.txt beside the classes ignored")


@pytest.mark.fault(77)
def test_a_name_in_two_spellings_of_unicode_is_one_class(tmp_path: Path) -> None:
    for split, form in (("train", "NFC"), ("test", "NFD")):
        for name in ("été", "hiver"):
            directory = tmp_path / "in" / split / unicodedata.normalize(form, name)  # type: ignore[arg-type]
            for index in range(2):
                save(picture(), directory / f"{index}.png")
    assert load(tmp_path / "in").class_names == ("hiver", "été")


@pytest.mark.fault(78)
def test_the_same_image_in_train_and_test(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "split"
    shutil.copytree(folder, root / "train")
    for name in ("cat", "dog"):
        save(picture(), root / "test" / name / "new.png")
    shutil.copy(root / "train" / "cat" / "0.png", root / "test" / "cat" / "old.png")
    for _ in ("decoded", "from the cache"):
        with pytest.warns(UserWarning, match="split: 1 of 3 test examples are in the training"):
            dataset = load(root)
    assert noted(dataset, "1 of 3 test examples are in the training file too")


def test_class_that_only_the_test_tree_has(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "split" / "train")
    save(picture(), tmp_path / "split" / "test" / "horse" / "1.png")
    with pytest.raises(DataError, match=r"test/horse/1.png: its class 'horse' has no training"):
        load(tmp_path / "split")


def test_groups_of_a_file(folder: Path, tmp_path: Path) -> None:
    rows = [
        f"{name}/{index}.png,patient {index // 2}" for name in ("cat", "dog") for index in range(6)
    ]
    file = tmp_path / "groups.csv"
    file.write_text("\n".join(["path,group", *rows]))
    dataset = load(folder, group_file=str(file))
    assert dataset.groups is not None
    assert len(set(dataset.groups.tolist())) == 3
    train, test = dataset.groups[: dataset.num_train], dataset.groups[dataset.num_train :]
    assert not set(train.tolist()) & set(test.tolist())
    file.write_text("\n".join(["path,group", *rows[1:]]))
    with pytest.raises(DataError, match=r"groups.csv: has no row for cat/0.png"):
        load(folder, group_file=str(file))


def test_progress_is_told(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    options = ReadOptions(progress=lambda done, total: told.append((done, total)))
    load_dataset(f"folder:{folder}", options)
    assert told == [(done, 24) for done in range(1, 25)]
    load_dataset(f"folder:{folder}", options)  # from the cache
    assert len(told) == 24


def test_a_changed_file_is_read_again(folder: Path) -> None:
    before = load(folder)
    save(picture(), folder / "cat" / "new.png")
    assert len(load(folder).inputs) == 13
    (folder / "cat" / "new.png").unlink()
    assert load(folder).fingerprint == before.fingerprint


def test_settings_of_another_source_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="--label-column is a setting of features: and table:"):
        load(folder, label_column="x")
