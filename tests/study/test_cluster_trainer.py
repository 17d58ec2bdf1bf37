"""Who gets which chunk, and what becomes of it: stand-ins for processes and machines, no Ray."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from cwjax.arms.row import uniform_row
from cwjax.config import RuntimeConfig, TrainConfig
from cwjax.data.dataset import Dataset
from cwjax.errors import ConfigError, one_line
from cwjax.study import cluster as module
from cwjax.study.cluster import Cluster, ClusterTrainer
from cwjax.study.exchange import (
    Chunk,
    ChunkEnded,
    ChunkTooWide,
    Greeting,
    NodeEvent,
    NodeFailed,
    Prepared,
    RunsFailedThere,
    Work,
    Worker,
    dump_events,
    load_events,
    versions,
)
from cwjax.study.node import Node
from cwjax.training import chunk as chunks_of
from cwjax.training.devices import DeviceFacts
from cwjax.training.local import LocalTrainer
from cwjax.training.runs import (
    ChunkState,
    EpochFinished,
    EpochScored,
    ProcessKilled,
    Run,
    RunFinished,
    RunKey,
    RunsFailed,
    RunsLost,
    StepsFinished,
    TrainingEvent,
    WidthChosen,
)

DEVICE = DeviceFacts("cpu", "cpu", 2, {})
CONFIG = TrainConfig(model="linear", num_epochs=2, batch_size=16)


class Lost(Exception):
    """A process cannot be reached."""


class StandIn:
    """A process that trains a chunk within one call; what it does is `behave`'s to say."""

    def __init__(
        self,
        node: str = "here",
        behave: Callable[[Chunk], list[NodeEvent]] | None = None,
        *,
        lanes: int = 1,
        width: int | None = None,
        machine_lives: bool = True,
        **greeting: Any,
    ) -> None:
        self.node = node
        self.given: list[list[int]] = []  # seeds of the chunks of each call
        self.is_ended = False
        self._behave = behave or trained
        self._width = width
        self._machine_lives = machine_lives
        self._greeting = Greeting(
            **{"versions": versions(), "device": DEVICE, "num_lanes": lanes} | greeting
        )

    def greet(self) -> Future[Greeting]:
        return answered(lambda: self._greeting)

    def prepare(self, dataset: str, run: Run) -> Future[Prepared]:
        return answered(lambda: Prepared(self._width, False))

    def exchange(self, chunks: Sequence[Chunk], keep_seconds: float, stop: bool) -> Future[bytes]:
        self.given.append([run.key.seed for chunk in chunks for run in chunk.runs])

        def events() -> bytes:
            return dump_events(
                [(chunk.number, event) for chunk in chunks for event in self._behave(chunk)]
            )

        return answered(events)

    def is_loss(self, error: BaseException) -> bool:
        return isinstance(error, Lost)

    def machine_lives(self) -> bool:
        return self._machine_lives

    def end(self) -> None:
        self.is_ended = True


class StandIns:
    """Machines: the first processes, and those that take the places of lost ones."""

    def __init__(self, workers: Sequence[Worker], later: Sequence[Worker] = ()) -> None:
        self._new = list(workers)
        self._later = list(later)

    def new_workers(self) -> list[Worker]:
        new, self._new = self._new, []
        return new

    def left(self, worker: Worker) -> None:
        self._new += self._later[:1]
        del self._later[:1]


def answered(function: Callable[[], Any]) -> Future[Any]:
    future = Future[Any]()
    try:
        future.set_result(function())
    except Exception as error:
        future.set_exception(error)
    return future


def make_run(seed: int) -> Run:
    indices = np.random.default_rng(seed).permutation(180).astype(np.int32)
    return Run(
        key=RunKey("cell", "uniform", seed),
        key_seed=seed,
        row=uniform_row(3),
        train_indices=np.sort(indices[:40]),
        validation_indices=np.sort(indices[150:]),
        test_indices=np.arange(180, 240, dtype=np.int32),
        first_stage_epochs=2,
        num_epochs=2,
    )


def state(chunk: Chunk) -> ChunkState:
    return ChunkState(tuple(chunk.runs), 1, 0, {"x": np.zeros(3)}, chunk.width)


def trained(chunk: Chunk) -> list[NodeEvent]:
    nothing = np.zeros((0, 3), np.float32)
    epochs: list[NodeEvent] = []
    for epoch in range(2):
        epochs += [StepsFinished(40 * len(chunk.runs))]
        epochs += [EpochScored(run, epoch, {"train_loss": 1.0}) for run in chunk.runs]
    ends = [RunFinished(run, nothing, nothing, nothing, np.zeros(3)) for run in chunk.runs]
    return [*epochs, *ends, ChunkEnded()]


