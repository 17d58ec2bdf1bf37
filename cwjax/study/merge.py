"""Puts together what was trained apart: directories of one study with other arms or seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from cwjax.analysis.looks import judge_merged
from cwjax.analysis.results import StudyComparison
from cwjax.errors import ConfigError
from cwjax.report.pages import Figures
from cwjax.store.contents import refuse_foreign_runs
from cwjax.store.directory import MODELS, StudyDirectory, open_study
from cwjax.store.examples import examples_name
from cwjax.store.files import write_atomically
from cwjax.store.schema import StoredCell, StoredJudging, StudyFile
from cwjax.store.settings import differences
from cwjax.study.derive import derive
from cwjax.study.judge import last_judging, progress, store_judging
from cwjax.study.manifest import continued
from cwjax.training.runs import RunKey


def merge(
    directories: Sequence[Path],
    out: Path,
    *,
    allow_environment_change: bool,
    figures: Figures = "svg",
) -> StudyComparison:
    """Merges directories into `out` and derives its tables; the directories stay as they are.

    Args:
        directories: at least two.
        out: a new directory, or one that the same directories were merged into before.
        allow_environment_change: put runs of different versions or devices together, and record it.
        figures: format of the files in `figures/`.

    Raises:
        ConfigError: they are of different studies, hold different files of one run, or a run is
            missing or damaged.
    """
    sources = [StudyDirectory(directory) for directory in directories]
    study = _merged_study(sources, allow_environment_change)
    _check_all_there(sources, study)
    examples_of = _examples(sources, study)
    with open_study(out) as directory:
        old = directory.read_study()
        if old is not None:  # an earlier merge; it may have been interrupted
            continued(study, old, allow_environment_change=True)
            refuse_foreign_runs(directory, study)  # it may have been extended since
        directory.write_study(study)
        for name, examples in examples_of.items():
            directory.write_bytes(name, examples)
        for source in sources:
            for own_model in source.path.glob(f"{MODELS}/*.py"):
                directory.write_bytes(f"{MODELS}/{own_model.name}", own_model.read_bytes())
        for key in study.run_keys:
            for source in sources:
                if source.has_run(key):
                    _copy_model(source, directory, key)
                    _copy_run(source, directory, key)
        return derive(directory, figures)


def _merged_study(sources: Sequence[StudyDirectory], allow_environment_change: bool) -> StudyFile:
    studies = [source.known_study() for source in sources]
    for source, study in zip(sources, studies, strict=True):
        refuse_foreign_runs(source, study)  # they would not be copied
    first, *others = studies
    for source, other in zip(sources[1:], others, strict=True):
        try:
            first = _merged_pair(first, other, allow_environment_change)
        except ConfigError as error:
            raise ConfigError(f"{source.path}: {error}") from error
    stored = {key for source in sources for key in first.run_keys if source.has_run(key)}
    failures = tuple(failure for failure in first.failures if failure.run not in stored)
    judgings = () if first.looks else _judgings(studies, first)
    return dataclasses.replace(first, failures=failures, judgings=judgings)


def _judgings(parts: Sequence[StudyFile], whole: StudyFile) -> tuple[StoredJudging, ...]:
    """Those of the part that was judged most often, and that of the whole, one more."""
    last = [judging for part in parts if (judging := last_judging(part)) is not None]
    now = judge_merged(last, whole.seeds, whole.analysis.confidence)
    if now.look == 0:
        return ()
    return (*max((part.judgings for part in parts), key=len), store_judging(now))


def _merged_pair(first: StudyFile, other: StudyFile, allow_environment_change: bool) -> StudyFile:
    """One study for the runs of two; the width counts as part of the environment."""
    merged = continued(other, first, allow_environment_change=allow_environment_change)
    widths = [
        change
        for name in first.cells
        for change in differences(
            first.cells[name].width, other.cells[name].width, f"{name}: width"
        )
    ]
    if widths and not allow_environment_change:
        raise ConfigError(
            f"trained with another number of runs side by side ({'; '.join(widths)}): give "
            "--allow-environment-change to put them together all the same"
        )
    changes = (*merged.environment_changes, *other.environment_changes, *widths)
    return dataclasses.replace(
        merged,
        cells={
            name: _merged_cell(first, other, cell, other.cells[name])
            for name, cell in first.cells.items()
        },
        environment_changes=tuple(dict.fromkeys(changes)),
        failures=tuple(dict.fromkeys([*first.failures, *other.failures])),
    )


def _merged_cell(
    first: StudyFile, other: StudyFile, cell: StoredCell, other_cell: StoredCell
) -> StoredCell:
    """One cell for two; arms that are equal on the seeds of one directory alone are not equal."""
    equal_arms = {
        arm: same
        for arm, same in (cell.equal_arms | other_cell.equal_arms).items()
        if all(
            each.equal_arms.get(arm) == same or arm not in study.arm_names
            for study, each in ((first, cell), (other, other_cell))
        )
    }
    counts = {**cell.class_counts, **other_cell.class_counts}
    return dataclasses.replace(
        cell,
        class_counts=counts,
        validation_counts={**cell.validation_counts, **other_cell.validation_counts},
        equal_arms=equal_arms,
        split_sizes={**cell.split_sizes, **other_cell.split_sizes},
    )


def _check_all_there(sources: Sequence[StudyDirectory], study: StudyFile) -> None:
    """Checks that every run is in one of the directories, before anything is written."""
    keys: Sequence[RunKey] = study.run_keys
    if study.looks:  # arms that were decided have fewer runs
        found = {k: s.read_run_header(k) for s in sources for k in keys if s.has_run(k)}
        keys = progress(study, found).expected
    missing = [
        key for key in keys if key not in study.failed and not any(s.has_run(key) for s in sources)
    ]
    if missing:
        raise ConfigError(
            f"{len(missing)} of {len(keys)} runs are in none of the directories, the first is "
            f"{missing[0]} of {missing[0].cell}: every arm needs every seed"
        )


def _examples(sources: Sequence[StudyDirectory], study: StudyFile) -> dict[str, bytes]:
    """The files of examples by their names, each from the first directory that has it."""
    examples = {}
    for cell in study.cells.values():
        name = examples_name(cell.dataset.fingerprint)
        found = [path for source in sources if (path := source.path / name).is_file()]
        if not found:
            raise ConfigError(
                f"{name} is in none of the directories: give the command that trained one of them "
                "again, it writes the file anew"
            )
        examples[name] = found[0].read_bytes()
    return examples


def _copy_model(source: StudyDirectory, directory: StudyDirectory, key: RunKey) -> None:
    if source.has_model(key) and not directory.has_model(key):
        name = str(source.model_path(key).relative_to(source.path))
        directory.write_bytes(name, source.model_path(key).read_bytes())


def _copy_run(source: StudyDirectory, directory: StudyDirectory, key: RunKey) -> None:
    source.read_run(key)  # a damaged file must not spread
    content = source.run_path(key).read_bytes()
    target = directory.run_path(key)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, content)
    elif target.read_bytes() != content:
        raise ConfigError(
            f"{source.run_path(key)} differs from {target}: the same run was trained twice "
            "with different results; leave one of the directories out"
        )
