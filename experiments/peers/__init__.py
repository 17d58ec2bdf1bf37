"""The notebook's training as users of other libraries write it, for the throughput benchmark.

Every peer trains the same network on the same digits: batches of 56 in a new order each epoch,
dropout 1/2, RMSprop, plain cross-entropy. Each module below has one function that imports its
library, builds the network and returns its `Training`:

| name                          | how its users would write it                                     |
|-------------------------------|------------------------------------------------------------------|
| `cwjax-N`                     | cwjax's engine with N runs at once                               |
| `flax-loop`                   | stock `nnx` layers, one jitted step a batch                      |
| `torch`, `torch-channels-last`| eager `nn.Sequential`, tensors in memory, indexed by batch       |
| `keras-tensorflow`, `keras-jax` | the notebook's model and `fit`                                 |
| `matmul`                      | no training: the fastest float32 matrix products of these cores  |

`python -m experiments.peers NAME` measures one of them (`__main__.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

PeerName: TypeAlias = Literal[
    "cwjax-1",
    "cwjax-2",
    "cwjax-8",
    "cwjax-32",
    "flax-loop",
    "torch",
    "torch-channels-last",
    "keras-tensorflow",
    "keras-jax",
    "matmul",
]

NUM_CLASSES = 10
LEARNING_RATE = 1e-3


@dataclass(frozen=True, eq=False)
class Work:
    """What a training peer is given."""

    images: np.ndarray  # float32 [num_examples, 28, 28, 1], in [0, 1]
    labels: np.ndarray  # int32 [num_examples]
    batch_size: int  # divides num_examples: no library pays for a second compilation
    num_threads: int


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


@dataclass(frozen=True)
class Training:
    """A network that is built, and neither compiled nor trained yet."""

    first_batch: Callable[[], object]
    """Trains on one batch, so that everything is compiled, planned and allocated."""
    epoch: Callable[[], float]
    """Trains on every example once, in a new order; the mean training loss, when all is done."""
