"""One experiment directory while it is filled: which runs it lacks, and how finished ones enter.

A comparison is one cell; a sweep has one for every data set and imbalance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cwjax.config import ExperimentConfig
from cwjax.events import EpochFinished, RunFinished
from cwjax.methods.custom_weights import remember
from cwjax.methods.posthoc import RunOutputs, apply_post_hoc
from cwjax.methods.registry import Arm
from cwjax.plan import POST_HOC_PARENT, Plan, Run, arm_names, make_plan
from cwjax.results.checkpoints import Checkpoints
from cwjax.results.contents import refuse_foreign_runs
from cwjax.results.examples import EXAMPLES, pick_examples, to_bytes
from cwjax.results.manifest import continued, manifest
from cwjax.results.record import History, RunRecord, epoch_scores, trained_record, with_test_logits
from cwjax.results.store import Store


@dataclass(frozen=True, eq=False)
class Cell:
    """A plan, and the directory that its runs go to."""

    plan: Plan
    store: Store

    @cached_property
    def checkpoints(self) -> Checkpoints:
        """Of the runs that this process trains."""
        return Checkpoints(self.store)

    @property
    def keys(self) -> list[tuple[str, int]]:
        """(arm, seed) of every run, trained or not, seed by seed."""
        return run_keys(self.plan.config)

    def missing(self, runs: list[Run]) -> list[Run]:
        """Those of `runs` that are not finished."""
        return [run for run in runs if not self.store.has_run(run.arm, run.seed)]


def run_keys(config: ExperimentConfig) -> list[tuple[str, int]]:
    """(arm, seed) of every run of an experiment, trained or not, seed by seed."""
    return [(arm, seed) for seed in config.all_seeds for arm in arm_names(config)]


def enter(
    plan: Plan, store: Store, device: dict[str, Any], *, allow_environment_change: bool
) -> Cell:
    """Writes `config.json`, after checking it against the one that is there.

    A directory's arms and seeds only grow, and every arm gets every seed, so the cell's plan may be
    larger than the one given.

    Args:
        plan: what this call asks for.
        store: of the directory.
        device: platform and device kind, as `devices.configure` tells them.
        allow_environment_change: go on under other versions or devices, and record it.

    Raises:
        ConfigError: the directory holds another experiment.
    """
    content = _manifest(plan, device)
    old = store.read_config()
    if old is not None:
        content = continued(content, old, allow_environment_change=allow_environment_change)
        refuse_foreign_runs(store, content)
        remember(content["custom_weights"])
        config = dataclasses.replace(
            plan.config,
            arms=tuple(content["arms"]),
            seeds=tuple(content["seeds"]),
            null_control=content["null_control"],
        )
        if config != dataclasses.replace(plan.config, seeds=plan.config.all_seeds):
            plan = make_plan(config, plan.cell)
            grown = _manifest(plan, device)
            content |= {name: grown[name] for name in ("class_counts", "equal_arms")}
    if content != old:
        store.write_json("config.json", content)
    if not (store.directory / EXAMPLES).exists():
        store.write_bytes(EXAMPLES, to_bytes(pick_examples(plan.dataset)))
    return Cell(plan, store)


def _manifest(plan: Plan, device: dict[str, Any]) -> dict[str, Any]:
    return manifest(
        plan.config,
        dataset=plan.dataset,
        class_counts={
            str(seed): split.class_counts.tolist() for seed, split in plan.splits.items()
        },
        equal_arms=plan.equal_arms,
        device=device,
    )


def history_row(cell: Cell, event: EpochFinished) -> dict[str, float]:
    """What the run's history keeps of a finished epoch."""
    run = event.run
    labels = cell.plan.dataset.train_labels[run.validation_indices]
    counts = cell.plan.splits[run.seed].class_counts
    return epoch_scores(event.train_loss, event.validation_logits, labels, counts)


def store_finished(cell: Cell, event: RunFinished, history: History) -> Iterator[RunRecord]:
    """Stores a trained run and what it answers; yields each record once it is written."""
    record = _trained_record(cell.plan, event, history)
    cell.store.write_run(record)
    cell.store.log("run", arm=record.arm, seed=record.seed, status=record.status)
    yield record
    yield from store_untrained(cell, record)


def store_untrained(cell: Cell, source: RunRecord) -> Iterator[RunRecord]:
    """Stores the runs that `source` answers without training: equal arms and post-hoc arms.

    Also those that are answered by a run which `source` answers: an equal arm may be the post-hoc
    arms' parent.
    """
    plan, store, seed = cell.plan, cell.store, source.seed
    for arm in plan.arms:
        name = str(arm)
        answered_by = POST_HOC_PARENT if arm.kind == "post_hoc" else plan.twins[name, seed]
        if answered_by != source.arm or name == source.arm:
            continue
        if store.has_run(name, seed):
            record = store.read_run(name, seed)
        else:
            record = _untrained_record(plan, arm, source)
            store.write_run(record)
            yield record
        yield from store_untrained(cell, record)


def _trained_record(plan: Plan, finished: RunFinished, history: History) -> RunRecord:
    run = finished.run
    return trained_record(
        arm=run.arm,
        seed=run.seed,
        history=history,
        test_logits=finished.test_logits,
        test_labels=plan.dataset.test_labels,
        validation_logits=finished.validation_logits,
        class_counts=plan.splits[run.seed].class_counts,
        class_weights=run.row.class_weights,
        head_kernel=finished.head_kernel,
        head_bias=finished.head_bias,
    )


def _untrained_record(plan: Plan, arm: Arm, source: RunRecord) -> RunRecord:
    if arm.kind == "post_hoc":
        return _post_hoc_record(plan, arm, source)
    return dataclasses.replace(source, arm=str(arm))


def _post_hoc_record(plan: Plan, arm: Arm, parent: RunRecord) -> RunRecord:
    """The parent's record with the arm's logits; it has no training history of its own."""
    untrained = dataclasses.replace(parent, arm=str(arm), history={})
    if parent.status != "ok":
        return untrained
    split = plan.splits[parent.seed]
    outputs = RunOutputs(
        test_logits=parent.test_logits,
        validation_logits=parent.validation_logits,
        validation_labels=plan.dataset.train_labels[split.validation_indices],
        head_kernel=parent.head_kernel,
        head_bias=parent.head_bias,
        class_counts=parent.class_counts,
    )
    adjusted = apply_post_hoc(arm, outputs)
    return with_test_logits(
        untrained,
        str(arm),
        adjusted.test_logits,
        adjusted.validation_logits,
        plan.dataset.test_labels,
    )
