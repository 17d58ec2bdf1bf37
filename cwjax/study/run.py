"""The one driver of every study: runs are trained and stored, all else is derived.

`run` yields events and prints nothing; whoever calls it draws the progress.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from cwjax.analysis.results import LookFacts, StudyComparison
from cwjax.arms.arm import Arm
from cwjax.arms.logit_prior import adjusted_prior
from cwjax.arms.posthoc import Adjusted, RunOutputs, apply_post_hoc
from cwjax.arms.row import EVALUATED
from cwjax.config import RuntimeConfig, StudyConfig, default_threads
from cwjax.data.sources import ReadOptions
from cwjax.errors import ConfigError, one_line
from cwjax.models.registry import OWN_MODEL
from cwjax.store.checkpoints import Checkpoints, Saved
from cwjax.store.contents import read_headers, refuse_foreign_runs
from cwjax.store.directory import MODELS, StudyDirectory, open_study
from cwjax.store.examples import keep_examples
from cwjax.store.record import History, epoch_scores, trained_record, with_test_logits
from cwjax.store.schema import (
    Failure,
    ModelHeader,
    RunRecord,
    Status,
    StudyFile,
    defined_scores,
)
from cwjax.study.cluster import Cluster, ClusterTrainer
from cwjax.study.derive import derive
from cwjax.study.exchange import Work
from cwjax.study.judge import Progress, look_facts, progress
from cwjax.study.manifest import continued, describe, grown, recorded_threads, with_cells_of
from cwjax.study.plan import Plan, make_plan
from cwjax.study.tuning import best_on_validation
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

if TYPE_CHECKING:  # imports JAX, which trains elsewhere where there is a cluster
    from cwjax.training.devices import DeviceFacts


@dataclass(frozen=True, eq=False)
class Planned:
    """The work of this call, or up to the next look, is known; always the first event."""

    plan: Plan  # what the directory holds already included
    study: StudyFile  # the content of `study.json`
    num_expected: int  # runs, finished ones included, at the end or at the next look
    num_runs: int  # to be trained now
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
    if plan.design.estimators is not None and runtime.keep_models:
        raise ConfigError("--keep-models keeps networks, and estimators are none: leave it out")
    with ExitStack() as stack:
        cluster = None
        if runtime.cluster is not None:
            cluster = stack.enter_context(_cluster(plan, path, runtime))
            device: DeviceFacts | None = cluster.start()
        else:
            device = configured_device(plan, path, runtime)
        directory = stack.enter_context(open_study(path))
        plan, study = _enter(plan, directory, describe(plan, device), runtime)
        driver = _Driver(plan, directory, study)
        trainer = _trainer(plan, study, runtime) if cluster is None else driver.trainer_on(cluster)
        with closing(driver.train(trainer)) as events:
            yield from events
        comparison = derive(directory)
        directory.log("finished", runs=len(study.run_keys))
        yield Finished(comparison)


def configured_device(plan: Plan, path: Path, runtime: RuntimeConfig) -> DeviceFacts | None:
    """What JAX trains on in this process; None, and no JAX, where estimators are trained.

    Args:
        plan: whose own model, if it has one, is checked.
        path: of the study's directory, which may have a number of threads to keep.
        runtime: how to use the machine.

    Raises:
        ConfigError: a setting that does not fit the machine, or a model that cannot be trained.
    """
    if plan.design.estimators is not None:
        return None
    from cwjax.training import devices  # JAX takes seconds to import: settings come before

    device = devices.configure(runtime, plan.design.train.precision, recorded_threads(path))
    check_models(plan)
    return device


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
    old = directory.read_study()
    plan, study = joined(plan, directory, new, runtime)
    if old is not None and runtime.retry_failed:
        _forget_choices(plan, directory, old.failed)
    if study != old:
        directory.write_study(study)
    for cell in plan.cells.values():
        keep_examples(directory, cell.dataset)
    if runtime.keep_models and (own := OWN_MODEL.fullmatch(plan.design.train.model)):
        source = Path(own[1])
        directory.write_bytes(f"{MODELS}/{source.name}", source.read_bytes())
    return plan, study


def _forget_choices(plan: Plan, directory: StudyDirectory, failed: Collection[RunKey]) -> None:
    """Removes runs that were chosen without candidates that are tried again: they are made anew."""
    gone = set(failed)
    for key, sources in plan.sources.items():
        if gone.intersection(sources):
            gone.add(key)
            directory.run_path(key).unlink(missing_ok=True)


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
    if runtime.keep_models:
        _refuse_runs_without_models(plan, directory)
    return plan, study


def _refuse_runs_without_models(plan: Plan, directory: StudyDirectory) -> None:
    finished = [run.key for run in plan.trained_runs if directory.has_run(run.key)]
    without = [key for key in finished if not directory.has_model(key)]
    if without:
        raise ConfigError(
            f"{directory.path}: {len(without)} of {len(finished)} finished runs were trained "
            f"without --keep-models, the first is {without[0]}: leave it out, or give a new --out"
        )


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
        self._made_from: dict[RunKey, list[RunKey]] = {}
        for key, sources in plan.sources.items():
            for source in sources:
                self._made_from.setdefault(source, []).append(key)

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
        self._record_failures(self.study.failures)  # arms may have come since that they answer
        self._complete_untrained()
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
        roots = {root for key in state.expected for root in self._plan.roots(key)}
        missing = runs_to_train(self._plan, self._directory, study)
        return state, [run for run in missing if run.key in roots]

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
                self._keep_model(event)
                record = self._trained_record(event)
                stored = _stored_events(self._store(record))
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
                return [event, *(e for run in runs for e in _stored_events(self._settle(run.key)))]
        return [event]

    def _keep_row(self, run: Run, epoch: int, row: dict[str, float]) -> None:
        """Keeps a row of a run's history, in the place of those that a lost process told of."""
        rows = self._histories.setdefault(run.key, [])
        rows[epoch:] = [row]

    def _record_failures(self, failures: Sequence[Failure]) -> None:
        """Writes down failed runs, and with them those of which every source has failed."""
        known: dict[RunKey, Failure] = {}
        for failure in (*self.study.failures, *failures):
            known.setdefault(failure.run, failure)
        for key, sources in self._plan.sources.items():
            if sources and all(source in known for source in sources):
                known.setdefault(key, Failure(key, known[sources[0]].reason))
        self._write(dataclasses.replace(self.study, failures=tuple(known.values())))

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
        indices = event.run.test_indices
        return dataclasses.replace(
            record, test_indices=indices, test_labels=cell.dataset.labels[indices]
        )

    def _keep_model(self, event: RunFinished) -> None:
        """Writes the trained network, before its run: a kill leaves no run without its model."""
        if event.model is None:
            return
        key, row = event.run.key, event.run.row
        columns = tuple(map(str, self._plan.cells[key.cell].dataset.columns))
        header = ModelHeader(key=key, columns=columns)
        evaluated = {f"row/{field}": getattr(row, field) for field in EVALUATED}
        self._directory.write_model(header, {**event.model, **evaluated})

    def _refer_to_model(
        self, key: RunKey, source: RunKey, adjusted: Adjusted | None = None
    ) -> None:
        """Writes whose network a run has that was not trained, if that network was kept."""
        if not self._directory.has_model(source):
            return
        header = ModelHeader(key=key, made_from=source, is_adjusted=adjusted is not None)
        adjustment = None if adjusted is None else adjusted.adjustment
        arrays = {} if adjustment is None else adjustment._asdict()
        self._directory.write_model(header, {f"adjustment/{n}": a for n, a in arrays.items()})

    def _store(self, record: RunRecord) -> Iterator[RunRecord]:
        """Writes a run and those that lacked only it; yields each once it is written."""
        self._directory.write_run(record)
        yield record
        yield from self._settle(record.key)

    def _settle(self, source: RunKey) -> Iterator[RunRecord]:
        """Stores the untrained runs that lacked only `source`, which is stored or has failed."""
        for key in self._made_from.get(source, ()):
            if self._is_settled(key):
                yield from self._settle(key)
            elif all(map(self._is_settled, self._plan.sources[key])):
                yield from self._store(self._untrained_record(key))

    def _is_settled(self, key: RunKey) -> bool:
        return key in self.study.failed or self._directory.has_run(key)

    def _complete_untrained(self) -> None:
        """Stores what a process that ended between a run and those made from it has not stored."""
        for key, sources in self._plan.sources.items():
            if sources and not self._is_settled(key) and all(map(self._is_settled, sources)):
                self._directory.write_run(self._untrained_record(key))

    def _untrained_record(self, key: RunKey) -> RunRecord:
        """A run that is made from others, at least one of which is stored."""
        design, sources = self._plan.design, self._plan.sources[key]
        records = [self._directory.read_run(s) for s in sources if self._directory.has_run(s)]
        if (tuned := design.tuned.get(key.arm)) is not None:
            candidates = dict(zip(sources, tuned.candidates, strict=True))
            return self._tuned_record(key, records, candidates)
        (source,) = records
        arm = {str(arm): arm for arm in design.arms if arm.kind == "post_hoc"}.get(key.arm)
        if arm is None:
            self._refer_to_model(key, source.key)
            return dataclasses.replace(source, key=key)
        untrained = dataclasses.replace(source, key=key, history={}, chosen={}, stage_steps=())
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
        self._refer_to_model(key, source.key, adjusted)
        return with_test_logits(
            dataclasses.replace(
                untrained,
                chosen=adjusted.chosen,
                logit_prior=adjusted_prior(source.logit_prior, adjusted.adjustment),
            ),
            adjusted.test_logits,
            adjusted.validation_logits,
            cell.dataset.labels[split.test_indices],
        )

    def _tuned_record(
        self, key: RunKey, records: Sequence[RunRecord], candidates: Mapping[RunKey, Arm]
    ) -> RunRecord:
        """The run of a tuned arm: that of the candidate that is best on validation."""
        cell = self._plan.cells[key.cell]
        labels = cell.dataset.labels[cell.splits[key.seed].validation_indices]
        best = best_on_validation(records, labels, self._plan.design.analysis.metric)
        self._refer_to_model(key, best.key)
        chosen = self._plan.design.tuned[key.arm].chosen(candidates[best.key])
        return dataclasses.replace(best, key=key, chosen=chosen if best.status == "ok" else {})


def _stored_events(records: Iterable[RunRecord]) -> list[RunStored]:
    return [RunStored(each.key, each.status, defined_scores(each)) for each in records]


def _look_taken(state: Progress) -> Iterator[LookTaken]:
    """The last planned look; nothing before the first, or where every comparison is refused."""
    looks = () if state.judged is None else look_facts(state.judged)
    if looks and state.judged is not None:
        going_on = {entry.pairing.key for entry in state.judged.comparisons if entry.needs_seeds}
        yield LookTaken(looks[-1], len(going_on))
