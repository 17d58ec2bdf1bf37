"""The one driver of every study: runs are trained and stored, all else is derived.

`run` yields events and prints nothing; whoever calls it draws the progress.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from cwjax.analysis.results import LookFacts, StudyComparison
from cwjax.arms.posthoc import RunOutputs, apply_post_hoc
from cwjax.config import RuntimeConfig, StudyConfig, default_threads
from cwjax.data.sources import ReadOptions
from cwjax.errors import ConfigError, one_line
from cwjax.store.checkpoints import Checkpoints, Saved
from cwjax.store.contents import refuse_foreign_runs
from cwjax.store.directory import StudyDirectory, open_study
from cwjax.store.examples import keep_examples
from cwjax.store.record import History, epoch_scores, trained_record, with_test_logits
from cwjax.store.schema import Failure, RunRecord, Status, StudyFile, defined_scores
from cwjax.study.cluster import Cluster, ClusterTrainer
from cwjax.study.derive import derive, read_headers
from cwjax.study.exchange import Work
from cwjax.study.judge import Progress, look_facts, progress
from cwjax.study.manifest import continued, describe, grown, recorded_threads, with_cells_of
from cwjax.study.plan import Plan, make_plan
from cwjax.training.runs import (
    ChunkState,
    EpochFinished,
    EpochScored,
    Run,
    RunFinished,
    RunKey,
    RunsFailed,
    RunsLost,
    Trainer,
    TrainingEvent,
    WidthChosen,
)


@dataclass(frozen=True, eq=False)
class Planned:
    """The work of this call, or up to the next look, is known; always the first event."""

    plan: Plan  # what the directory holds already included
    study: StudyFile  # the content of `study.json`
    num_expected: int  # runs, finished ones included, at the end or at the next look
    num_runs: int  # to be trained now
    num_finished: int  # found in the directory, arms equal to others and post-hoc arms included
    num_epochs: int  # over the runs to be trained
    num_examples: int  # over their epochs


@dataclass(frozen=True, eq=False)
class RunStored:
    """A run's file is written, or was there already."""

    key: RunKey
    status: Status
    scores: dict[str, float | None]  # on the test split; None where undefined


@dataclass(frozen=True, eq=False)
class LookTaken:
    """Results were read at a planned look; decided arms train no further."""

    look: LookFacts
    going_on: int  # comparisons that are trained on


@dataclass(frozen=True, eq=False)
class Finished:
    """Every run is stored or has failed, and the tables are derived."""

    comparison: StudyComparison


Event: TypeAlias = Planned | TrainingEvent | RunStored | LookTaken | Finished


def run(
    config: StudyConfig, directory: Path | str, runtime: RuntimeConfig | None = None
) -> Generator[Event, None, None]:
    """Trains what is missing in `directory` and derives its tables; yields what happens.

    A run that fails is recorded, and the others go on. Closing the iterator saves what is being
    trained.

    Args:
        config: the study.
        directory: created, or continued where it stopped.
        runtime: how to use the machine.

    Raises:
        ConfigError, DataError: settings, data or a directory that cannot be used; nothing is
            written then.
        OSError: a result or a checkpoint cannot be written.
    """
    runtime = runtime or RuntimeConfig()
    plan = make_plan(config, ReadOptions(runtime.data_dir))
    yield from run_plan(plan, Path(directory), runtime)


def run_plan(plan: Plan, path: Path, runtime: RuntimeConfig) -> Generator[Event, None, None]:
    """As `run`, for a plan that has been made already."""
    with ExitStack() as stack:
        cluster, device = None, None
        if runtime.cluster is not None:
            cluster = stack.enter_context(_cluster(plan, path, runtime))
            device = cluster.start()
        elif plan.design.estimators is None:
            from cwjax.training import devices  # JAX takes seconds to import: settings come before

            device = devices.configure(runtime, plan.design.train.precision, recorded_threads(path))
            check_models(plan)
        directory = stack.enter_context(open_study(path))
        plan, study = _enter(plan, directory, describe(plan, device), runtime)
        driver = _Driver(plan, directory, study)
        trainer = _trainer(plan, study, runtime) if cluster is None else driver.trainer_on(cluster)
        with closing(driver.train(trainer)) as events:
            yield from events
        comparison = derive(directory)
        directory.log("finished", runs=len(study.run_keys))
        yield Finished(comparison)


