"""How fast an accelerator trains many networks at once; each call takes a few minutes.

python -m experiments.accelerator throughput --work cnn --runs 1 8 32 128
python -m experiments.accelerator throughput --work resnet32 --runs 8 32 --precision tf32
python -m experiments.accelerator torch --work cnn --runs 1 4 --compile
python -m experiments.accelerator convolutions --runs 1 8 32 128
python -m experiments.accelerator matmul --precision bf16

throughput: cwjax, so many runs side by side. torch: PyTorch, so many processes that share the
device. convolutions: the network's second convolution, forward and backward, in several forms.
matmul: the ceiling. With --platform cpu all of them run without an accelerator, to be tried.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from cwjax.cli import command_line
from cwjax.config import CIFAR_LT, RuntimeConfig, TrainConfig
from cwjax.errors import ConfigError
from cwjax.store.schema import to_json

WorkName = Literal["cnn", "resnet32", "mlp"]
Precision = Literal["float32", "tf32", "bf16"]


@dataclass(frozen=True)
class Work:
    """What is trained: the shapes of a well-known study; what is in the examples does not matter.

    Attributes:
        input_shape: of one example.
        num_classes: number of logits.
        num_train: training examples of a run.
        config: how it is trained, for all epochs of the study.
    """

    input_shape: tuple[int, ...]
    num_classes: int
    num_train: int
    config: TrainConfig


WORKS: dict[WorkName, Work] = {
    "cnn": Work((28, 28, 1), 10, 54_000, TrainConfig(model="cnn", num_epochs=10)),
    "resnet32": Work((32, 32, 3), 10, 11_165, CIFAR_LT),  # CIFAR-10-LT, factor 100
    "mlp": Work((40,), 18, 100_000, TrainConfig(model="mlp:hidden=256,128")),
}


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What is measured, and on what."""

    piece: tyro.conf.Positional[Literal["throughput", "torch", "convolutions", "matmul"]]
    """What is measured."""
    work: WorkName = "cnn"
    """What is trained: the notebook's network on MNIST's shapes, ResNet-32 on CIFAR-10-LT's, a
    dense network on 100,000 rows."""
    runs: tuple[int, ...] = (1, 8, 32)
    """How many at once: a row for each number."""
    precision: Precision = "float32"
    """Of matrix products."""
    compile: bool = False
    """torch: compile the step with torch.compile."""
    seconds: float = 20.0
    """How long each row is measured, after it is compiled."""
    platform: Literal["gpu", "tpu", "cpu"] = "gpu"
    """Device kind."""
    json: Path | None = None
    """Also write the rows to this file."""

    def __post_init__(self) -> None:
        if not self.runs or min(self.runs) < 1:
            raise ConfigError("--runs needs integers of at least 1")
        if self.compile and self.piece != "torch":
            raise ConfigError("--compile is of torch: leave it out")
        if self.piece == "torch" and self.work == "resnet32":
            raise ConfigError("--work resnet32 has no PyTorch network here: give cnn or mlp")


@dataclass(frozen=True)
class Measured:
    """One row."""

    name: str
    examples_per_second: float = 0.0
    host_share: float = 0.0
    """Of the time, what the host needs to make the order of the examples."""
    milliseconds: float = 0.0
    """Of a convolution, forward and backward, per run."""
    tflop_per_second: float = 0.0


def main() -> int:
    """The script; returns its exit code."""
    flags = command_line.parse(Flags, __doc__, "accelerator", sys.argv[1:])
    if flags.piece == "torch":
        rows = [torch_throughput(flags, number) for number in flags.runs]
    else:
        from cwjax.training import devices

        runtime = RuntimeConfig(platform=flags.platform, compile_cache=False)
        print(devices.configure(runtime, flags.precision))
        rows = {
            "throughput": lambda: [throughput(flags, number) for number in flags.runs],
            "convolutions": lambda: convolutions(flags),
            "matmul": lambda: [matmul(flags)],
        }[flags.piece]()
    for row in rows:
        print(_line(row, WORKS[flags.work]))
    if flags.json is not None:
        flags.json.write_bytes(to_json(rows))
    return 0


def _line(row: Measured, work: Work) -> str:
    if row.tflop_per_second:
        return f"{row.name}: {row.tflop_per_second:.2f} TFLOP/s"
    if row.milliseconds:
        return f"{row.name}: {row.milliseconds:.3f} ms per run"
    an_hour = 3600 * row.examples_per_second / (work.num_train * work.config.num_epochs)
    return (
        f"{row.name}: {row.examples_per_second:,.0f} examples/s, {an_hour:,.1f} whole runs an "
        f"hour, {row.host_share:.0%} of the time is the host's"
    )


