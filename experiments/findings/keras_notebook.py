"""The notebook itself, in Keras: `python -m experiments.findings.keras_notebook OUT.csv`.

Every run follows the notebook: the last tenth for validation, ten epochs, test accuracy after the
last one. MNIST comes in the order of TFDS, as the runs of cwjax have it, and not in that of
`keras.datasets`. A row per run (arm, seed, accuracy, seconds) is added to the file as it ends; the
same command goes on where it stopped. Runs of one seed share initial parameters and shuffling.
"""

from __future__ import annotations

import csv
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from sklearn.utils.class_weight import compute_class_weight

from cwjax.cli import command_line
from cwjax.data.sources import ReadOptions, load_dataset
from cwjax.errors import ConfigError
from experiments.peers.keras_fit import build_model

Arm = Literal["uniform", "balanced"]
COLUMNS = ("arm", "seed", "accuracy", "seconds")


@dataclass(frozen=True)
class Flags:
    """What is trained."""

    out: tyro.conf.Positional[Path]
    """The CSV file, new or to be continued."""
    arms: tuple[Arm, ...] = ("uniform",)
    """Without class weights, and with them."""
    num_seeds: int = 10
    """Runs of each arm."""

    def __post_init__(self) -> None:
        if not self.out.absolute().parent.is_dir():
            raise ConfigError(f"{self.out.parent} is no directory: make it first")


def main() -> int:
    """The script; returns its exit code."""
    flags = command_line.parse(Flags, __doc__, "keras_notebook", sys.argv[1:])
    os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        import keras
    except ModuleNotFoundError as error:
        raise ConfigError("Keras is missing: pip install -e '.[peers]'") from error

    dataset = load_dataset("mnist", ReadOptions())
    train, test = dataset.train_inputs, dataset.test_inputs
    images, test_images = (split.astype(np.float32) / 255 for split in (train, test))
    labels, test_labels = (
        keras.utils.to_categorical(split, 10)
        for split in (dataset.train_labels, dataset.test_labels)
    )
    weights = compute_class_weight("balanced", classes=np.arange(10), y=dataset.train_labels)
    done = set()
    if flags.out.exists():
        with flags.out.open(newline="") as file:
            done = {(row["arm"], int(row["seed"])) for row in csv.DictReader(file)}
    with flags.out.open("a", newline="", buffering=1) as file:
        writer = csv.writer(file)
        if file.tell() == 0:
            writer.writerow(COLUMNS)
        for seed in range(flags.num_seeds):
            for arm in flags.arms:
                if (arm, seed) in done:
                    continue
                keras.utils.set_random_seed(seed)
                model, start = build_model(10), time.perf_counter()
                model.fit(
                    images,
                    labels,
                    batch_size=56,
                    epochs=10,
                    validation_split=0.1,
                    class_weight=dict(enumerate(weights)) if arm == "balanced" else None,
                    verbose=0,
                )
                seconds = time.perf_counter() - start
                _, accuracy = model.evaluate(test_images, test_labels, verbose=0)
                writer.writerow((arm, seed, accuracy, round(seconds, 1)))
    return 0


if __name__ == "__main__":
    command_line.run_main(main)
