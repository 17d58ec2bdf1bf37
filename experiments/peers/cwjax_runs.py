"""cwjax itself: the engine behind every comparison, with as many runs as asked for."""

from __future__ import annotations

import numpy as np

from cwjax.arms.row import uniform_row
from cwjax.config import RuntimeConfig, TrainConfig
from cwjax.data.dataset import Dataset
from cwjax.data.scaling import feature_scaling
from cwjax.training.runs import EpochFinished, Run, RunKey
from experiments.peers import LEARNING_RATE, Network, Training, Work


def prepare(work: Work, num_runs: int) -> Training:
    """Epochs of `num_runs` runs, side by side as `compare` trains them.

    A run's validation and test splits are one example each: the peers do not evaluate either.
    """
    from cwjax.training import devices

    devices.configure(RuntimeConfig(platform="cpu", compile_cache=False))
    from cwjax.training.lanes import default_lanes
    from cwjax.training.local import Engine, make_run_programs

    inputs = work.inputs
    if work.network.hidden is None:
        inputs = np.round(inputs * 255).astype(np.uint8)
    classes = tuple(map(str, range(work.network.num_classes)))
    test = inputs[:2], work.labels[:2]
    dataset = Dataset.from_splits("benchmark", (inputs, work.labels), test, classes)
    config = TrainConfig(
        model=_model(work.network),
        optimizer=work.network.optimizer,
        batch_size=work.batch_size,
        learning_rate=LEARNING_RATE,
    )
    engine = Engine(dataset, make_run_programs(dataset, config), config, default_lanes(None))

    def train(num_runs: int, num_examples: int, num_epochs: int) -> float:
        runs = [make_run(dataset, seed, num_examples, num_epochs) for seed in range(num_runs)]
        losses = [e.train_loss for e in engine.train(runs) if isinstance(e, EpochFinished)]
        return float(np.mean(losses[-num_runs:]))

    return Training(
        lambda: train(1, work.batch_size, 1),
        lambda num_epochs: train(num_runs, len(work.labels), num_epochs),
    )


def _model(network: Network) -> str:
    if network.hidden is None:
        return "cnn"
    if not network.hidden:
        return "linear"
    return f"mlp:hidden={','.join(map(str, network.hidden))}:dropout=0"


def make_run(dataset: Dataset, seed: int, num_examples: int, num_epochs: int) -> Run:
    """A run on the first examples of a data set, which is judged on one."""
    train_indices = np.arange(num_examples, dtype=np.int32)
    scaling = feature_scaling(dataset, train_indices)
    return Run(
        key=RunKey("", "uniform", seed),
        key_seed=seed,
        row=uniform_row(dataset.num_classes)._replace(
            input_fill=scaling.fill, input_mean=scaling.mean, input_scale=scaling.scale
        ),
        train_indices=train_indices,
        validation_indices=np.zeros(1, np.int32),
        test_indices=np.full(1, dataset.num_train, np.int32),
        first_stage_epochs=num_epochs,
        num_epochs=num_epochs,
    )
