"""Prepared directories are found and read, or made from what a server has: whole or not at all.

The server is a local one with small files, so nothing here needs a network.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from cwjax.config import SourceConfig
from cwjax.data import download
from cwjax.data.download import HOMES, Home
from cwjax.data.readers.tfds import (
    download_and_prepare,
    find_prepared,
    read_prepared,
    tfds_roots,
)
from cwjax.data.sources import ReadOptions, load_dataset
from cwjax.errors import DataError

FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat")


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a directory; `fault` makes it fail in the middle of a training image file."""

    fault = ""

    def do_GET(self) -> None:
        if self.fault and "train-images" in self.path:
            if self.fault == "missing":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", "30000")
            self.end_headers()
            self.wfile.write(b"half of it")
            if self.fault == "stalls":
                self.server.stop.wait(10)  # type: ignore[attr-defined]
            return
        super().do_GET()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(idx_directory: Path) -> Iterator[http.server.ThreadingHTTPServer]:
    class ThisHandler(Handler):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, directory=str(idx_directory), **kwargs)  # type: ignore[arg-type]

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), ThisHandler) as server:
        server.stop = threading.Event()  # type: ignore[attr-defined]
        # Clients that hang up are part of the tests, not something to print.
        server.handle_error = lambda request, address: None  # type: ignore[method-assign]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.stop.set()  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


def home_of(port: int, directory: Path) -> Home:
    """The directory's files under a server's address, registered as they are now."""
    contents = {file.name: file.read_bytes() for file in sorted(directory.glob("*labels*"))}
    contents |= {file.name: file.read_bytes() for file in sorted(directory.glob("*images*"))}
    files = {
        name: (len(content), hashlib.sha256(content).hexdigest())
        for name, content in contents.items()
    }
    return Home(f"http://127.0.0.1:{port}/", files)


@pytest.fixture
def home(server: http.server.ThreadingHTTPServer, idx_directory: Path) -> Home:
    return home_of(server.server_address[1], idx_directory)


def sorted_pairs(images: np.ndarray, labels: np.ndarray) -> list[tuple[bytes, int]]:
    return sorted(
        (image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)
    )


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_downloaded_prepared_and_read(
    name: str, home: Home, tmp_path: Path, original: dict[str, np.ndarray]
) -> None:
    root = tmp_path / "prepared"
    directory = download_and_prepare(name, root, home)
    assert directory.parent == root / name
    assert find_prepared(name, [root]) == directory
    dataset = read_prepared(name, directory)
    assert dataset.name == name
    expected = FASHION if name == "fashion_mnist" else tuple("01234")
    assert dataset.class_names[:5] == expected
    for split in ("train", "test"):
        images, labels = (getattr(dataset, f"{split}_{kind}") for kind in ("inputs", "labels"))
        assert images.shape[1:] == (28, 28, 1)
        pairs = sorted_pairs(original[f"{split}_images"], original[f"{split}_labels"])
        assert sorted_pairs(images, labels) == pairs


def test_load_dataset_downloads_where_nothing_is_prepared(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bare_machine: None
) -> None:
    monkeypatch.setitem(HOMES, "mnist", home)
    dataset = load_dataset("mnist", ReadOptions(tmp_path / "prepared"))
    monkeypatch.setitem(HOMES, "mnist", Home("http://127.0.0.1:1/", home.files))
    assert (
        load_dataset("mnist", ReadOptions(tmp_path / "prepared")).fingerprint == dataset.fingerprint
    )
    monkeypatch.setenv("CWJAX_CACHE", str(tmp_path / "other cache"))
    assert (
        load_dataset("mnist", ReadOptions(tmp_path / "prepared")).fingerprint == dataset.fingerprint
    )


def assert_refused_and_nothing_left(home: Home, root: Path, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        download_and_prepare("mnist", root, home)
    assert str(caught.value).startswith("http://127.0.0.1:")
    assert "\n" not in str(caught.value)
    assert not root.exists()


OFFLINE = "give --dataset mnist5k, idx:DIR or npz:FILE, or --data-dir with a directory"


@pytest.mark.fault(35)
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("cut", r"train-images.*: has \d+ bytes, but 10 were received"),
        ("missing", r"train-images.*: cannot be downloaded \(HTTP Error 404"),
        ("stalls", r"train-images.*: cannot be downloaded \(.*timed out"),
    ],
)
def test_broken_transfer(
    server: http.server.ThreadingHTTPServer,
    home: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    message: str,
) -> None:
    monkeypatch.setattr(Handler, "fault", fault)
    monkeypatch.setattr(download, "READ_SECONDS", 0.3)
    assert_refused_and_nothing_left(home, tmp_path / "prepared", f"{message}.*{OFFLINE}")


