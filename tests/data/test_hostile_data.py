"""Files made to do harm, or by a slip: refused in one line, before much memory is taken."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from cwjax.config import DataConfig, StudyConfig
from cwjax.data import sources
from cwjax.data.readers.npz import read_npz_dataset
from cwjax.data.readers.tfds import find_prepared, tfds_roots
from cwjax.data.sources import load_dataset
from cwjax.errors import ConfigError, DataError
from cwjax.study.plan import make_plan

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (60, 18, 18), dtype=np.uint8)
LABELS = np.arange(60) % 3


@contextmanager
def refused_in_one_line(message: str, kind: type[ConfigError] = DataError) -> Iterator[None]:
    with pytest.raises(kind, match=message) as caught:
        yield
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).isprintable()


@contextmanager
def little_memory(num_bytes: float = 8e6) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < num_bytes
    finally:
        tracemalloc.stop()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.npz"


def npy(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version, allow_pickle=False)
    return stream.getvalue()


def write_members(file: Path, **members: bytes) -> None:
    """A zip file of these members, `labels.npy` written as `labels__npy`."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)


@pytest.mark.fault(30)
@pytest.mark.parametrize("content", [b"text", npy(LABELS)])
def test_a_member_that_is_no_array(file: Path, content: bytes) -> None:
    write_members(file, images__npy=npy(IMAGES), labels=content)
    with refused_in_one_line(r"mine\.npz: labels: cannot be read \(its name does not end in \.npy"):
        read_npz_dataset(file)


@pytest.mark.fault(30)
def test_members_that_lie_about_their_size_or_are_of_no_known_version(file: Path) -> None:
    write_members(file, images__npy=npy(IMAGES)[:-5], labels__npy=npy(LABELS))
    with refused_in_one_line("images: .*its header asks for 19440 bytes, it holds 19435"):
        read_npz_dataset(file)
    write_members(file, images__npy=npy(IMAGES, (3, 0)), labels__npy=npy(LABELS))
    with refused_in_one_line(r"images: .*version \(3, 0\) of the \.npy format"):
        read_npz_dataset(file)
    write_members(file, images__npy=b"\x93NUMPY\x01\x00\xff", labels__npy=npy(LABELS))
    with refused_in_one_line("images: cannot be read"):
        read_npz_dataset(file)


def test_names_of_members_are_shown_as_text(file: Path) -> None:
    write_members(file, **{"\x1b[31m\n‮__npy": npy(LABELS)})
    with refused_in_one_line(r"unknown: \\x1b\[31m\\n\\u202e; give"):
        read_npz_dataset(file)


@pytest.mark.fault(31)
def test_headers_are_compared_before_any_data_are_read(file: Path) -> None:
    """25 MB that zip to 25 kB: what does not fit is told without unpacking them."""
    np.savez_compressed(file, images=np.zeros((1_000, 160, 160), np.uint8), labels=LABELS)
    assert file.stat().st_size < 50_000
    with little_memory(), refused_in_one_line(r"labels has shape \(60,\) for 1000 images"):
        read_npz_dataset(file)


def test_what_memory_cannot_hold_is_refused_before_it_is_read(
    file: Path, idx_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.zeros((60, 600, 600), np.uint8)
    np.savez_compressed(file, images=images, labels=LABELS)
    packed = gzip.compress(struct.pack(">4I", 0x0803, 40, 750, 750) + bytes(40 * 750**2), 1)
    (idx_directory / "train-images-idx3-ubyte.gz").write_bytes(packed)
    monkeypatch.setattr(sources.os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 4_900}.get)
    for spec in (f"npz:{file}", f"idx:{idx_directory}"):
        with (
            little_memory(),
            refused_in_one_line(r"holds 0\.0 GiB once unpacked, this machine has"),
        ):
            load_dataset(spec)


