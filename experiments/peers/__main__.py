"""Measures one peer in a process of its own and prints JSON.

python -m experiments.peers torch --repeats 3
python -m experiments.peers sklearn --work mlp --seconds 20
python -m experiments.peers cwjax-16 --serve       answers each line `go` with one more repeat

With --serve the first line describes the peer, once it is compiled and ready, and each later line
is one repeat; between repeats the process sleeps. So several peers can take turns, and each pays
for its start once. Without --serve one line holds both. A peer whose library is missing prints one
line that says so.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
import re
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import tyro

from cwjax.cli import command_line
from cwjax.config import available_cores
from cwjax.errors import ConfigError
from experiments.peers import (
    BATCH_SIZE,
    PER_CORE,
    WORKS,
    Repeat,
    Row,
    Training,
    Work,
    WorkName,
    peak_mib,
)

LIBRARIES: dict[str, tuple[str, ...]] = {
    "cwjax": ("jax", "flax", "optax"),
    "flax-loop": ("jax", "flax", "optax"),
    "torch": ("torch",),
    "torch-channels-last": ("torch",),
    "keras-tensorflow": ("keras", "tensorflow"),
    "keras-jax": ("keras", "jax"),
    "sklearn": ("sklearn",),
    "matmul": ("jax",),
}


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Flags of a peer."""

    name: tyro.conf.Positional[str]
    """The peer; cwjax-N trains N runs at once."""
    work: WorkName = "cnn"
    """What is trained."""
    num_examples: int = 5_040
    """Training examples; whole batches of 56 of them are used."""
    num_classes: int = 0
    """Classes of a dense network [default: those of the work]."""
    seconds: float = 0.0
    """A repeat goes over them until it has lasted as long; at least once."""
    repeats: int = 3
    """Repeats without --serve."""
    threads: int = available_cores()
    """CPU cores to use."""
    first_core: int = 0
    """How many cores are left to others."""
    serve: bool = False
    """Wait for a line `go` before each repeat; end of input ends the program."""

    def __post_init__(self) -> None:
        known = dict.fromkeys(map(library_of, WORKS[self.work].peers))
        if library_of(self.name) not in known:
            names = ", ".join(known).replace("cwjax", "cwjax-N")
            raise ConfigError(f"no peer {self.name!r} of --work {self.work}: choose one of {names}")
        if self.num_examples < BATCH_SIZE:
            raise ConfigError(
                f"--num-examples is {self.num_examples}: give at least a batch, {BATCH_SIZE}"
            )
        if self.num_classes and (self.num_classes < 2 or WORKS[self.work].hidden is None):
            raise ConfigError(
                f"--num-classes is {self.num_classes}: give at least 2, with a dense network"
            )
        if self.repeats < 1:
            raise ConfigError(f"--repeats is {self.repeats}: give an integer of at least 1")


def library_of(peer: str) -> str:
    """A peer's name without the number of runs or of processes."""
    return "cwjax" if re.fullmatch(r"cwjax-[1-9]\d*", peer) else peer.removesuffix(PER_CORE)


def main() -> int:
    """The script; returns its exit code."""
    flags = command_line.parse(Flags, __doc__, "peers", sys.argv[1:])
    # Libraries greet on standard output; it is for JSON alone, so theirs goes where messages go.
    protocol = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def say(message: Row | Repeat) -> None:
        print(msgspec.json.encode(message).decode(), file=protocol)

    libraries = LIBRARIES[library_of(flags.name)]
    missing = [name for name in libraries if importlib.util.find_spec(name) is None]
    if missing:
        reason = f"{' and '.join(missing)} not installed: pip install -e '.[peers]'"
        say(Row(flags.name, skipped=reason))
        return 0
    use_cores(flags.first_core, flags.threads)
    start = time.perf_counter()
    compile_all, repeat = prepare(flags)
    built = time.perf_counter()
    compile_all()
    row = Row(
        flags.name,
        start_seconds=built - start,
        compile_seconds=time.perf_counter() - built,
        threads=flags.threads,
        versions={name: str(importlib.import_module(name).__version__) for name in libraries},
    )
    if not flags.serve:
        row.repeats = [repeat() for _ in range(flags.repeats)]
    say(row)
    if not flags.serve:
        return 0
    for line in sys.stdin:
        if line.strip() == "go":
            say(repeat())
    return 0


