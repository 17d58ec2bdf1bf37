"""The same training as users of other libraries write it, for the throughput benchmark.

Every peer trains the same network on the same examples: batches of 56 in a new order each epoch,
plain cross-entropy, the optimiser of the work (`WORKS`). Each module below has one function that
imports its library, builds the network and returns its `Training`:

| name                          | how its users would write it                                     |
|-------------------------------|------------------------------------------------------------------|
| `cwjax-N`                     | cwjax's engine with N runs at once                               |
| `flax-loop`                   | stock `nnx` layers, one jitted step a batch                      |
| `torch`, `torch-channels-last`| eager `nn.Sequential`, tensors in memory, indexed by batch       |
| `keras-tensorflow`, `keras-jax` | the notebook's model and `fit`                                 |
| `sklearn`                     | `MLPClassifier` and `fit`                                        |
| `matmul`                      | no training: the fastest float32 matrix products of these cores  |

`NAME-per-core` is one single-threaded process of it per core, as who trains many runs starts them.
`python -m experiments.peers NAME` measures one of them (`__main__.py`).
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np

WorkName: TypeAlias = Literal["cnn", "mlp-small", "mlp", "linear"]

BATCH_SIZE = 56
LEARNING_RATE = 1e-3
PER_CORE = "-per-core"


@dataclass(frozen=True)
class Network:
    """What is trained.

    Attributes:
        input_shape: of one example.
        hidden: widths of dense layers with ReLU below the head; None for the notebook's CNN.
        num_classes: number of logits.
        optimizer: its learning rate is `LEARNING_RATE`.
        peers: rows of its table.
    """

    input_shape: tuple[int, ...]
    hidden: tuple[int, ...] | None
    num_classes: int
    optimizer: Literal["rmsprop", "adam"]
    peers: tuple[str, ...]

    @property
    def widths(self) -> tuple[int, ...]:
        """Of a dense network: from the features to the logits."""
        assert self.hidden is not None
        return (*self.input_shape, *self.hidden, self.num_classes)


_OF_FEATURES = ("cwjax-1", "cwjax-32", "torch", "torch-per-core", "sklearn", "sklearn-per-core")

WORKS = MappingProxyType[WorkName, Network](
    {
        "cnn": Network(
            (28, 28, 1),
            None,
            10,
            "rmsprop",
            (
                *("cwjax-1", "cwjax-2", "cwjax-32", "flax-loop", "torch", "torch-per-core"),
                *("torch-channels-last", "keras-tensorflow", "keras-tensorflow-per-core"),
                *("keras-jax", "matmul"),
            ),
        ),
        "mlp-small": Network((10,), (64,), 5, "adam", _OF_FEATURES),
        "mlp": Network((40,), (256, 128), 18, "adam", _OF_FEATURES),
        "linear": Network((768,), (), 100, "adam", _OF_FEATURES),
    }
)


@dataclass(frozen=True, eq=False)
class Work:
    """What a training peer is given."""

    network: Network
    inputs: np.ndarray  # float32 [num_examples, 28, 28, 1] in [0, 1], or [num_examples, features]
    labels: np.ndarray  # int32 [num_examples]
    num_threads: int
    batch_size: int = BATCH_SIZE  # divides num_examples: no library pays for a second compilation


@dataclass(frozen=True)
class Repeat:
    """One measurement of a peer: one of the two rates, and the memory."""

    peak_memory_mib: float
    examples_per_second: float = 0.0
    train_loss: float | None = None
    gflop_per_second: float = 0.0
    """The speed of `matmul`, which trains nothing."""


@dataclass
class Row:
    """What a peer says of itself, and its measurements."""

    name: str
    skipped: str = ""
    """Why there is nothing else; empty where the peer was measured."""
    start_seconds: float = 0.0
    compile_seconds: float = 0.0
    threads: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    repeats: list[Repeat] = field(default_factory=list)


def peak_mib(usage: resource.struct_rusage) -> float:
    """The largest resident memory of a process so far, in MiB."""
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


@dataclass(frozen=True)
class Training:
    """A network that is built, and neither compiled nor trained yet."""

    first_batch: Callable[[], object]
    """Trains on one batch, so that everything is compiled, planned and allocated."""
    epochs: Callable[[int], float]
    """Trains on every example so many times, each time in a new order; the mean training loss of
    the last pass, when all is done."""