@pytest.mark.fault(25, 31)
def test_gzip_bombs_in_idx_files(idx_directory: Path) -> None:
    file = idx_directory / "train-images-idx3-ubyte.gz"
    zeros = bytes(25_000_000)
    file.write_bytes(gzip.compress(struct.pack(">4I", 0x0803, 250_000, 10, 10) + zeros, 1))
    with little_memory(), refused_in_one_line("train_images has 250000 images and .* 40 labels"):
        load_dataset(f"idx:{idx_directory}")
    file.write_bytes(gzip.compress(struct.pack(">4I", 0x0803, 40, 28, 28) + zeros, 1))
    with little_memory(), refused_in_one_line("asks for 31360 bytes, the file holds more"):
        load_dataset(f"idx:{idx_directory}")


@pytest.mark.fault(63)
@pytest.mark.parametrize(
    ("name", "message"),
    [
        (0xD800, r"class name 'a\\ud800' is no valid text \(surrogates not allowed\)"),
        (0x110000, "class_names has the character 0x110000, Unicode ends at 0x10ffff"),
    ],
)
def test_class_names_that_are_no_text(file: Path, name: int, message: str) -> None:
    names = np.array(["aé", "b", "c"])
    names.view(np.uint32)[1] = name
    np.savez(file, images=IMAGES, labels=LABELS, class_names=names)
    with refused_in_one_line(message):
        read_npz_dataset(file)


def test_class_names_of_another_byte_order(file: Path) -> None:
    names = np.array(["cat", "dög", "eel"]).astype(">U3")
    np.savez(file, images=IMAGES, labels=LABELS, class_names=names)
    assert read_npz_dataset(file).class_names == ("cat", "dög", "eel")