def use_cores(first: int, num_cores: int) -> None:
    """Keeps this process on some CPU cores and off accelerators; call it before JAX starts.

    Args:
        first: cores that are left out.
        num_cores: cores that it may use, the ones after those.

    Raises:
        ConfigError: there are fewer, or this system cannot keep a process on some of its cores.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["JAX_PLATFORMS"] = "cpu"
    if not hasattr(os, "sched_setaffinity"):
        if num_cores != os.cpu_count():
            raise ConfigError(
                f"--threads is {num_cores}: this system can only use all its cores, "
                f"{os.cpu_count()}"
            )
        return
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= num_cores <= len(cores) - first:
        raise ConfigError(
            f"--threads is {num_cores}: give an integer from 1 to {len(cores) - first}"
        )
    os.sched_setaffinity(0, cores[first : first + num_cores])


def prepare(flags: Flags) -> tuple[Callable[[], object], Callable[[], Repeat]]:
    """Imports the peer's library and builds; what it returns compiles, and makes one measurement.

    What compiles also trains on a batch, which is short beside it.
    """
    if flags.name == "matmul":
        from experiments.peers import matmul

        compile_all, gflop_per_second = matmul.prepare()
        return compile_all, lambda: Repeat(
            gflop_per_second=gflop_per_second(), peak_memory_mib=peak_memory_mib()
        )
    work = load_work(flags)
    num_runs = int(flags.name.removeprefix("cwjax-")) if library_of(flags.name) == "cwjax" else 1
    training = build(flags.name, work, num_runs)

    def timed(num_epochs: int) -> tuple[float, float]:
        start = time.perf_counter()
        return training.epochs(num_epochs), time.perf_counter() - start

    num_epochs = 1

    def repeat() -> Repeat:
        nonlocal num_epochs
        loss, seconds = timed(num_epochs)
        while seconds < flags.seconds:  # only at first, until it is known how many it takes
            num_epochs = math.ceil(num_epochs * min(100, 1.1 * flags.seconds / seconds))
            loss, seconds = timed(num_epochs)
        rate = num_runs * num_epochs * len(work.labels) / seconds
        return Repeat(examples_per_second=rate, train_loss=loss, peak_memory_mib=peak_memory_mib())

    return training.first_batch, repeat


def build(name: str, work: Work, num_runs: int) -> Training:
    """The peer's network. Imports happen here: they are part of the start."""
    if name.startswith("cwjax-"):
        from experiments.peers import cwjax_runs

        return cwjax_runs.prepare(work, num_runs)
    if name == "flax-loop":
        from experiments.peers import flax_loop

        return flax_loop.prepare(work)
    if name in ("torch", "torch-channels-last"):
        from experiments.peers import torch_eager

        return torch_eager.prepare(work, channels_last=name == "torch-channels-last")
    if name == "sklearn":
        from experiments.peers import sklearn_fit

        return sklearn_fit.prepare(work)
    from experiments.peers import keras_fit

    return keras_fit.prepare(work, backend=name.removeprefix("keras-"))


def load_work(flags: Flags) -> Work:
    """The embedded digits, repeated or cut to the number of examples, or features around means."""
    network, num_examples = WORKS[flags.work], flags.num_examples // BATCH_SIZE * BATCH_SIZE
    if flags.num_classes:
        network = replace(network, num_classes=flags.num_classes)
    if network.hidden is None:
        from cwjax.data.sources import load_dataset

        dataset = load_dataset("mnist5k")
        chosen = np.arange(num_examples) % len(dataset.train_labels)
        inputs = dataset.train_inputs[chosen].astype(np.float32) / 255
        return Work(network, inputs, dataset.train_labels[chosen], flags.threads)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, network.num_classes, num_examples).astype(np.int32)
    means = rng.normal(size=(network.num_classes, *network.input_shape))
    inputs = (means[labels] + rng.normal(size=(num_examples, *network.input_shape))) / 2**0.5
    return Work(network, inputs.astype(np.float32), labels, flags.threads)


def peak_memory_mib() -> float:
    """The largest resident memory of this process so far, in MiB."""
    return peak_mib(resource.getrusage(resource.RUSAGE_SELF))


if __name__ == "__main__":
    command_line.run_main(main)
