"""cwjax itself: the engine behind every comparison, with as many runs as asked for."""

from __future__ import annotations

import numpy as np

from cwjax.arms.row import uniform_row
from cwjax.config import RuntimeConfig, TrainConfig
from cwjax.data.dataset import Dataset
from cwjax.training.runs import EpochFinished, Run, RunKey
from experiments.peers import LEARNING_RATE, NUM_CLASSES, Training, Work


def prepare(work: Work, num_runs: int) -> Training:
    """An epoch of `num_runs` runs, side by side as `compare` trains them.

    A run's validation and test splits are one example each: the peers do not evaluate either.
    """
    from cwjax.training import devices

    devices.configure(RuntimeConfig(platform="cpu", compile_cache=False))
    from cwjax.training.lanes import default_lanes
    from cwjax.training.local import Engine, make_run_programs

    images = np.round(work.images * 255).astype(np.uint8)
    labels = work.labels.astype(np.int32)
    classes = tuple(map(str, range(NUM_CLASSES)))
    test = images[:2], labels[:2]
    dataset = Dataset.from_splits("benchmark", (images, labels), test, classes)
    config = TrainConfig(num_epochs=1, batch_size=work.batch_size, learning_rate=LEARNING_RATE)
    engine = Engine(dataset, make_run_programs(dataset, config), config, default_lanes(None))
    runs = [_run(seed, len(labels)) for seed in range(num_runs)]

    def train_epoch() -> float:
        events = list(engine.train(runs))
        return float(np.mean([e.train_loss for e in events if isinstance(e, EpochFinished)]))

    return Training(lambda: list(engine.train([_run(0, work.batch_size)])), train_epoch)


def _run(seed: int, num_examples: int) -> Run:
    return Run(
        key=RunKey("", "uniform", seed),
        key_seed=seed,
        row=uniform_row(NUM_CLASSES),
        train_indices=np.arange(num_examples, dtype=np.int32),
        validation_indices=np.zeros(1, np.int32),
        test_indices=np.full(1, num_examples, np.int32),
        first_stage_epochs=1,
        num_epochs=1,
    )