@pytest.mark.fault(35)
def test_refused_connection(home: Home, tmp_path: Path) -> None:
    with socket.socket() as closed:  # bound but not listening: nothing else answers there
        closed.bind(("127.0.0.1", 0))
        refused = Home(f"http://127.0.0.1:{closed.getsockname()[1]}/", home.files)
        message = f"cannot be downloaded .*refused.*{OFFLINE}"
        assert_refused_and_nothing_left(refused, tmp_path / "prepared", message)


@pytest.mark.fault(35)
def test_server_that_never_answers(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "OPEN_SECONDS", 0.2)
    monkeypatch.setattr(download, "READ_SECONDS", 0.6)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mute = Home(f"http://127.0.0.1:{silent.getsockname()[1]}/", home.files)
        message = rf"no answer within 0.2 seconds\); .*{OFFLINE}"
        assert_refused_and_nothing_left(mute, tmp_path / "prepared", message)


@pytest.mark.fault(35)
@pytest.mark.usefixtures("bare_machine")
def test_the_script_names_the_choices_without_a_network(
    home: Home, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    monkeypatch.setitem(HOMES, "mnist", Home("http://127.0.0.1:1/", home.files))
    assert re.search(f"cannot be downloaded .*{OFFLINE}", refused("--dataset", "mnist"))


@pytest.mark.fault(35)
@pytest.mark.slow
@pytest.mark.usefixtures("bare_machine")
def test_a_silent_network_is_reported_within_ten_seconds(
    home: Home, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mute = Home(f"http://127.0.0.1:{silent.getsockname()[1]}/", home.files)
        monkeypatch.setitem(HOMES, "mnist", mute)
        start = time.monotonic()
        assert re.search(f"cannot be downloaded .*{OFFLINE}", refused("--dataset", "mnist"))
        assert time.monotonic() - start < 10


@pytest.mark.fault(35)
def test_a_missing_network_is_reported_within_ten_seconds() -> None:
    assert download.OPEN_SECONDS + download.READ_SECONDS < 10


@pytest.mark.fault(34)
def test_whole_file_that_is_not_the_registered_one(
    home: Home, idx_directory: Path, tmp_path: Path
) -> None:
    file = idx_directory / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(file.read_bytes())
    content[4] ^= 1  # the time in gzip's header: as valid as before
    file.write_bytes(content)
    actual = hashlib.sha256(content).hexdigest()
    message = f"{file.name}: its SHA-256 is {actual}, registered is .*idx:DIR"
    assert_refused_and_nothing_left(home, tmp_path / "prepared", message)
    assert load_dataset(f"idx:{idx_directory}").num_classes == 10  # as asked for, it is taken


@pytest.mark.fault(34)
def test_larger_file_than_registered_is_not_read_to_its_end(
    home: Home, idx_directory: Path, tmp_path: Path
) -> None:
    with (idx_directory / "t10k-labels-idx1-ubyte.gz").open("ab") as file:
        file.write(bytes(5_000_000))
    message = r"t10k-labels.*: has \d+ bytes, but more were received"
    assert_refused_and_nothing_left(home, tmp_path / "prepared", message)


def test_root_that_cannot_be_written(home: Home, tmp_path: Path) -> None:
    root = tmp_path / "file"
    root.write_text("in the way")
    with pytest.raises(DataError, match=f"{root}: cannot be written .*another --data-dir"):
        download_and_prepare("mnist", root, home)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_registered_files_are_those_of_tensorflow_datasets(name: str) -> None:
    import tensorflow_datasets

    package = Path(tensorflow_datasets.__file__).parent
    rows = (package / "url_checksums" / f"{name}.txt").read_text().splitlines()
    registered = {
        url: (int(size), sha256) for url, size, sha256, _ in (row.split("\t") for row in rows)
    }
    home = HOMES[name]
    assert {home.url + file: value for file, value in home.files.items()} == registered


def write_info(directory: Path, info: object) -> None:
    directory.mkdir(parents=True)
    (directory / "dataset_info.json").write_text(json.dumps(info))


def test_roots_in_their_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", "/shared")
    home = tmp_path / "tensorflow_datasets"
    assert tfds_roots(Path("mine")) == [Path("mine"), Path("/shared"), home]
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert tfds_roots(None) == [home]


def test_finds_the_newest_finished_version_in_the_first_root(tmp_path: Path) -> None:
    readable = {"fileFormat": "array_record"}
    for place in ("a/mnist/3.0.1", "b/mnist/3.0.1", "b/mnist/3.0.9", "b/mnist/3.0.10"):
        write_info(tmp_path / place, readable)
    write_info(tmp_path / "b/mnist/4.0.0.incompleteABC", readable)
    (tmp_path / "b/mnist/5.0.0").mkdir()
    roots = [tmp_path / "nowhere", tmp_path / "b", tmp_path / "a"]
    assert find_prepared("mnist", roots) == tmp_path / "b/mnist/3.0.10"
    assert find_prepared("fashion_mnist", roots) is None


def test_directory_in_a_format_that_needs_tensorflow(tmp_path: Path) -> None:
    write_info(tmp_path / "a/mnist/3.0.1", {"fileFormat": "tfrecord"})
    write_info(tmp_path / "b/mnist/3.0.1", {})
    with pytest.raises(DataError, match=r"a/mnist/3.0.1 is stored as tfrecord; .*b/mnist/3.0.1 is"):
        find_prepared("mnist", [tmp_path / "a", tmp_path / "b"])
    write_info(tmp_path / "c/mnist/3.0.1", {"fileFormat": "array_record"})
    found = find_prepared("mnist", [tmp_path / "a", tmp_path / "c"])
    assert found == tmp_path / "c/mnist/3.0.1"


@pytest.mark.parametrize("content", ["{", "[]"])
def test_damaged_description_of_a_directory(tmp_path: Path, content: str) -> None:
    write_info(tmp_path / "mnist/3.0.1", {})
    (tmp_path / "mnist/3.0.1/dataset_info.json").write_text(content)
    with pytest.raises(DataError, match=r"mnist/3.0.1/dataset_info.json: cannot be read"):
        find_prepared("mnist", [tmp_path])


def test_damaged_records(home: Home, tmp_path: Path) -> None:
    directory = download_and_prepare("mnist", tmp_path, home)
    (records,) = directory.glob("mnist-train*")
    content = bytearray(records.read_bytes())
    content[len(content) // 2] ^= 0xFF
    records.write_bytes(content)
    with pytest.raises(DataError, match=f"{directory}: cannot be read .*delete it") as caught:
        read_prepared("mnist", directory)
    assert "\n" not in str(caught.value)
    records.unlink()
    with pytest.raises(DataError, match=f"{directory}: cannot be read"):
        read_prepared("mnist", directory)


def prepare_flowers(root: Path, splits: dict[str, int]) -> None:
    """A set of colour images of many sizes, prepared without TensorFlow."""
    import tensorflow_datasets as tfds
    from PIL import Image
    from tensorflow_datasets.core import registered

    with registered.skip_registration():

        class Flowers(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]
            VERSION = tfds.core.Version("1.2.0")

            def _info(self) -> object:
                names = ["rose", "tulip"]
                features = {
                    "name": tfds.features.Text(),
                    "picture": tfds.features.Image(shape=(None, None, 3)),
                    "kind": tfds.features.ClassLabel(names=names),
                }
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features)
                )

            def _split_generators(self, dl_manager: object) -> dict[str, object]:
                return {name: self._generate_examples(name, num) for name, num in splits.items()}

            def _generate_examples(self, split: str, num: int) -> Iterator[tuple[int, object]]:
                rng = np.random.default_rng(len(split))
                for index in range(num):
                    pixels = rng.integers(0, 256, (20 + index, 24, 3), dtype=np.uint8)
                    yield (
                        index,
                        {
                            "name": f"{split} {index}",
                            "picture": Image.fromarray(pixels),
                            "kind": index % 2,
                        },
                    )

    Flowers(data_dir=root, file_format="array_record").download_and_prepare()


@pytest.mark.usefixtures("bare_machine")
@pytest.mark.parametrize(
    ("splits", "num_train", "num_test"),
    [
        ({"train": 8, "test": 6}, 8, 6),
        ({"train": 8, "validation": 4, "test": 6}, 12, 6),
        ({"train": 8, "validation": 4}, 8, 4),
        ({"train": 10, "unlabelled": 4}, 8, 2),
    ],
)
def test_any_set_of_images_with_labels(
    tmp_path: Path, splits: dict[str, int], num_train: int, num_test: int
) -> None:
    prepare_flowers(tmp_path, splits)
    dataset = load_dataset("tfds:flowers:1.2.0", ReadOptions(tmp_path))
    assert (dataset.num_train, len(dataset.test_labels)) == (num_train, num_test)
    assert dataset.class_names == ("rose", "tulip")
    assert dataset.input_shape[1:] == (24, 3)
    assert any("images resized from 20 x 24 to" in note for note in dataset.notes)
    small = ReadOptions(tmp_path, SourceConfig(image_size="18", grey=True))
    assert load_dataset("tfds:flowers", small).input_shape == (18, 18, 1)


@pytest.mark.usefixtures("bare_machine")
@pytest.mark.parametrize(
    ("place", "message"),
    [
        (
            "flowers",
            r"flowers is not prepared in .*: .*`tfds build flowers --file",
        ),
        ("mnist:9.9.9", r"mnist 9.9.9 is not prepared in .*`tfds build mnist:9.9.9 "),
        ("../mnist", "give tfds:NAME, NAME:VERSION or NAME/CONFIG"),
        ("*", "give tfds:NAME"),
    ],
)
def test_sets_that_are_not_prepared(tmp_path: Path, place: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(f"tfds:{place}", ReadOptions(tmp_path))
