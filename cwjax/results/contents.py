"""What an experiment directory holds, read once: settings, finished runs, examples of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cwjax.config import AnalysisConfig
from cwjax.errors import ConfigError
from cwjax.plan import NULL_CONTROL
from cwjax.results.examples import EXAMPLES, Examples, read_examples
from cwjax.results.record import RunRecord
from cwjax.results.store import SCHEMA_VERSION, Store


@dataclass(frozen=True, eq=False)
class Contents:
    """A finished experiment, as its directory tells it: neither its data set nor JAX is needed."""

    config: Mapping[str, Any]  # of config.json
    records: tuple[RunRecord, ...]  # every run, arm by arm, in the order of arms and seeds
    examples: Examples

    @property
    def arms(self) -> tuple[str, ...]:
        """Every arm, baseline first, the A/A control last."""
        return arm_names(self.config)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of every arm."""
        return tuple(self.config["seeds"])

    @property
    def baseline(self) -> str:
        """The arm that the others are compared with."""
        return self.config["settings"]["baseline"]

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name a class, in the order of the labels."""
        return tuple(self.config["dataset"]["class_names"])

    @property
    def analysis(self) -> AnalysisConfig:
        """What was fixed before the first run."""
        return AnalysisConfig(**self.config["settings"]["analysis"])

    @cached_property
    def runs(self) -> dict[str, dict[int, RunRecord]]:
        """Arm -> seed -> its run."""
        runs: dict[str, dict[int, RunRecord]] = {arm: {} for arm in self.arms}
        for record in self.records:
            runs[record.arm][record.seed] = record
        return runs

    def ok_runs(self, arm: str) -> list[RunRecord]:
        """The runs of an arm that ended in a score, in the order of seeds."""
        return [record for record in self.runs[arm].values() if record.status == "ok"]


def arm_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Every arm of a `config.json` or `sweep.json`, baseline first, the A/A control last."""
    return (*config["arms"], *([NULL_CONTROL] if config["null_control"] else []))


def refuse_foreign_runs(store: Store, config: Mapping[str, Any]) -> None:
    """Checks that every file among the runs is of an arm and seed of a `config.json`.

    Raises:
        ConfigError: naming the first that is not; left out in silence, it would be missed.
    """
    own = {store.run_path(arm, seed) for arm in arm_names(config) for seed in config["seeds"]}
    files = sorted((store.directory / "runs").glob("[!.]*.npz"))  # a dot: still being written
    foreign = [file for file in files if file not in own]
    if foreign:
        raise ConfigError(
            f"{foreign[0]} is of no arm and seed of this experiment: remove it, or train that arm "
            "and seed here"
        )


def _check_record(store: Store, config: Mapping[str, Any], record: RunRecord) -> None:
    """A run of the same arm and seed may have been copied from another experiment."""
    dataset, counts = config["dataset"], config["class_counts"][str(record.seed)]
    shape = (dataset["num_test"], len(dataset["class_names"]))
    if record.class_counts.tolist() != counts or record.test_logits.shape != shape:
        raise ConfigError(
            f"{store.run_path(record.arm, record.seed).name} is of another experiment: it has "
            f"{record.class_counts.tolist()} training examples and test logits "
            f"{record.test_logits.shape}, expected {counts} and {shape}; remove it to train the "
            "run again"
        )


def read_contents(store: Store) -> Contents:
    """Reads a directory whose runs are all finished.

    Raises:
        ConfigError: it is no such directory, or a file is missing or damaged.
    """
    config = store.read_config()
    if config is None:
        raise ConfigError(
            f"{store.directory} holds no config.json: give a directory that a comparison wrote"
        )
    if config.get("schema_version") != SCHEMA_VERSION:
        raise ConfigError(
            f"{store.directory}/config.json has schema version {config.get('schema_version')}, "
            f"this cwjax reads {SCHEMA_VERSION}: give a directory that it wrote"
        )
    refuse_foreign_runs(store, config)
    keys = [(arm, seed) for arm in arm_names(config) for seed in config["seeds"]]
    missing = [f"{arm} seed {seed}" for arm, seed in keys if not store.has_run(arm, seed)]
    if missing:
        raise ConfigError(
            f"{len(missing)} of {len(keys)} runs are not finished, the first is {missing[0]}: give "
            "the command that trained them again, it continues where it stopped"
        )
    records = tuple(store.read_run(arm, seed) for arm, seed in keys)
    for record in records:
        _check_record(store, config, record)
    return Contents(
        config=config,
        records=records,
        examples=read_examples(store.directory / EXAMPLES),
    )