def throughput(flags: Flags, num_runs: int) -> Measured:
    """Runs side by side in one engine, over whole epochs, until `--seconds` have passed."""
    from cwjax.data.dataset import Dataset
    from cwjax.training.batches import epoch_blocks
    from cwjax.training.lanes import BLOCK_STEPS, default_lanes
    from cwjax.training.local import Engine, make_run_programs
    from cwjax.training.runs import RunsFailed, StepsFinished
    from experiments.peers.cwjax_runs import make_run

    work = WORKS[flags.work]
    inputs, labels = made_examples(work)
    classes = tuple(map(str, range(work.num_classes)))
    test = inputs[: work.num_classes], labels[: work.num_classes]
    dataset = Dataset.from_splits("made", (inputs, labels), test, classes)
    config = replace(work.config, precision=flags.precision)
    engine = Engine(dataset, make_run_programs(dataset, config), config, default_lanes(num_runs))
    runs = [make_run(dataset, seed, len(labels), config.num_epochs) for seed in range(num_runs)]
    num_examples, started = 0, math.inf
    with closing(engine.train(runs)) as events:
        for event in events:
            if isinstance(event, RunsFailed):
                raise event.error
            if isinstance(event, StepsFinished):
                if started == math.inf:  # the first block compiles
                    started = time.monotonic()
                    continue
                num_examples += event.num_examples
                if time.monotonic() - started > flags.seconds:
                    break
        seconds = time.monotonic() - started
    on_host = time.monotonic()
    for _ in epoch_blocks(runs, dataset.labels, 0, config, BLOCK_STEPS):
        pass
    host_seconds = time.monotonic() - on_host
    device_seconds = seconds * num_runs * work.num_train / num_examples
    return Measured(
        f"cwjax, {flags.work}, {flags.precision}, {num_runs} at once",
        num_examples / seconds,
        host_seconds / device_seconds,
    )


def made_examples(work: Work) -> tuple[np.ndarray, np.ndarray]:
    """Inputs `[num_train, ...]`, uint8 images or float32 features, and int32 labels."""
    rng = np.random.default_rng(0)
    shape = (work.num_train, *work.input_shape)
    labels = (np.arange(work.num_train) % work.num_classes).astype(np.int32)
    if len(work.input_shape) == 1:
        return rng.standard_normal(shape, np.float32), labels
    return rng.integers(0, 256, shape, np.uint8), labels


def torch_throughput(flags: Flags, num_processes: int) -> Measured:
    """PyTorch in processes that share the device, each over `--seconds`."""
    import torch.multiprocessing as processes

    context = processes.get_context("spawn")
    with context.Pool(num_processes) as pool:
        rates = pool.map(_torch_rate, [flags] * num_processes, chunksize=1)
    kind = "compiled" if flags.compile else "eager"
    name = f"PyTorch {kind}, {flags.work}, {flags.precision}, {num_processes} processes"
    return Measured(name, sum(rates))


