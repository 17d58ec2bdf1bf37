"""The original files of MNIST and Fashion-MNIST, fetched whole and checked, or not at all."""

from __future__ import annotations

import hashlib
import http.client
import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cwjax.data.readers.idx import read_up_to
from cwjax.errors import DataError

# Together below 10 seconds, within which a missing network is to be reported.
OPEN_SECONDS = 5.0
READ_SECONDS = 4.0

_CHOICES = (
    "without a network give --dataset mnist5k, idx:DIR or npz:FILE, or --data-dir with a directory "
    "that TensorFlow Datasets has prepared"
)


@dataclass(frozen=True)
class Home:
    """Where a data set's files are, and what they must be.

    Attributes:
        url: directory of the files, with a slash at the end.
        files: name -> (size in bytes, SHA-256 in hex), as TensorFlow Datasets registers them;
            small ones first, so that what cannot work fails early.
    """

    url: str
    files: Mapping[str, tuple[int, str]]


_MNIST = """
4542     f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6 t10k-labels-idx1-ubyte.gz
28881    3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c train-labels-idx1-ubyte.gz
1648877  8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6 t10k-images-idx3-ubyte.gz
9912422  440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609 train-images-idx3-ubyte.gz
"""
_FASHION_MNIST = """
5148     67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5 t10k-labels-idx1-ubyte.gz
29515    a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845 train-labels-idx1-ubyte.gz
4422102  346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073 t10k-images-idx3-ubyte.gz
26421880 3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84 train-images-idx3-ubyte.gz
"""


def _registered(table: str) -> dict[str, tuple[int, str]]:
    rows = (line.split() for line in table.split("\n") if line)
    return {name: (int(size), sha256) for size, sha256, name in rows}


HOMES = {
    "mnist": Home(
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        _registered(_MNIST),
    ),
    "fashion_mnist": Home(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        _registered(_FASHION_MNIST),
    ),
}


def fetch_files(home: Home, directory: Path) -> None:
    """Fetch a data set's files into an existing directory.

    Raises:
        DataError: no answer within `OPEN_SECONDS`, a transfer that stalls for `READ_SECONDS` or is
            cut, or a file of another size or SHA-256 than registered. Such a file is not written.
    """
    for name, (size, sha256) in home.files.items():
        content = _fetch(home.url + name, size)
        actual = hashlib.sha256(content).hexdigest()
        if actual != sha256:
            raise DataError(
                f"{home.url}{name}: its SHA-256 is {actual}, registered is {sha256}; to use other "
                "files than the registered ones give --dataset idx:DIR"
            )
        (directory / name).write_bytes(content)


def _fetch(url: str, size: int) -> bytes:
    try:
        with _open(url) as response:
            content = read_up_to(size + 1, response)
    except (OSError, http.client.HTTPException) as error:
        raise DataError(f"{url}: cannot be downloaded ({error}); {_CHOICES}") from error
    if len(content) != size:
        actual = f"{len(content)}" if len(content) < size else "more"
        raise DataError(f"{url}: has {size} bytes, but {actual} were received; {_CHOICES}")
    return content


def _open(url: str) -> http.client.HTTPResponse:
    """Open the URL; in a thread, because looking up a host name obeys no timeout."""
    outcome: queue.SimpleQueue[http.client.HTTPResponse | Exception] = queue.SimpleQueue()

    def attempt() -> None:
        try:
            outcome.put(urllib.request.urlopen(url, timeout=READ_SECONDS))
        except urllib.error.HTTPError as error:
            error.close()  # it holds the connection
            outcome.put(error)
        except Exception as error:
            outcome.put(error)

    threading.Thread(target=attempt, daemon=True).start()
    try:
        result = outcome.get(timeout=OPEN_SECONDS)
    except queue.Empty:
        raise TimeoutError(f"no answer within {OPEN_SECONDS:g} seconds") from None
    if isinstance(result, Exception):
        raise result
    return result