def dying(*seeds: int, times: int = 10) -> Callable[[Chunk], list[NodeEvent]]:
    """Training that ends its process, so many times, when it has one of these seeds."""
    left = [times]

    def behave(chunk: Chunk) -> list[NodeEvent]:
        if left[0] and any(run.key.seed in seeds for run in chunk.runs):
            left[0] -= 1
            raise Lost
        return trained(chunk)

    return behave


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0)
    monkeypatch.setattr(module, "STATUS_SECONDS", 0.02)


def make_trainer(
    dataset: Dataset, workers: Sequence[Worker], later: Sequence[Worker] = (), **options: Any
) -> ClusterTrainer:
    cluster = Cluster(StandIns(workers, later))
    cluster.start()
    arguments = {"model": "linear", "widths": {}, "saved": lambda _: None} | options
    return ClusterTrainer(cluster, {"cell": dataset}, **arguments)


def train(
    trainer: ClusterTrainer, num_runs: int = 6, stop: threading.Event | None = None
) -> list[TrainingEvent]:
    runs = [make_run(seed) for seed in range(num_runs)]
    return list(trainer.train(runs, (), stop or threading.Event()))


def seeds(events: Sequence[TrainingEvent], kind: type[Any]) -> list[int]:
    """Of the runs that events of a kind are about."""
    found: list[int] = []
    for event in events:
        if isinstance(event, kind):
            runs = [event.run] if hasattr(event, "run") else event.runs
            found += [run.key.seed for run in runs]
    return found


def test_chunks_are_pulled(tiny_dataset: Dataset) -> None:
    workers = [StandIn(lanes=2), StandIn(lanes=1)]
    events = train(make_trainer(tiny_dataset, workers))
    assert sorted(seeds(events, RunFinished)) == list(range(6))
    assert workers[0].given[0] == [0, 1] or workers[1].given[0] == [0]
    assert all(len(given) <= 2 for given in workers[0].given)
    assert all(len(given) <= 1 for given in workers[1].given)
    assert next(e for e in events if isinstance(e, WidthChosen)) == WidthChosen(("cell",), None)


@pytest.mark.fault(66, 91)
def test_a_lost_machine_is_nobodys_fault(tiny_dataset: Dataset) -> None:
    """Its runs go on from what was kept of them, and what is undone is told."""
    kept = []

    def behave(chunk: Chunk) -> list[NodeEvent]:
        if chunk.begun is None and chunk.runs[0].key.seed == 0:
            if kept:
                raise Lost
            kept.append(state(chunk))
            steps = [StepsFinished(40), EpochScored(chunk.runs[0], 0, {})]
            return [*steps, kept[0], StepsFinished(24)]  # and the process goes on
        return trained(chunk)

    lost = StandIn("gone", behave, machine_lives=False)
    lost.exchange = losing_second(lost)  # type: ignore[method-assign]
    other = StandIn("other")
    asked = []

    def saved(runs: Sequence[Run]) -> ChunkState | None:
        asked.append([run.key.seed for run in runs])
        return dataclasses.replace(kept[0], runs=tuple(runs))

    trainer = make_trainer(tiny_dataset, [lost], [other], saved=saved)
    events = train(trainer, num_runs=1)
    (loss,) = (event for event in events if isinstance(event, RunsLost))
    assert (loss.node, loss.num_examples, loss.num_epochs) == ("gone", 24, 0)
    assert asked == [[0]]
    assert seeds(events, RunFinished) == [0]
    assert not seeds(events, RunsFailed)
    assert lost.is_ended


def losing_second(worker: StandIn) -> Callable[..., Future[bytes]]:
    """The worker's `exchange`, lost when it is called again."""
    first, calls = worker.exchange, []

    def exchange(*arguments: Any) -> Future[bytes]:
        calls.append(arguments)
        if len(calls) == 1:
            return first(*arguments)
        future = Future[bytes]()
        future.set_exception(Lost())
        return future

    return exchange


@pytest.mark.fault(59, 92)
def test_a_run_that_kills_its_process_twice_fails_and_no_other(tiny_dataset: Dataset) -> None:
    behave = dying(3)
    workers = [StandIn(str(number), behave, lanes=3) for number in range(4)]
    events = train(make_trainer(tiny_dataset, workers[:1], workers[1:]))
    assert seeds(events, RunsFailed) == [3]
    (failure,) = (event for event in events if isinstance(event, RunsFailed))
    assert isinstance(failure.error, ProcessKilled)
    assert sorted(seeds(events, RunFinished)) == [0, 1, 2, 4, 5]
    alone = [given for worker in workers[1:] for given in worker.given if 3 in given]
    assert alone == [[3]]  # after it was lost with others it got a process for itself