def _torch_rate(flags: Flags) -> float:
    """Examples per second of one process."""
    import torch
    from torch import nn

    from experiments.peers import Network
    from experiments.peers.torch_eager import build_model

    work = WORKS[flags.work]
    device = "cuda" if flags.platform == "gpu" else "cpu"
    torch.set_float32_matmul_precision("highest" if flags.precision == "float32" else "high")
    torch.backends.cudnn.allow_tf32 = flags.precision != "float32"
    inputs, labels = (torch.from_numpy(array).to(device) for array in made_examples(work))
    if inputs.ndim == 4:
        inputs = inputs.permute(0, 3, 1, 2).float() / 255
    hidden = None if flags.work == "cnn" else (256, 128)
    network = Network(work.input_shape, hidden, work.num_classes, "rmsprop", ())
    model = build_model(network).to(device).train()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, alpha=0.9, eps=1e-7)
    cross_entropy = nn.CrossEntropyLoss()

    def train_step(batch: torch.Tensor) -> None:
        with torch.autocast(device, torch.bfloat16, enabled=flags.precision == "bf16"):
            loss = cross_entropy(model(inputs[batch]), labels[batch].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    step = torch.compile(train_step) if flags.compile else train_step
    size, num_batches = work.config.batch_size, 0

    def batches() -> torch.Tensor:
        order: torch.Tensor = torch.randperm(len(labels), device=device)
        return order[: len(labels) // size * size].reshape(-1, size)

    for batch in batches()[:20]:
        step(batch)
    _wait_for(device)
    start = time.monotonic()
    while time.monotonic() - start < flags.seconds:
        for batch in batches()[:200]:
            step(batch)
            num_batches += 1
        _wait_for(device)
    return num_batches * size / (time.monotonic() - start)


def _wait_for(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def convolution_forms() -> dict[str, Callable[[Any, Any], Any]]:
    """VALID convolutions of every run with its own kernel, each in one function.

    `[runs, batch, H, W, C]` and `[runs, h, w, C, F]` to `[runs, batch, H - h + 1, W - w + 1, F]`.
    """
    import jax
    import jax.numpy as jnp

    def stock(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def patches(x: jax.Array, kernel: jax.Array) -> jax.Array:
        h, w = kernel.shape[:2]
        rows, cols = x.shape[1] - h + 1, x.shape[2] - w + 1
        parts = [x[:, i : i + rows, j : j + cols] for i in range(h) for j in range(w)]
        return jnp.concatenate(parts, -1) @ kernel.reshape(-1, kernel.shape[-1])

    def grouped(x: jax.Array, kernel: jax.Array) -> jax.Array:
        """All runs in one convolution, `x [runs, batch, ...]`, their channels side by side."""
        runs = len(x)
        side_by_side = jnp.moveaxis(x, 0, 3).reshape(*x.shape[1:4], -1)
        kernels = jnp.moveaxis(kernel, 0, 3).reshape(*kernel.shape[1:4], -1)
        y = jax.lax.conv_general_dilated(
            side_by_side, kernels, (1, 1), "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=runs,
        )  # fmt: skip
        return jnp.moveaxis(y.reshape(*y.shape[:3], runs, -1), 3, 0)

    return {
        "vmap of the stock convolution": jax.vmap(stock),
        "batched product over patches": jax.vmap(patches),
        "one run after the other (lax.map)": lambda x, k: jax.lax.map(lambda p: stock(*p), (x, k)),
        "one grouped convolution": grouped,
    }


def convolutions(flags: Flags) -> list[Measured]:
    """The second convolution of the notebook's network, `[56, 13, 13, 32] -> [56, 11, 11, 64]`.

    With the gradients of input and kernel.
    """
    import jax

    forms = convolution_forms()
    rows = []
    for num_runs in flags.runs:
        x = jax.random.normal(jax.random.key(0), (num_runs, 56, 13, 13, 32))
        kernel = jax.random.normal(jax.random.key(1), (num_runs, 3, 3, 32, 64))
        for name, form in forms.items():

            def loss(x: jax.Array, kernel: jax.Array, form: Callable[..., jax.Array]) -> jax.Array:
                return (form(x, kernel) ** 2).sum()

            step = jax.jit(jax.grad(loss, argnums=(0, 1)), static_argnums=2)
            seconds = _median_seconds(lambda: step(x, kernel, form), flags.seconds / len(forms))  # noqa: B023
            rows.append(Measured(f"{num_runs} runs, {name}", milliseconds=1e3 * seconds / num_runs))
    return rows


def matmul(flags: Flags) -> Measured:
    """The largest speed of square matrix products."""
    import jax
    import jax.numpy as jnp

    best = 0.0
    for size in (1024, 4096, 8192) if flags.platform != "cpu" else (1024,):
        matrix = jax.random.normal(jax.random.key(0), (size, size))
        if flags.precision == "bf16":
            matrix = matrix.astype(jnp.bfloat16)
        seconds = _median_seconds(lambda: jax.jit(jnp.matmul)(matrix, matrix), flags.seconds / 3)  # noqa: B023
        best = max(best, 2 * size**3 / seconds / 1e12)
    return Measured(f"matmul, {flags.precision}", tflop_per_second=best)


def _median_seconds(call: Callable[[], object], seconds: float) -> float:
    """Of calls that are repeated for so long, the first one (which compiles) apart."""
    import jax

    jax.block_until_ready(call())
    times: list[float] = []
    started = time.monotonic()
    while not times or time.monotonic() - started < seconds:
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return statistics.median(times)


if __name__ == "__main__":
    command_line.run_main(main)