@contextmanager
def _cluster(plan: Plan, path: Path, runtime: RuntimeConfig) -> Iterator[Cluster]:
    """The cluster that `runtime` names, not started yet; JAX runs here for a first check alone."""
    model = plan.design.train.model
    if plan.design.estimators is not None:
        raise ConfigError(f"--cluster trains networks: leave it out with --model {model}")
    from cwjax.models.travel import pack_model
    from cwjax.study import ray_machines

    threads = recorded_threads(path) or default_threads()
    work = Work(plan.design.train, runtime, threads, pack_model(model))
    datasets = {cell.dataset.fingerprint: cell.dataset for cell in plan.cells.values()}.values()
    num_bytes = sum(data.inputs.nbytes for data in datasets)
    assert runtime.cluster is not None
    with ray_machines.connected(runtime.cluster, num_bytes):
        if work.own_model is not None:
            from cwjax.training import devices  # now: Ray forks, which a process with JAX must not

            # On CPU: an accelerator's memory is for the processes that train.
            devices.configure(dataclasses.replace(runtime, platform="cpu"), cpu_threads=threads)
            check_models(plan)
        yield Cluster(ray_machines.RayMachines(work, list(datasets)))


def _trainer(plan: Plan, study: StudyFile, runtime: RuntimeConfig) -> Trainer:
    """Who trains the runs of a plan: JAX on this machine's devices, or processes."""
    datasets = {name: cell.dataset for name, cell in plan.cells.items()}
    if plan.design.estimators is not None:
        from cwjax.training.estimators import EstimatorTrainer

        return EstimatorTrainer(datasets, plan.design.estimators, runtime)
    from cwjax.training.local import LocalTrainer

    widths = {name: cell.width for name, cell in study.cells.items()}
    return LocalTrainer(datasets, plan.design.train, runtime, widths)


def check_models(plan: Plan) -> None:
    """Checks that a model of the user's own can be trained on the data of every cell.

    Raises:
        ConfigError: it cannot; one line that says why.
    """
    from cwjax.training.local import check_own_model

    for run in {run.key.cell: run for run in plan.runs}.values():
        dataset = plan.cells[run.key.cell].dataset
        check_own_model(run, dataset, plan.design.train, plan.design.arms)


def _enter(
    plan: Plan, directory: StudyDirectory, new: StudyFile, runtime: RuntimeConfig
) -> tuple[Plan, StudyFile]:
    """As `joined`, and writes `study.json` and the examples."""
    plan, study = joined(plan, directory, new, runtime)
    if study != directory.read_study():
        directory.write_study(study)
    for cell in plan.cells.values():
        keep_examples(directory, cell.dataset)
    return plan, study


def joined(
    plan: Plan, directory: StudyDirectory, new: StudyFile, runtime: RuntimeConfig
) -> tuple[Plan, StudyFile]:
    """A plan and its `study.json` together with what the directory holds; writes nothing.

    A directory's arms and seeds only grow, and every arm gets every seed, so the plan that comes
    back may be larger than the one given.

    Args:
        plan: what is asked for.
        directory: of the study; it may be new.
        new: what `describe` says of the plan.
        runtime: whether the environment may change, and failed runs are trained again.

    Raises:
        ConfigError: the directory holds another study.
    """
    old = directory.read_study()
    if old is None:
        return plan, new
    try:
        study = continued(new, old, allow_environment_change=runtime.allow_environment_change)
    except ConfigError as error:
        raise ConfigError(f"{directory.path}: {error}") from error
    refuse_foreign_runs(directory, study)
    plan = grown(plan, study)
    study = with_cells_of(study, plan)
    if runtime.retry_failed:
        study = dataclasses.replace(study, failures=())
    return plan, study


def runs_to_train(plan: Plan, directory: StudyDirectory, study: StudyFile) -> list[Run]:
    """The runs that training must answer and that are neither stored nor failed.

    Args:
        plan: what the directory holds already included.
        directory: of the study.
        study: the content of its `study.json`.
    """
    return [
        run
        for run in plan.trained_runs
        if run.key not in study.failed and not directory.has_run(run.key)
    ]


