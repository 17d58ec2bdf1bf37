"""The one driver behind every script: runs are trained and stored, all else is derived.

`run` yields events and prints nothing; whoever calls it draws the progress.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cwjax.config import ConfigError, ExperimentConfig, RuntimeConfig
from cwjax.events import (
    EpochFinished,
    Event,
    Finished,
    Planned,
    RunFinished,
    RunStored,
    TrainingEvent,
)
from cwjax.methods.posthoc import RunOutputs, apply_post_hoc
from cwjax.methods.registry import Arm
from cwjax.plan import POST_HOC_PARENT, Plan, Run, make_plan
from cwjax.results.derive import derive
from cwjax.results.examples import pick_examples, to_bytes
from cwjax.results.manifest import continued, manifest
from cwjax.results.record import RunRecord, epoch_scores, trained_record, with_test_logits
from cwjax.results.store import Store, open_store


def run(
    config: ExperimentConfig, directory: Path, runtime: RuntimeConfig | None = None
) -> Iterator[Event]:
    """Trains what is missing in `directory` and derives its tables; yields what happens.

    Args:
        config: the experiment.
        directory: created, or continued where it stopped.
        runtime: how to use the machine.

    Raises:
        ConfigError, DataError: settings, data or a directory that cannot be used; nothing is
        written then.
    """
    yield from run_plan(make_plan(config), directory, runtime or RuntimeConfig())


def run_plan(plan: Plan, directory: Path, runtime: RuntimeConfig) -> Iterator[Event]:
    """As `run`, for a plan that has been made already."""
    from cwjax.training import devices

    device = devices.configure(runtime, plan.config.train.precision)
    with open_store(directory) as store:
        plan = _enter(plan, store, device, runtime)
        yield from _train_missing(plan, store, runtime)
        comparison = derive(store)
        store.log("finished", runs=len(plan.arm_names) * len(plan.splits))
        yield Finished(comparison)


def _enter(plan: Plan, store: Store, device: dict[str, Any], runtime: RuntimeConfig) -> Plan:
    """Writes `config.json`, after checking it against the one that is there.

    A directory's arms and seeds only grow, and every arm gets every seed, so the plan that comes
    back may be larger.
    """
    content = _manifest(plan, device)
    old = store.read_config()
    if old is not None:
        content = continued(content, old, allow_environment_change=runtime.allow_environment_change)
        config = dataclasses.replace(
            plan.config,
            arms=tuple(content["arms"]),
            seeds=tuple(content["seeds"]),
            null_control=content["null_control"],
        )
        if config != dataclasses.replace(plan.config, seeds=plan.config.all_seeds):
            plan = make_plan(config)
            grown = _manifest(plan, device)
            content |= {name: grown[name] for name in ("class_counts", "equal_arms")}
    if content != old:
        store.write_json("config.json", content)
    if not (store.directory / "examples.npz").exists():
        store.write_bytes("examples.npz", to_bytes(pick_examples(plan.dataset)))
    return plan


def _manifest(plan: Plan, device: dict[str, Any]) -> dict[str, Any]:
    dataset = plan.dataset
    return manifest(
        plan.config,
        dataset={
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "num_train": len(dataset.train_labels),
            "num_test": len(dataset.test_labels),
            "image_shape": list(dataset.image_shape),
            "class_names": list(dataset.class_names),
        },
        class_counts={
            str(seed): split.class_counts.tolist() for seed, split in plan.splits.items()
        },
        equal_arms=plan.equal_arms,
        device=device,
    )


def _train_missing(plan: Plan, store: Store, runtime: RuntimeConfig) -> Iterator[Event]:
    for seed in plan.splits:
        _store_untrained(plan, store, seed)
    everything = [(arm, seed) for seed in plan.splits for arm in plan.arm_names]
    finished = [key for key in everything if store.has_run(*key)]
    to_train = [
        run
        for run in plan.runs
        if plan.twins[run.arm, run.seed] == run.arm and not store.has_run(run.arm, run.seed)
    ]
    yield Planned(
        plan=plan,
        num_runs=len(to_train),
        num_finished=len(finished),
        num_epochs=sum(run.num_epochs for run in to_train),
        num_examples=sum(run.num_epochs * len(run.train_indices) for run in to_train),
    )
    for arm, seed in finished:
        yield RunStored(store.read_run(arm, seed))
    if not to_train:
        return
    store.log("training", runs=len(to_train))
    histories: dict[tuple[str, int], list[dict[str, float]]] = {}
    for event in _training_events(plan, to_train, store, runtime):
        yield event
        match event:
            case EpochFinished(run=run):
                if event.epoch == 0:
                    histories[run.arm, run.seed] = []
                labels = plan.dataset.train_labels[run.validation_indices]
                counts = plan.splits[run.seed].class_counts
                row = epoch_scores(event.train_loss, event.validation_logits, labels, counts)
                histories[run.arm, run.seed].append(row)
            case RunFinished(run=run):
                record = _trained_record(plan, event, histories.pop((run.arm, run.seed)))
                store.write_run(record)
                store.log("run", arm=record.arm, seed=record.seed, status=record.status)
                yield RunStored(record)
                yield from map(RunStored, _store_untrained(plan, store, run.seed))


def _training_events(
    plan: Plan, runs: list[Run], store: Store, runtime: RuntimeConfig
) -> Iterator[TrainingEvent]:
    """Trains `runs`, in narrower chunks where device memory turns out too small."""
    from cwjax.training import engine, lanes
    from cwjax.training import width as widths
    from cwjax.training.cnn import CNN

    dataset, settings = plan.dataset, plan.config.train

    def make_model(rngs: Any) -> CNN:
        return CNN(dataset.image_shape, dataset.num_classes, rngs=rngs)

    content = store.read_config() or {}
    width = content[
        "width"
    ]  # kept once chosen: another width would change results in the last bits
    if width is None:
        fitting = widths.fitting_width(plan.runs, dataset, make_model, settings)
        width = fitting and min(fitting, runtime.max_parallel_runs or fitting)
    finished: set[tuple[str, int]] = set()
    while True:
        if width != content["width"]:
            content["width"] = width
            store.write_json("config.json", content)
        remaining = [run for run in runs if (run.arm, run.seed) not in finished]
        try:
            trainer = engine.Engine(
                dataset,
                make_model,
                settings,
                lanes.default_lanes(width)[: runtime.max_parallel_runs],
            )
            for event in trainer.train(remaining):
                if isinstance(event, RunFinished):
                    finished.add((event.run.arm, event.run.seed))
                yield event
            return
        except engine.OutOfDeviceMemory as error:
            if width is None or width <= 1:
                raise ConfigError(
                    "one run does not fit into device memory: give a smaller --batch-size"
                ) from error
            width //= 2
            store.log("out_of_memory", new_width=width)


def _trained_record(
    plan: Plan, finished: RunFinished, history: list[dict[str, float]]
) -> RunRecord:
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


def _store_untrained(plan: Plan, store: Store, seed: int) -> list[RunRecord]:
    """Stores the runs of a seed that another run answers: equal arms and post-hoc arms."""
    stored = []
    # Post-hoc arms last: their parent may itself be an arm that another one answers.
    for arm in sorted(plan.arms, key=lambda arm: arm.kind == "post_hoc"):
        name = str(arm)
        source = POST_HOC_PARENT if arm.kind == "post_hoc" else plan.twins[name, seed]
        if store.has_run(name, seed) or not store.has_run(source, seed):
            continue
        record = store.read_run(source, seed)
        if arm.kind == "post_hoc":
            record = _post_hoc_record(plan, arm, record)
        else:
            record = dataclasses.replace(record, arm=name)
        store.write_run(record)
        stored.append(record)
    return stored


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