def test_killed_once_is_no_failure(tiny_dataset: Dataset) -> None:
    behave = dying(3, times=1)
    workers = [StandIn(str(number), behave, lanes=3) for number in range(2)]
    events = train(make_trainer(tiny_dataset, workers[:1], workers[1:]))
    assert sorted(seeds(events, RunFinished)) == list(range(6))
    assert not seeds(events, RunsFailed)


def test_large_states_are_kept_less_often(tiny_dataset: Dataset) -> None:
    """A second run is told how long to wait: 100 MB at 50 MB a second."""
    waits = []
    worker = StandIn(behave=lambda chunk: [large(chunk), *trained(chunk)])
    exchange = worker.exchange

    def noting(chunks: Sequence[Chunk], keep_seconds: float, stop: bool) -> Future[bytes]:
        waits.append(keep_seconds)
        return exchange(chunks, keep_seconds, stop)

    worker.exchange = noting  # type: ignore[method-assign]
    train(make_trainer(tiny_dataset, [worker]), num_runs=2)
    assert waits == [0, 2]


def large(chunk: Chunk) -> ChunkState:
    return dataclasses.replace(state(chunk), arrays={"x": np.zeros(25 * 10**6, np.float32)})


@pytest.mark.fault(93)
def test_a_late_node_gets_runs(tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STATUS_SECONDS", 0)  # idle processes are looked for all the time
    late = StandIn("late")
    machines = StandIns([StandIn("first")])
    cluster = Cluster(machines)
    cluster.start()
    trainer = ClusterTrainer(cluster, {"cell": tiny_dataset}, "linear", {}, lambda _: None)
    runs = [make_run(seed) for seed in range(40)]
    events = []
    for event in trainer.train(runs, (), threading.Event()):
        events.append(event)
        if isinstance(event, RunFinished) and event.run.key.seed == 3:
            machines._new.append(late)
            cluster._looked = 0
    assert late.given
    assert sorted(seeds(events, RunFinished)) == list(range(40))


@pytest.mark.fault(67)
def test_a_process_that_says_nothing_is_lost(
    tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENT_LOOKS", 3)
    silent, other = StandIn("silent"), StandIn("other")
    silent.exchange = lambda *_: Future()  # type: ignore[method-assign]
    events = train(make_trainer(tiny_dataset, [silent], [other]))
    assert sorted(seeds(events, RunFinished)) == list(range(6))
    assert silent.is_ended


def test_a_chunk_that_does_not_fit_starts_again_in_narrower_ones(tiny_dataset: Dataset) -> None:
    def behave(chunk: Chunk) -> list[NodeEvent]:
        if len(chunk.runs) > 2:
            return [ChunkTooWide(), ChunkEnded()]
        return trained(chunk)

    worker = StandIn(behave=behave, width=4)
    with pytest.warns(UserWarning, match="device memory is exceeded: 2 runs side by side"):
        events = train(make_trainer(tiny_dataset, [worker]), num_runs=8)
    widths = [event.width for event in events if isinstance(event, WidthChosen)]
    assert widths == [4, 2]
    assert sorted(seeds(events, RunFinished)) == list(range(8))


def test_once_stopped_nothing_new_is_handed_out(tiny_dataset: Dataset) -> None:
    stop = threading.Event()

    def behave(chunk: Chunk) -> list[NodeEvent]:
        stop.set()
        return [state(chunk), ChunkEnded()]

    worker = StandIn(behave=behave)
    events = train(make_trainer(tiny_dataset, [worker]), stop=stop)
    assert seeds(events, ChunkState) == [0]
    assert worker.given[0] == [0]


def test_a_stop_is_heard_while_a_process_compiles(tiny_dataset: Dataset) -> None:
    worker, stop = StandIn(), threading.Event()
    worker.prepare = lambda dataset, run: Future()  # type: ignore[method-assign]
    events = make_trainer(tiny_dataset, [worker]).train([make_run(0)], (), stop)
    next(events)
    stop.set()
    assert len(list(itertools.islice(events, 100))) < 100
    assert worker.given == []


def test_what_concerns_the_whole_study_ends_it(tiny_dataset: Dataset) -> None:
    worker = StandIn(behave=lambda _: [NodeFailed(ConfigError("of another model"))])
    with pytest.raises(ConfigError, match="of another model"):
        train(make_trainer(tiny_dataset, [worker]))


def test_an_error_of_a_run_reads_as_it_would_here(tiny_dataset: Dataset) -> None:
    worker = StandIn(behave=lambda _: [RunsFailedThere("OwnError", "no\nluck"), ChunkEnded()])
    events = train(make_trainer(tiny_dataset, [worker]), num_runs=1)
    (failure,) = (event for event in events if isinstance(event, RunsFailed))
    assert one_line(failure.error) == "OwnError: no luck"


@pytest.mark.fault(98)
@pytest.mark.parametrize(
    ("greeting", "message"),
    [
        (
            {"versions": {**versions(), "jax": "0.1"}},
            "node other has jax 0.1, and here it is .*: install the same on every node",
        ),
        (
            {"versions": {**versions(), "the source of cwjax": "0"}},
            "node other has the source of cwjax 0, ",
        ),
        ({"device": dataclasses.replace(DEVICE, cpu_threads=64)}, "results would differ"),
    ],
)
def test_a_node_that_is_unlike_the_others_is_named(
    greeting: dict[str, Any], message: str, tiny_dataset: Dataset
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_trainer(tiny_dataset, [StandIn(), StandIn("other", **greeting)])
    unlike = StandIn("late", **greeting)
    behave = dying(0, times=1)
    workers = [StandIn(name, behave) for name in ("first", "second")]
    trainer = make_trainer(tiny_dataset, workers, [unlike])
    with pytest.warns(UserWarning, match="node late .*; it is left out"):
        events = train(trainer, num_runs=200)
    assert sorted(seeds(events, RunFinished)) == list(range(200))
    assert not unlike.given


def test_a_cluster_without_a_free_node_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START_SECONDS", 0.1)
    with pytest.raises(ConfigError, match="no node of the cluster has begun"):
        Cluster(StandIns([])).start()


def test_runs_come_back_as_the_objects_that_were_sent() -> None:
    run = make_run(0)
    content = dump_events([(3, EpochScored(run, 1, {"train_loss": 0.5}))])
    assert len(content) < 400  # no indices in it
    ((number, event),) = load_events(content, {run.key: run})
    assert number == 3
    assert isinstance(event, EpochScored)
    assert event.run is run


def node_events(node: Node, chunks: list[Chunk], runs: list[Run]) -> Iterator[NodeEvent]:
    """What a node tells until all chunks have ended."""
    by_key = {run.key: run for run in runs}
    working = len(chunks)
    while working:
        for _, event in load_events(node.exchange(chunks, 0, stop=False), by_key):
            working -= isinstance(event, ChunkEnded)
            yield event
        chunks = []


def test_a_node_trains_what_a_local_trainer_does(
    tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the start, and from a state that was kept; scores stand in for validation logits."""
    monkeypatch.setattr(chunks_of, "CHECKPOINT_SECONDS", 0)
    runtime = RuntimeConfig(max_parallel_runs=1, compile_cache=False)
    runs = [make_run(0)]
    trainer = LocalTrainer({"cell": tiny_dataset}, CONFIG, runtime, {})
    local = list(trainer.train(runs, (), threading.Event()))
    node = Node(Work(CONFIG, runtime, 2, None), 1, lambda _: tiny_dataset)
    assert node.greet().num_lanes == 1
    assert node.prepare("", runs[0]) == Prepared(None, False)
    there = list(node_events(node, [Chunk(0, runs, None, "", None)], runs))
    state = next(event for event in there if isinstance(event, ChunkState))
    again = list(node_events(node, [Chunk(1, runs, None, "", state)], runs))
    (expected,) = (event for event in local if isinstance(event, RunFinished))
    for events in (there, again):
        (finished,) = (event for event in events if isinstance(event, RunFinished))
        for name in ("test_logits", "validation_logits", "head_kernel", "head_bias"):
            np.testing.assert_array_equal(getattr(finished, name), getattr(expected, name))
        assert isinstance(events[-1], ChunkEnded)
    losses = [event.train_loss for event in local if isinstance(event, EpochFinished)]
    assert [e.scores["train_loss"] for e in there if isinstance(e, EpochScored)] == losses
    assert not any(isinstance(event, EpochFinished) for event in there)


def test_a_state_of_another_model_is_refused(tiny_dataset: Dataset) -> None:
    runs = [make_run(0)]
    foreign = ChunkState(tuple(runs), 0, 1, {"x": np.zeros((1, 3))})
    node = Node(
        Work(CONFIG, RuntimeConfig(compile_cache=False), 2, None), 1, lambda _: tiny_dataset
    )
    events = list(node_events(node, [Chunk(0, runs, None, "", foreign)], runs))
    (failed,) = (event for event in events if isinstance(event, NodeFailed))
    assert "is of another model" in str(failed.error)
