"""Directories of sweeps without training, as `drawn_runs` makes those of experiments."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from drawn_runs import make_dataset, make_record, write_start

from cwjax.cell import run_keys
from cwjax.results.store import open_store
from cwjax.sweep.config import SweepConfig
from cwjax.sweep.directory import SWEEP, cell_directory, enter_sweep

FACTORS = (4.0, 16.0, 64.0)
EFFECTS = {  # the difference grows with the factor
    f"mnist5k-long_tailed-{factor:g}": {"uniform": 0.0, "balanced": effect, "focal": 0.0}
    for factor, effect in zip(FACTORS, (0.2, 0.5, 0.9), strict=True)
}


def make_sweep(**settings: object) -> SweepConfig:
    """Three factors and three arms, unless told otherwise."""
    return SweepConfig(**{"arms": ("balanced", "focal"), "imbalance_factor": FACTORS, **settings})


def write_sweep(
    directory: Path,
    config: SweepConfig,
    effects: Mapping[str, Mapping[str, float]],
    missing: Collection[tuple[str, str, int]] = (),
) -> None:
    """A sweep's directory as training leaves it.

    Args:
        directory: of the sweep.
        config: of the sweep.
        effects: cell -> arm -> effect, as `make_record` takes it.
        missing: cell, arm and seed of the runs that are not there.
    """
    dataset = make_dataset()
    with open_store(directory, SWEEP) as store:
        enter_sweep(config, store)
    for cell, experiment in config.cells().items():
        with open_store(cell_directory(directory, cell)) as store:
            write_start(store, experiment, dataset)
            for arm, seed in run_keys(experiment):
                if (cell, arm, seed) not in missing:
                    store.write_run(make_record(dataset, arm, seed, effects[cell][arm]))
