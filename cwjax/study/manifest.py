"""What a study is, as `study.json` holds it, and whether a call may continue a directory."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cwjax.data.dataset import Dataset
from cwjax.errors import ConfigError
from cwjax.models.estimators import Estimators, parameters_of
from cwjax.models.registry import own_model_digest
from cwjax.store.directory import StudyDirectory
from cwjax.store.schema import (
    CodeIdentity,
    Environment,
    StoredCell,
    StoredDataset,
    StoredEstimator,
    StudyFile,
    restore_arm,
    store_arm,
)
from cwjax.store.settings import differences
from cwjax.study.plan import Cell, Design, Plan, check_post_hoc, lay_out

if TYPE_CHECKING:  # imports JAX, and results are merged without it
    from cwjax.training.devices import DeviceFacts

PACKAGES = ("cwjax", "jax", "jaxlib", "flax", "optax", "numpy", "scipy")
"""What the results of networks depend on."""


def describe(plan: Plan, device: DeviceFacts | None) -> StudyFile:
    """The content of `study.json` of a new directory.

    Args:
        plan: of the study.
        device: that JAX trains on; None where estimators are trained, without JAX.
    """
    design = plan.design
    return StudyFile(
        train=design.train.without_directory(),
        analysis=design.analysis,
        baseline=str(design.baseline),
        arms=tuple(map(store_arm, design.arms)),
        seeds=design.seeds,
        null_control=design.null_control,
        looks=design.looks,
        cells={name: _stored_cell(plan, cell) for name, cell in plan.cells.items()},
        environment=_environment(design.estimators, device),
        code=(code_identity(),),
        estimators=_stored_estimators(design),
        own_model=own_model_digest(design.train.model),
    )


def _environment(estimators: Estimators | None, device: DeviceFacts | None) -> Environment:
    if device is None:
        names = ("cwjax", "numpy", "scipy", *_packages_of(estimators or Estimators()))
        return Environment(versions=installed_versions(names), platform="cpu", device_kind="cpu")
    return Environment(
        versions=installed_versions(PACKAGES),
        platform=device.platform,
        device_kind=device.device_kind,
        cpu_threads=device.cpu_threads,
        jax_flags=device.jax_flags,
    )


def installed_versions(packages: Sequence[str]) -> dict[str, str]:
    """The version of each package, and Python's."""
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **versions}


def _packages_of(estimators: Estimators) -> tuple[str, ...]:
    """The packages that estimators, and those inside them, come from; scikit-learn first."""
    outer = [each for each in (*estimators.by_arm.values(), estimators.common) if each is not None]
    inner = [value for each in outer for value in each.get_params(deep=True).values()]
    objects = [*outer, *(value for value in inner if hasattr(value, "get_params"))]
    modules = {type(each).__module__.partition(".")[0] for each in objects}
    by_module = importlib.metadata.packages_distributions()
    others = {name for module in modules for name in by_module.get(module, ())}
    return ("scikit-learn", *sorted(others - {"scikit-learn", "cwjax"}))


def _stored_estimators(design: Design) -> dict[str, StoredEstimator]:
    if design.estimators is None:
        return {}
    common = {design.train.model: design.estimators.common}
    return {
        name: StoredEstimator(
            f"{type(estimator).__module__}.{type(estimator).__qualname__}",
            parameters_of(estimator),
        )
        for name, estimator in (design.estimators.by_arm or common).items()
    }


def _stored_cell(plan: Plan, cell: Cell) -> StoredCell:
    return StoredCell(
        data=cell.data.without_directory(),
        dataset=describe_dataset(cell.dataset),
        class_counts={
            seed: tuple(split.class_counts.tolist()) for seed, split in cell.splits.items()
        },
        validation_counts={
            seed: tuple(split.validation_counts.tolist()) for seed, split in cell.splits.items()
        },
        equal_arms=plan.equal_arms(cell.name),
        split_sizes={
            seed: (len(split.test_indices), split.num_before_profile)
            for seed, split in cell.splits.items()
            if cell.data.test_split == "per-seed"
        },
    )


def describe_dataset(dataset: Dataset) -> StoredDataset:
    """What `study.json` tells of a data set."""
    return StoredDataset(
        name=dataset.name,
        fingerprint=dataset.fingerprint,
        num_train=dataset.num_train,
        num_test=len(dataset.test_labels),
        input_shape=dataset.input_shape,
        class_names=dataset.class_names,
        notes=dataset.notes,
    )


@functools.cache
def code_identity() -> CodeIdentity:
    """The version of cwjax and, in a git checkout, its commit."""
    version = importlib.metadata.version("cwjax")
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return CodeIdentity(version)
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(root), *command],
                capture_output=True,
                text=True,
                check=True,
                timeout=10,
            ).stdout
            for command in (("rev-parse", "HEAD"), ("status", "--porcelain", "-uno"))
        )
    except (OSError, subprocess.SubprocessError):  # no git, or not allowed to read the checkout
        return CodeIdentity(version)
    return CodeIdentity(version, commit.strip(), bool(changes.strip()))


