"""What a study's directory holds, read once: neither its data sets nor JAX are needed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cwjax.errors import ConfigError
from cwjax.store.directory import STUDY, StudyDirectory
from cwjax.store.examples import Examples, examples_name, read_examples
from cwjax.store.record import HISTORY_METRICS
from cwjax.store.schema import RunHeader, RunRecord, StoredCell, StudyFile
from cwjax.training.runs import RunKey


@dataclass(frozen=True, eq=False)
class CellContents:
    """The finished runs of one cell."""

    name: str
    study: StudyFile
    records: tuple[RunRecord, ...]
    """Arm by arm, in the order of arms and seeds; runs that failed have none."""
    examples: Examples

    @property
    def cell(self) -> StoredCell:
        """Its data."""
        return self.study.cells[self.name]

    @property
    def arms(self) -> tuple[str, ...]:
        """Every arm, baseline first, the A/A control last."""
        return self.study.arm_names

    @property
    def trained_as_they_are(self) -> tuple[str, ...]:
        """Every arm but the A/A control."""
        return tuple(arm.name for arm in self.study.arms)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of every arm."""
        return self.study.seeds

    @property
    def baseline(self) -> str:
        """The arm that the others are compared with."""
        return self.study.baseline

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name per class, in the order of the labels."""
        return self.cell.dataset.class_names

    @cached_property
    def runs(self) -> dict[str, dict[int, RunRecord]]:
        """Arm -> seed -> its run."""
        runs: dict[str, dict[int, RunRecord]] = {arm: {} for arm in self.arms}
        for record in self.records:
            runs[record.key.arm][record.key.seed] = record
        return runs

    def ok_runs(self, arm: str) -> list[RunRecord]:
        """The runs of an arm that ended in a score, in the order of seeds."""
        return [record for record in self.runs[arm].values() if record.status == "ok"]


def refuse_foreign_runs(directory: StudyDirectory, study: StudyFile) -> None:
    """Checks that every file among the runs is of a run of the study.

    Raises:
        ConfigError: naming the first that is not; left out in silence, it would be missed.
    """
    own = {directory.run_path(key) for key in study.run_keys}
    files = sorted((directory.path / "runs").rglob("[!.]*.npz"))  # a dot: still being written
    foreign = [file for file in files if file not in own]
    if foreign:
        raise ConfigError(
            f"{foreign[0]} is of no arm and seed of this study: remove it, or train that arm and "
            "seed here"
        )


def read_headers(directory: StudyDirectory, study: StudyFile) -> dict[RunKey, RunHeader]:
    """What the files of the finished runs say of them, their arrays apart."""
    return {key: directory.read_run_header(key) for key in study.run_keys if directory.has_run(key)}


def read_cell(
    directory: StudyDirectory, study: StudyFile, cell: str, expected: Collection[RunKey]
) -> CellContents:
    """Reads the finished runs of a cell.

    Args:
        directory: of the study.
        study: what it is.
        cell: its name.
        expected: the runs that belong to the study (`judge.progress`); those of other cells may be
            among them. With looks, a post-hoc arm that was decided may also have stored runs of
            seeds that its baseline went on with.

    Raises:
        ConfigError: a file is missing or damaged, or none of the cell's runs is there.
    """
    keys = [RunKey(cell, arm, seed) for arm in study.arm_names for seed in study.seeds]
    records = tuple(
        directory.read_run(key) for key in keys if key in expected and directory.has_run(key)
    )
    for record in records:
        _check_record(directory, study.cells[cell], record)
    dataset = study.cells[cell].dataset
    examples = read_examples(directory, dataset.fingerprint)
    labels = np.concatenate([examples.test_labels, examples.sample_labels])
    if len(examples.test_labels) != dataset.num_test or labels.max() >= len(dataset.class_names):
        raise ConfigError(
            f"{examples_name(dataset.fingerprint)} is of another data set than {STUDY}: give the "
            "directories as they were"
        )
    return CellContents(cell, study, records, examples)


def _check_record(directory: StudyDirectory, cell: StoredCell, record: RunRecord) -> None:
    """A run of the same arm and seed may have been copied from another study."""
    name = directory.run_path(record.key).name
    counts = cell.class_counts.get(record.key.seed)
    shape = (cell.num_test(record.key.seed), len(cell.dataset.class_names))
    if tuple(record.class_counts.tolist()) != counts or record.test_logits.shape != shape:
        raise ConfigError(
            f"{name} is of another study: it has {record.class_counts.tolist()} training examples "
            f"and test logits {record.test_logits.shape}, expected {counts} and {shape}; remove it "
            "to train the run again"
        )
    columns = {"train_loss", *HISTORY_METRICS}
    if record.history and record.history.keys() != columns:
        raise ConfigError(
            f"{name} is damaged (history: it has {', '.join(map(ascii, record.history))}, expected "
            f"{', '.join(sorted(columns))}): remove it to train the run again"
        )
