"""Describes a data set before any training: counts, duplicates, what its test split can show.

cwjax describe mnist5k
cwjax describe folder:photos --html photos.html
cwjax describe table:patients.csv --label-column outcome --group-column patient

It ends with the command that trains the default study on these data.
"""

from __future__ import annotations

import itertools
import math
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from cwjax.cli import command_line
from cwjax.config import DataConfig, DesignConfig, SourceConfig, available_cores
from cwjax.store.files import check_new_file

if TYPE_CHECKING:  # NumPy takes a tenth of a second to import, and a wrong flag is told without
    from cwjax.data.dataset import Dataset

_EFFICIENCY = 0.5
"""Share of a matrix product's speed that training reaches on a CPU core."""

_SIDE = 64
"""Rows and columns of the matrices that are multiplied: of larger ones all cores would share."""

_MIN_STEPS = 1_000
"""Optimiser steps of a run, below which more epochs are suggested."""

_LEAST_SECONDS = 1e-5
"""What one training example takes on one core, however small the network."""


@dataclass(frozen=True, kw_only=True)
class SourceFlags:
    """Which data."""

    source: tyro.conf.Positional[str]
    """Data set, as --dataset of the other commands takes it."""
    data_dir: Path | None = None
    """Prepared TensorFlow Datasets [default: $TFDS_DATA_DIR or ~/tensorflow_datasets]."""


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What is shown."""

    data: SourceFlags
    html: Path | None = None
    """Write the page, with sample images, to this file as well."""
    settings: SourceConfig = field(default_factory=SourceConfig)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code.

    Args:
        arguments: what follows its name [default: the process's].
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    flags = command_line.parse(Flags, __doc__, "describe", arguments)
    if flags.html is not None:
        check_new_file("--html", flags.html)
    dataset = load(flags.data, flags.settings)

    from cwjax.data.summary import summarise
    from cwjax.report.describe import describe_page, print_page

    summary = summarise(dataset)
    data = DataConfig(dataset=flags.data.source, source=flags.settings)
    num_train = count_train(dataset, data)
    num_epochs = suggested_epochs(num_train)
    page = describe_page(
        dataset,
        summary,
        guessed_seconds(dataset, num_train, num_epochs),
        next_command(data, num_epochs),
        with_figure=flags.html is not None,
    )
    print_page(page)
    if flags.html is not None:
        from cwjax.report.html import html_page

        flags.html.write_text(html_page(page), encoding="utf-8")
        print(f"page: {flags.html}")
    return 0


def load(data: SourceFlags, settings: SourceConfig) -> Dataset:
    """Loads a data set, with a progress bar where that takes long; errors as `load_dataset`."""
    from cwjax.cli.reading import reading_bar
    from cwjax.data.sources import ReadOptions, load_dataset

    with reading_bar() as progress:
        return load_dataset(data.source, ReadOptions(data.data_dir, settings, progress))


def count_train(dataset: Dataset, data: DataConfig) -> int:
    """Examples that a run of the default study trains on.

    Raises:
        ConfigError, DataError: the data cannot be split.
    """
    from cwjax.data.split import split_dataset

    return len(split_dataset(dataset, data, seed=0).train_indices)


def suggested_epochs(num_train: int) -> int:
    """The default number of epochs, or as many as make 1,000 steps.

    With fewer, small data end before a network has learnt its rare classes, and what helps it to
    learn them faster looks better than it is.
    """
    train = DesignConfig().train
    return max(train.num_epochs, math.ceil(_MIN_STEPS / math.ceil(num_train / train.batch_size)))


def next_command(data: DataConfig, num_epochs: int) -> str:
    """The command that trains the default study on the data, for so many epochs."""
    longer = num_epochs != DesignConfig().train.num_epochs
    epochs = ["--num-epochs", str(num_epochs)] if longer else []
    return shlex.join(
        ["cwjax", "compare", "--dataset", data.dataset, *data.source.flags(), *epochs]
    )


def guessed_seconds(dataset: Dataset, num_train: int, num_epochs: int) -> float:
    """What the default study takes on this machine's CPU cores, from the speed of one of them.

    Args:
        dataset: loaded.
        num_train: examples that a run trains on.
        num_epochs: of every run.
    """
    import numpy as np

    design = DesignConfig()
    num_runs = len(design.arms) * len(design.all_seeds)
    square = np.ones((_SIDE, _SIDE), np.float32)
    times = []
    for _ in range(500):
        start = time.perf_counter()
        square @ square
        times.append(time.perf_counter() - start)
    speed, cores = 2 * _SIDE**3 / min(times), available_cores()
    operations = 3 * _forward_operations(dataset.input_shape, dataset.num_classes)
    seconds = max(operations / (_EFFICIENCY * speed), _LEAST_SECONDS)
    return num_runs * num_epochs * num_train * seconds / cores


def _forward_operations(input_shape: tuple[int, ...], num_classes: int) -> float:
    """Additions and multiplications of the default network on one example."""
    widths = [*input_shape, 256, 128, num_classes]
    if len(input_shape) == 1:
        return 2 * sum(math.prod(pair) for pair in itertools.pairwise(widths))
    height, width, channels = input_shape
    total, sides = 0.0, (height, width)
    for inputs, outputs, pooled in ((channels, 32, True), (32, 64, True), (64, 64, False)):
        sides = (max(1, sides[0] - 2), max(1, sides[1] - 2))
        total += 2 * 9 * inputs * outputs * math.prod(sides)
        sides = (max(1, sides[0] // 2), max(1, sides[1] // 2)) if pooled else sides
    return total + 2 * 128 * (64 * math.prod(sides) + num_classes)