def recorded_threads(directory: Path) -> int | None:
    """Threads of the CPU's pool that a study began with; None in a new directory."""
    study = StudyDirectory(directory).read_study()
    return None if study is None else study.environment.cpu_threads


def continued(new: StudyFile, old: StudyFile, *, allow_environment_change: bool) -> StudyFile:
    """The study of a directory that is continued: what `old` has, plus new arms and seeds.

    The cells stay: together they are the family that is judged.

    Args:
        new: what this call asks for.
        old: what the directory's `study.json` holds.
        allow_environment_change: go on under other versions or devices, and record it.

    Raises:
        ConfigError: the two are not one study; the differing fields are named.
    """
    differing = [
        *differences(old.train, new.train),
        *differences(old.analysis, new.analysis),
        *differences(old.baseline, new.baseline, "baseline"),
        *_cell_differences(old, new),
        *_estimator_differences(old, new),
    ]
    if differing:
        raise ConfigError(
            f"the directory holds another study ({'; '.join(differing)}): "
            "give the same settings or another --out"
        )
    if old.own_model != new.own_model:
        raise ConfigError(
            f"the file of the model {new.train.model} has changed since the directory was begun: "
            "go back to what it was, or give another --out"
        )
    if old.looks != new.looks:
        raise ConfigError(
            f"the directory's plan is fixed: it looks at {_numbers(old.looks)} seeds, now at "
            f"{_numbers(new.looks)}; give the same --max-seeds and --looks, or another --out"
        )
    by_name = {arm.name: arm for arm in old.arms}
    for arm in new.arms:
        if by_name.setdefault(arm.name, arm) != arm:
            raise ConfigError(
                f"the directory's arm {arm.name!r} is another one than that of the same name here: "
                "rename the scheme, or give another --out"
            )
    changes = differences(old.environment, new.environment)
    unrecorded = [change for change in changes if change not in old.environment_changes]
    if unrecorded and not allow_environment_change:
        raise ConfigError(
            f"the directory was begun in another environment ({'; '.join(unrecorded)}): runs would "
            "not be comparable bit for bit; go back to it, or give --allow-environment-change"
        )
    return replace(
        old,
        arms=tuple(by_name.values()),
        seeds=tuple(dict.fromkeys([*old.seeds, *new.seeds])),
        null_control=old.null_control or new.null_control,
        environment_changes=tuple(dict.fromkeys([*old.environment_changes, *changes])),
        code=tuple(dict.fromkeys([*old.code, *new.code])),
        estimators={**old.estimators, **new.estimators},
    )


def _numbers(looks: tuple[int, ...]) -> str:
    return ", ".join(map(str, looks)) or "all"


def _cell_differences(old: StudyFile, new: StudyFile) -> list[str]:
    """What differs between the data of two studies; a lone cell may have any name."""
    if len(old.cells) == len(new.cells) == 1:
        found, pairs = [], [(*old.cells.values(), *new.cells.values())]
    else:
        found = differences(", ".join(old.cells), ", ".join(new.cells), "cells")
        pairs = [(old.cells[name], new.cells[name]) for name in old.cells if name in new.cells]
    for before, now in pairs:
        found += differences(before.data, now.data)
        found += differences(before.dataset.fingerprint, now.dataset.fingerprint, "dataset")
    return found


def _estimator_differences(old: StudyFile, new: StudyFile) -> list[str]:
    """What differs between the estimators of two studies; new ones may have come."""
    found = []
    for name, before in old.estimators.items():
        now = new.estimators.get(name)
        if now is None:
            found.append(f"the estimator of {name} is not given")
        else:
            found += differences(before.kind, now.kind, name)
            found += differences(before.parameters, now.parameters)
    return found


def grown(plan: Plan, study: StudyFile) -> Plan:
    """The plan with all arms and seeds of its directory, on the data that are loaded already.

    Raises:
        ConfigError: an arm of the directory cannot be made here, or its post-hoc arms are computed
            from another arm than those of the plan.
    """
    design = Design(
        arms=tuple(map(restore_arm, study.arms)),
        seeds=study.seeds,
        null_control=study.null_control,
        train=plan.design.train,
        analysis=plan.design.analysis,
        looks=study.looks,
        estimators=plan.design.estimators,
    )
    if design == plan.design:
        return plan
    check_post_hoc(design)
    parents = (design.post_hoc_parent, plan.design.post_hoc_parent)
    if parents[0] != parents[1] and any(arm.kind == "post_hoc" for arm in plan.design.arms):
        raise ConfigError(
            f"the directory's post-hoc arms are computed from {parents[0]}, here they would be "
            f"from {parents[1]}: give the same arms or another --out"
        )
    datasets = {cell.data.dataset: cell.dataset for cell in plan.cells.values()}
    return lay_out(design, [cell.data for cell in plan.cells.values()], datasets)


def with_cells_of(study: StudyFile, plan: Plan) -> StudyFile:
    """`study` with class counts and equal arms of a plan that has its arms and seeds."""
    cells = {
        name: replace(_stored_cell(plan, cell), width=study.cells[name].width)
        for name, cell in plan.cells.items()
    }
    return replace(study, cells=cells)