class _Driver:
    """Brings what a trainer yields into the directory.

    Args:
        plan: of the study.
        directory: held by this process.
        study: the content of its `study.json`.
    """

    def __init__(self, plan: Plan, directory: StudyDirectory, study: StudyFile) -> None:
        self.study = study
        self._plan = plan
        self._directory = directory
        self._checkpoints = Checkpoints(directory)
        self._histories: dict[RunKey, History] = {}
        self._answered: dict[RunKey, list[RunKey]] = {}
        for key, source in plan.answers.items():
            if key != source:
                self._answered.setdefault(source, []).append(key)

    def trainer_on(self, cluster: Cluster) -> Trainer:
        """Who trains on a cluster; what was kept of lost runs is read from the directory."""
        datasets = {name: cell.dataset for name, cell in self._plan.cells.items()}
        widths = {name: cell.width for name, cell in self.study.cells.items()}
        model = self._plan.design.train.model
        return ClusterTrainer(cluster, datasets, model, widths, self._checkpoints.newest)

    def train(self, trainer: Trainer) -> Generator[Event, None, None]:
        """Trains what is missing, look by look where looks are planned; yields what happens.

        The first event is the plan of the work, and so is the one after each look.
        """
        self._complete_untrained()
        self._record_failures(self.study.failures)  # arms may have come since that they answer
        state, missing = self._next()
        begun = self._checkpoints.load(missing, self.study)
        for saved in begun:
            self._histories |= saved.histories
        stored = [key for key in self.study.run_keys if self._directory.has_run(key)]
        yield self._planned(state, missing, begun)
        for key in stored:
            record = self._directory.read_run(key)  # whole: damage is told before anything trains
            yield RunStored(key, record.status, defined_scores(record))
        yield from _look_taken(state)
        while missing:
            continued_runs = sum(len(saved.state.runs) for saved in begun)
            self._directory.log("training", runs=len(missing), continued=continued_runs)
            yield from self._train(trainer, missing, begun)
            looks_before = state.num_looks
            state, missing = self._next()
            begun = []
            if state.num_looks > looks_before:
                self._directory.log("look", look=state.num_looks)
                yield from _look_taken(state)
                if missing:
                    yield self._planned(state, missing, begun)

    def _next(self) -> tuple[Progress, list[Run]]:
        """How far the study is, and the runs to be trained next."""
        study = self.study
        runs = read_headers(self._directory, study) if study.looks else {}
        state = progress(study, runs)
        roots = {self._root(key) for key in state.expected}
        missing = runs_to_train(self._plan, self._directory, study)
        return state, [run for run in missing if run.key in roots]

    def _root(self, key: RunKey) -> RunKey:
        """The run whose training answers a run in the end."""
        while (source := self._plan.answers[key]) != key:
            key = source
        return key

    def _train(
        self, trainer: Trainer, missing: Sequence[Run], begun: Sequence[Saved]
    ) -> Generator[Event, None, None]:
        stop = threading.Event()
        with closing(trainer.train(missing, [saved.state for saved in begun], stop)) as events:
            try:
                for event in events:
                    yield from self._keep(event)
            except GeneratorExit:  # closed: what the trainer has now is kept first
                stop.set()
                for event in events:
                    self._keep(event)
                raise

    def _planned(self, state: Progress, missing: Sequence[Run], begun: Sequence[Saved]) -> Planned:
        batch_size = self._plan.design.train.batch_size
        states = [saved.state for saved in begun]
        epochs_done = sum(state.epoch * len(state.runs) for state in states)
        examples_done = sum(state.num_examples(batch_size) for state in states)
        num_examples = sum(run.num_examples for run in missing)
        return Planned(
            plan=self._plan,
            study=self.study,
            num_expected=len(state.expected),
            num_runs=len(missing),
            num_finished=sum(map(self._directory.has_run, state.expected)),
            num_epochs=sum(run.num_epochs for run in missing) - epochs_done,
            num_examples=num_examples - examples_done,
        )

    def _keep(self, event: TrainingEvent) -> list[Event]:
        """Stores what an event brings; returns what whoever watches should know."""
        match event:
            case WidthChosen(cells, width):
                self._record_width(cells, width)
                return []  # nothing trains yet: who stops at the next event finds a run begun
            case EpochFinished():
                self._keep_row(event.run, event.epoch, self._history_row(event))
            case EpochScored(run, epoch, scores):
                self._keep_row(run, epoch, scores)
            case ChunkState():
                self._checkpoints.save(event, self._histories, self.study)
                return []
            case RunFinished(run=run):
                record = self._trained_record(event)
                stored = [
                    RunStored(r.key, r.status, defined_scores(r)) for r in self._store(record)
                ]
                self._directory.log(
                    "run", cell=run.key.cell, arm=run.key.arm, seed=run.key.seed,
                    status=record.status,
                )  # fmt: skip
                self._checkpoints.remove_ended(run.key)
                return [event, *stored]
            case RunsLost():
                self._directory.log("lost", node=event.node, runs=len(event.runs))
            case RunsFailed(runs, error):
                for run in runs:
                    self._checkpoints.remove_ended(run.key)
                self._record_failures([Failure(run.key, one_line(error)) for run in runs])
        return [event]

    def _keep_row(self, run: Run, epoch: int, row: dict[str, float]) -> None:
        """Keeps a row of a run's history, in the place of those that a lost process told of."""
        rows = self._histories.setdefault(run.key, [])
        rows[epoch:] = [row]

    def _record_failures(self, failures: Sequence[Failure]) -> None:
        """Writes down failed runs, and with them those that they would have answered."""
        with_answered = [
            Failure(key, failure.reason)
            for failure in failures
            for key in self._with_answered(failure.run)
        ]
        known = dict.fromkeys([*self.study.failures, *with_answered])
        self._write(dataclasses.replace(self.study, failures=tuple(known)))

    def _write(self, study: StudyFile) -> None:
        if study != self.study:
            self.study = study
            self._directory.write_study(study)

    def _record_width(self, cells: Sequence[str], width: int | None) -> None:
        """Another width would change results in the last bits, so it is kept once chosen."""
        changed = {name: dataclasses.replace(self.study.cells[name], width=width) for name in cells}
        if any(self.study.cells[name].width not in (None, width) for name in cells):
            self._directory.log("out_of_memory", new_width=width)
        self._write(dataclasses.replace(self.study, cells={**self.study.cells, **changed}))

    def _history_row(self, event: EpochFinished) -> dict[str, float]:
        cell = self._plan.cells[event.run.key.cell]
        labels = cell.dataset.labels[event.run.validation_indices]
        counts = cell.splits[event.run.key.seed].class_counts
        return epoch_scores(event.train_loss, event.validation_logits, labels, counts)

    def _trained_record(self, event: RunFinished) -> RunRecord:
        key = event.run.key
        cell, history = self._plan.cells[key.cell], self._histories.pop(key, [])
        counts = cell.splits[key.seed].class_counts
        record = trained_record(event, history, cell.dataset.labels, counts)
        if cell.data.test_split == "fixed":
            return record
        return dataclasses.replace(record, test_indices=event.run.test_indices)

    def _store(self, record: RunRecord) -> Iterator[RunRecord]:
        """Writes a run and those that it answers; yields each once it is written."""
        self._directory.write_run(record)
        yield record
        yield from self._store_answered(record)

    def _store_answered(self, source: RunRecord) -> Iterator[RunRecord]:
        """Stores the runs that `source` answers without training: equal arms and post-hoc arms.

        Those runs may answer others: an equal arm may be the post-hoc arms' parent.
        """
        for key in self._answered.get(source.key, ()):
            if self._directory.has_run(key):
                yield from self._store_answered(self._directory.read_run(key))
            else:
                yield from self._store(self._untrained_record(key, source))

    def _with_answered(self, key: RunKey) -> Iterator[RunKey]:
        """A run and those that it answers, which cannot come where it has failed."""
        yield key
        for answered in self._answered.get(key, ()):
            yield from self._with_answered(answered)

    def _complete_untrained(self) -> None:
        """Stores what finished runs answer and a process that ended in between has not stored."""
        for source, keys in self._answered.items():
            missing = any(not self._directory.has_run(key) for key in keys)
            if missing and self._directory.has_run(source):
                for _ in self._store_answered(self._directory.read_run(source)):
                    pass

    def _untrained_record(self, key: RunKey, source: RunRecord) -> RunRecord:
        arms = {str(arm): arm for arm in self._plan.design.arms}
        arm = arms[key.arm]
        if arm.kind != "post_hoc":
            return dataclasses.replace(source, key=key)
        untrained = dataclasses.replace(source, key=key, history={})  # no history of its own
        if source.status != "ok":
            return untrained
        cell = self._plan.cells[key.cell]
        split = cell.splits[key.seed]
        adjusted = apply_post_hoc(
            arm,
            RunOutputs(
                test_logits=source.test_logits,
                validation_logits=source.validation_logits,
                validation_labels=cell.dataset.labels[split.validation_indices],
                head_kernel=source.head_kernel,
                head_bias=source.head_bias,
                class_counts=source.class_counts,
            ),
        )
        return with_test_logits(
            dataclasses.replace(untrained, chosen=adjusted.chosen),
            adjusted.test_logits,
            adjusted.validation_logits,
            cell.dataset.labels[split.test_indices],
        )


def _look_taken(state: Progress) -> Iterator[LookTaken]:
    """The last planned look; nothing before the first, or where every comparison is refused."""
    looks = () if state.judged is None else look_facts(state.judged)
    if looks and state.judged is not None:
        going_on = {entry.pairing.key for entry in state.judged.comparisons if entry.needs_seeds}
        yield LookTaken(looks[-1], len(going_on))
