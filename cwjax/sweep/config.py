"""What a sweep is: the axes of its data, and the cells that they span. Imports no JAX."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cwjax.config import DataConfig, DesignConfig, ExperimentConfig, short_hash
from cwjax.errors import ConfigError
from cwjax.methods.arms import weight_files


@dataclass(frozen=True, kw_only=True)
class SweepConfig(DesignConfig):
    """Several data sets and imbalances, on each the same arms and seeds."""

    dataset: tuple[str, ...] = ("mnist5k",)
    """Data sets: mnist5k (embedded), mnist, fashion_mnist, idx:DIR or npz:FILE."""
    data_dir: Path | None = None
    """Prepared TensorFlow Datasets [default: $TFDS_DATA_DIR or ~/tensorflow_datasets]."""
    imbalance: tuple[Literal["none", "long_tailed", "step"], ...] = ("long_tailed",)
    """Profiles that the training split is subsampled to."""
    imbalance_factor: tuple[float, ...] = (10.0, 50.0, 100.0)
    """Factors of every profile but none: examples of the largest class per example of the
    smallest."""
    permute_classes: bool = False
    """Let each seed choose which class is head and which is tail."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("dataset", "imbalance", "imbalance_factor"):
            values = getattr(self, name)
            flag = "--" + name.replace("_", "-")
            if not values:
                raise ConfigError(f"{flag} is empty: give at least one value")
            repeated = sorted({str(value) for value in values if values.count(value) > 1})
            if repeated:
                raise ConfigError(f"{flag} repeats {', '.join(repeated)}: give each value once")
        self.cells()

    def cells(self) -> dict[str, ExperimentConfig]:
        """One experiment for every data set, profile and factor, by its name.

        Raises:
            ConfigError: a setting that cannot be used, or two cells of one name.
        """
        cells: dict[str, ExperimentConfig] = {}
        for data in self._data_configs():
            name = f"{data.name()}-{data.profile()}"
            if name in cells:
                raise ConfigError(
                    f"--dataset {cells[name].data.dataset} and {data.dataset} would both be named "
                    f"{name}: rename one"
                )
            cells[name] = ExperimentConfig(
                data=data,
                train=self.train,
                analysis=self.analysis,
                arms=self.arms,
                baseline=self.baseline,
                num_seeds=self.num_seeds,
                seeds=self.seeds,
                null_control=self.null_control,
            )
        return cells

    def _data_configs(self) -> list[DataConfig]:
        return [
            DataConfig(
                dataset=dataset,
                data_dir=self.data_dir,
                imbalance=imbalance,
                imbalance_factor=factor,
                permute_classes=self.permute_classes and imbalance != "none",
            )
            for dataset in self.dataset
            for imbalance in self.imbalance
            for factor in (
                self.imbalance_factor[:1] if imbalance == "none" else self.imbalance_factor
            )
        ]

    def content(self) -> dict[str, Any]:
        """What `sweep.json` holds: the settings of all cells, and their data by name."""
        cells = {name: config.settings()["data"] for name, config in self.cells().items()}
        return {
            "settings": self.settings(),
            "cells": cells,
            "arms": list(self.arms),
            "seeds": list(self.all_seeds),
            "null_control": self.null_control,
            "custom_weights": weight_files(self.arms),
        }

    def directory_name(self) -> str:
        """`sweep-<hash of the settings and cells>`, the default below `results/`."""
        return f"sweep-{short_hash([self.settings(), self.content()['cells']])}"