@pytest.mark.fault(32)
@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": LABELS + 1}, r"labels\[2\] is 3, expected 0 to 2 .*; labels start at 1: sub"),
        (
            {"class_names": np.array(["cat", "dog"])},
            "class_names has 2 names, but labels has 3 different classes, 0 to 2: give one name",
        ),
        ({"images": IMAGES.astype("m8[s]")}, r"images is timedelta64\[s\]: store pixels as uint8"),
        ({"images": IMAGES.astype("M8[s]")}, r"images is datetime64\[s\]: store pixels as uint8"),
        ({"labels": LABELS.astype("m8[s]")}, r"labels is timedelta64\[s\] .*expected integers"),
        ({"images": np.zeros((60, 2), "i4,f8")}, r"images has shape \(60, 2\), expected"),
        ({"images": np.zeros((60, 2, 2), "i4,f8")}, "store pixels as uint8"),
    ],
)
def test_slips_are_named(file: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(file, **{"images": IMAGES, "labels": LABELS} | arrays)
    with refused_in_one_line(message):
        read_npz_dataset(file)


def plan_of(file: Path, **settings: object) -> None:
    data = DataConfig(dataset=f"npz:{file}", **settings)  # type: ignore[arg-type]
    make_plan(StudyConfig(data=(data,), num_seeds=1))


def test_channels_first_is_recognised(file: Path) -> None:
    images = RNG.integers(0, 256, (60, 3, 32, 32), dtype=np.uint8)
    np.savez(file, images=images, labels=LABELS)
    with refused_in_one_line(
        r"images are 3 x 32, cnn needs .*: channels first\? give images as \[n, 32, 32, 3\]",
        ConfigError,
    ):
        plan_of(file)
    np.savez(file, images=images[..., :3], labels=LABELS)
    with refused_in_one_line("images are 3 x 32, cnn needs at least 18 x 18: enlarge", ConfigError):
        plan_of(file)


@pytest.mark.fault(37)
def test_the_largest_factor_is_explained(file: Path) -> None:
    """15 examples a class, of which two validate."""
    np.savez(
        file, images=IMAGES[:45], labels=LABELS[:45],
        test_images=IMAGES[45:], test_labels=LABELS[45:],
    )  # fmt: skip
    with refused_in_one_line(
        "give at most 13, the examples of the smallest class after the validation cut", ConfigError
    ):
        plan_of(file, imbalance="long_tailed")


@pytest.mark.parametrize("place", ["~nosuchuser/x.npz", "~nosuchuser"])
@pytest.mark.parametrize("kind", ["npz", "idx"])
def test_the_home_of_nobody(kind: str, place: str) -> None:
    with refused_in_one_line(f"{place}: .*give the path without ~", ConfigError):
        load_dataset(f"{kind}:{place}")
    with refused_in_one_line(f"{place}: .*give the path without ~", ConfigError):
        tfds_roots(Path(place))


def test_names_that_no_file_can_have() -> None:
    for kind in ("npz", "idx"):
        with refused_in_one_line(r"--dataset \w+:xxx.*: cannot be read \(File name too long\)"):
            load_dataset(f"{kind}:{'x' * 5_000}")
    for name in ("npz:\udcff.npz", "npz:a\0.npz", "npz:a\nb.npz", "npz:\x1b[31m.npz"):
        with refused_in_one_line("--dataset is '.*': rename the file", ConfigError):
            DataConfig(dataset=name)


def test_a_pipe_or_a_device_is_no_file(tmp_path: Path) -> None:
    with refused_in_one_line("/dev/zero: no such file"):
        load_dataset("npz:/dev/zero")
    for name in ("train-images", "t10k-images"):
        (tmp_path / f"{name}-idx3-ubyte").symlink_to("/dev/zero")
    with refused_in_one_line("has none of train-images-idx3-ubyte"):
        load_dataset(f"idx:{tmp_path}")


def write_info(directory: Path, content: str) -> None:
    directory.mkdir(parents=True)
    (directory / "dataset_info.json").write_text(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 200_000, r"dataset_info\.json: cannot be read \(RecursionError"),
        ("null", r"dataset_info\.json: cannot be read \(AttributeError"),
        ('{"fileFormat": null}', "is stored as None: without TensorFlow only array_record"),
        ('{"fileFormat": ["array_record"]}', r"is stored as \['array_record'\]"),
        ("\udcff", r"dataset_info\.json: cannot be read \(UnicodeDecodeError"),
    ],
)
def test_odd_descriptions_of_tfds_directories(tmp_path: Path, content: str, message: str) -> None:
    directory = tmp_path / "mnist/3.0.1"
    directory.mkdir(parents=True)
    (directory / "dataset_info.json").write_bytes(content.encode(errors="surrogateescape"))
    with refused_in_one_line(message):
        find_prepared("mnist", [tmp_path])


@pytest.mark.parametrize(
    "features", [None, "{}", "[]", '{"pythonClassName": "os.system"}', "[" * 200_000]
)
def test_a_tfds_directory_of_the_right_name_and_other_contents(
    tmp_path: Path, features: str | None, bare_machine: None
) -> None:
    info = {"fileFormat": "array_record", "name": "mnist", "version": "3.0.1", "splits": []}
    write_info(tmp_path / "mnist/3.0.1", json.dumps(info))
    if features is not None:
        (tmp_path / "mnist/3.0.1/features.json").write_text(features)
    with refused_in_one_line(r"mnist/3\.0\.1: cannot be read .*: delete it, and the data is"):
        load_dataset("mnist", sources.ReadOptions(tmp_path))


def test_things_that_are_no_tfds_directory_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist/3.0.1").write_text("a file")
    (tmp_path / "mnist/4.0.0/dataset_info.json").mkdir(parents=True)
    (tmp_path / "mnist/5.0.0").symlink_to("5.0.0")  # to itself
    assert find_prepared("mnist", [tmp_path]) is None


@pytest.mark.parametrize(
    "flags",
    [
        ("--dataset", "npz:~nosuchuser/x.npz"),
        ("--dataset", "npz:\udcff.npz"),
        ("--dataset", f"npz:{'x' * 5_000}"),
    ],
)
def test_the_command_says_it_in_one_line(refused: Callable[..., str], flags: tuple[str]) -> None:
    assert refused(*flags).startswith("error: ")
