"""Runs on the processes of a cluster: chunks are pulled, events come back, a lost chunk goes on.

Nothing here knows Ray or JAX: `exchange.Machines` starts the processes, and what happens in them is
`node.Node`. Everything is decided in one thread, which takes what arrives from one queue.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from cwjax.data.dataset import Dataset
from cwjax.errors import ConfigError, one_line
from cwjax.study.exchange import (
    Chunk,
    ChunkEnded,
    ChunkTooWide,
    Greeting,
    Machines,
    NodeEvent,
    NodeFailed,
    Prepared,
    RunsFailedThere,
    Worker,
    load_events,
    versions,
)
from cwjax.training.runs import (
    ChunkState,
    ClusterStatus,
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
    chunk_runs,
    trained_together,
    warn_of_narrower_chunks,
    warn_of_partial_batches,
)

if TYPE_CHECKING:  # imports JAX, which trains elsewhere
    from cwjax.training.devices import DeviceFacts

START_SECONDS = 120
"""How long the first process may take to say what it is."""

OTHERS_SECONDS = 30
"""How long the others may take then; those that are later join later."""

LOOK_SECONDS = 5
"""Between two looks for machines that have come, and for processes that say nothing."""

SILENT_LOOKS = 60
"""A process that says nothing for so many looks is lost. Looks, not seconds: where this process was
stopped, the others are not to blame."""

STATUS_SECONDS = 1
"""Between two events that tell how the cluster is doing; so long a signal may go unheard."""

MAX_FALSE_STARTS = 3
"""So often a process may end before it trains anything."""

STATE_BYTES_PER_SECOND = 50e6
"""What all states that are kept may take together; large ones are kept less often than each minute.
"""


@dataclass(eq=False)
class Member:
    """A process of the cluster, as far as it is known."""

    worker: Worker
    num_lanes: int = 0  # until it has said how many
    chunks: dict[int, _Handed] = field(default_factory=dict)
    is_called: bool = False  # an answer is still to come
    silent_looks: int = 0


@dataclass(eq=False)
class _Handed:
    """A chunk, and what would be undone if it were lost now."""

    chunk: Chunk
    deaths: int  # of processes that trained it, while their machines went on
    num_examples: int = 0
    num_epochs: int = 0


Handler: TypeAlias = Callable[[Member, "Future[Any]"], Iterator[TrainingEvent]]


class Cluster:
    """The processes that train, those that come and those that go.

    Args:
        machines: where they run.
    """

    def __init__(self, machines: Machines) -> None:
        self._machines = machines
        self._inbox = queue.SimpleQueue[tuple[Member, Handler, Future[Any]]]()
        self._device: DeviceFacts | None = None
        self._is_started = False
        self._false_starts = Counter[str]()
        self._looked = -float(LOOK_SECONDS)
        self.members: set[Member] = set()

    def start(self) -> DeviceFacts:
        """Starts the processes; what they train on, which is alike everywhere.

        Raises:
            ConfigError: none starts in time, or one has other versions or another kind of device.
        """
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            for _ in self.events():
                raise AssertionError("nothing trains yet")
            known = [member for member in self.members if member.num_lanes]
            if known and len(known) == len(self.members):
                break
            if known:
                deadline = min(deadline, time.monotonic() + OTHERS_SECONDS)
        if self._device is None:
            raise ConfigError(
                f"no node of the cluster has begun within {START_SECONDS} s: see with `ray status` "
                "whether it has free CPUs, or accelerators where --platform asks for them"
            )
        self._is_started = True
        return self._device

    def events(self) -> Iterator[TrainingEvent]:
        """What the next answer leads to; nothing if none comes within a second.

        Raises:
            ConfigError: a node cannot train with the others, and nothing trains yet.
        """
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._looked = time.monotonic()
            self._start_new()
        try:
            member, handle, answer = self._inbox.get(timeout=STATUS_SECONDS)
        except queue.Empty:
            return
        if member in self.members:
            member.is_called, member.silent_looks = False, 0
            yield from handle(member, answer)

    def call(self, member: Member, answer: Future[Any], handle: Handler) -> None:
        """Has `events` call `handle` with the answer."""
        member.is_called = True
        answer.add_done_callback(lambda done: self._inbox.put((member, handle, done)))

    def idle(self) -> list[Member]:
        """The processes that wait to be called."""
        return [member for member in self.members if member.num_lanes and not member.is_called]

    def silent(self) -> list[Member]:
        """Processes that have not answered for too many looks."""
        return [member for member in self.members if member.silent_looks > SILENT_LOOKS]

    def drop(self, member: Member) -> None:
        """Forgets a process, which ends if it has not; another may take its place."""
        self.members.discard(member)
        member.worker.end()
        self._machines.left(member.worker)

    def _start_new(self) -> None:
        for member in self.members:
            member.silent_looks += member.is_called
        for worker in self._machines.new_workers():
            member = Member(worker)
            self.members.add(member)
            self.call(member, worker.greet(), self._greeted)

    def _greeted(self, member: Member, answer: Future[Greeting]) -> Iterator[TrainingEvent]:
        node, error = member.worker.node, answer.exception()
        if error is not None and member.worker.is_loss(error):
            self._false_starts[node] += 1
            if self._false_starts[node] < MAX_FALSE_STARTS:
                self.drop(member)
                return
        problem = self._problem(answer)
        if problem is None:
            member.num_lanes = answer.result().num_lanes
            return
        self.members.discard(member)
        member.worker.end()  # and its place stays empty
        if not self._is_started or not self.members:
            raise ConfigError(f"node {node} {problem}")
        warnings.warn(f"node {node} {problem}; it is left out", stacklevel=2)
        yield from ()

    def _problem(self, answer: Future[Greeting]) -> str | None:
        """What keeps a process from training with the others."""
        error = answer.exception()
        if error is not None:
            return f"cannot train: {one_line(error)}"
        greeting = answer.result()
        for name, here in versions().items():
            there = greeting.versions.get(name)
            if there != here:
                return f"has {name} {there}, and here it is {here}: install the same on every node"
        self._device = self._device or greeting.device
        if greeting.device != self._device:
            return (
                f"trains on {greeting.device}, others on {self._device}, and results would differ: "
                "leave one of them out"
            )
        return None


class ClusterTrainer:
    """A `Trainer` that uses the processes of a cluster.

    Args:
        cluster: started.
        datasets: of every cell, by the cell's name.
        model: its name, for people.
        widths: runs side by side in one program, for cells whose runs have begun with one.
        saved: the newest kept state of runs that trained side by side, if there is one.
    """

    def __init__(
        self,
        cluster: Cluster,
        datasets: Mapping[str, Dataset],
        model: str,
        widths: Mapping[str, int | None],
        saved: Callable[[Sequence[Run]], ChunkState | None],
    ) -> None:
        self._cluster = cluster
        self._datasets = datasets
        self._model = model
        self._widths = dict(widths)
        self._saved = saved
        self._numbers = itertools.count()
        self._runs: dict[RunKey, Run] = {}
        self._ended: set[RunKey] = set()
        self._waiting: deque[_Handed] = deque()
        self._suspects: deque[_Handed] = deque()  # each trains alone, after all others
        self._num_in_flight = 0  # runs
        self._state_bytes = 0.0  # of a run, in the last state that came
        self._stop = threading.Event()

    def train(
        self, runs: Sequence[Run], begun: Sequence[ChunkState], stop: threading.Event
    ) -> Generator[TrainingEvent, None, None]:
        """See `Trainer.train`; a chunk whose process is lost goes on in another one."""
        self._runs, self._ended, self._stop = {run.key: run for run in runs}, set(), stop
        for cells in trained_together(runs, self._datasets, self._widths):
            if stop.is_set():
                return
            own = [run for run in runs if run.key.cell in cells]
            states = [state for state in begun if state.runs[0].key.cell in cells]
            yield from self._lay_out(cells, own, states)
        told = -float(STATUS_SECONDS)
        while self._num_in_flight or self._has_more():
            if time.monotonic() - told >= STATUS_SECONDS:
                told = time.monotonic()
                for member in self._cluster.silent():
                    yield from self._lost(member, killed=False)
                self._call_idle()
                yield self._status()
            yield from self._cluster.events()

    def _has_more(self) -> bool:
        """Whether chunks are still to be handed out."""
        return not self._stop.is_set() and bool(self._waiting or self._suspects)

    def _status(self) -> ClusterStatus:
        num_workers = sum(member.num_lanes > 0 for member in self._cluster.members)
        return ClusterStatus(num_workers, self._num_in_flight)

    def _lay_out(
        self, cells: Sequence[str], runs: Sequence[Run], begun: Sequence[ChunkState]
    ) -> Generator[TrainingEvent, None, None]:
        """Cuts the runs of one data set into chunks; those that have begun come first."""
        dataset = self._datasets[cells[0]].fingerprint
        prepared = yield from self._prepare(dataset, runs[0])
        if prepared is None:
            return
        if prepared.skips_partial_batches:
            warn_of_partial_batches(self._model)
        width = self._widths.get(cells[0]) or prepared.width
        self._widths |= dict.fromkeys(cells, width)
        yield WidthChosen(tuple(cells), width)
        for state in begun:
            self._waiting.append(self._handed(list(state.runs), dataset, width, state))
        in_begun = {run.key for state in begun for run in state.runs}
        fresh = [run for run in runs if run.key not in in_begun]
        for chunk in chunk_runs(fresh, width or 1):
            self._waiting.append(self._handed(chunk, dataset, width))

    def _handed(
        self,
        runs: list[Run],
        dataset: str,
        width: int | None,
        begun: ChunkState | None = None,
        deaths: int = 0,
    ) -> _Handed:
        return _Handed(Chunk(next(self._numbers), runs, width, dataset, begun), deaths)

    def _prepare(self, dataset: str, run: Run) -> Generator[TrainingEvent, None, Prepared | None]:
        """Asks a process that has nothing to do; another one where that is lost.

        None once training is to stop.
        """
        answers: list[Future[Prepared]] = []

        def take(_: Member, answer: Future[Prepared]) -> Iterator[TrainingEvent]:
            answers.append(answer)
            yield from ()

        for _ in range(MAX_FALSE_STARTS):
            while not (idle := self._cluster.idle()):
                yield from self._cluster.events()
                yield self._status()  # whoever watches may want to stop
                if self._stop.is_set():
                    return None
            member = idle[0]
            self._cluster.call(member, member.worker.prepare(dataset, run), take)
            while not answers and member not in self._cluster.silent():
                yield from self._cluster.events()
                yield self._status()
                if self._stop.is_set():
                    return None
            answer = answers.pop() if answers else None
            error = answer.exception() if answer is not None else None
            if answer is not None and error is None:
                return answer.result()
            if error is not None and not member.worker.is_loss(error):
                raise error
            self._cluster.drop(member)
        raise ConfigError(
            f"the processes of {MAX_FALSE_STARTS} nodes ended while they compiled the model, as "
            "where memory runs out: give a smaller --batch-size or --max-parallel-runs"
        )

    def _call_idle(self) -> None:
        for member in self._cluster.idle():
            self._call(member)

    def _call(self, member: Member) -> None:
        """Gives a process what its free lanes can take, and asks what has happened."""
        handed = self._taken_by(member)
        for each in handed:
            member.chunks[each.chunk.number] = each
            self._num_in_flight += len(each.chunk.runs)
        if member.chunks:
            keep_seconds = self._state_bytes * self._num_in_flight / STATE_BYTES_PER_SECOND
            answer = member.worker.exchange(
                [each.chunk for each in handed], keep_seconds, self._stop.is_set()
            )
            self._cluster.call(member, answer, self._answered)

    def _taken_by(self, member: Member) -> list[_Handed]:
        """The next chunks for a process; one that may kill it comes when it has no other."""
        if self._stop.is_set() or any(handed.deaths for handed in member.chunks.values()):
            return []
        room = member.num_lanes - len(member.chunks)
        taken = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
        if self._suspects and not taken and not member.chunks:
            taken = [self._suspects.popleft()]
        return taken

    def _answered(self, member: Member, answer: Future[bytes]) -> Iterator[TrainingEvent]:
        error = answer.exception()
        if error is None:
            for number, event in load_events(answer.result(), self._runs):
                yield from self._taken_into_account(member, number, event)
            self._call(member)
        elif member.worker.is_loss(error):
            yield from self._lost(member, killed=member.worker.machine_lives())
        else:
            raise error

    def _taken_into_account(
        self, member: Member, number: int, event: NodeEvent
    ) -> Iterator[TrainingEvent]:
        handed = member.chunks[number]
        match event:
            case ChunkEnded():
                del member.chunks[number]
                self._num_in_flight -= len(handed.chunk.runs)
                return
            case ChunkTooWide():
                yield from self._narrow(handed.chunk)
                return
            case NodeFailed(error):
                raise error
            case RunsFailedThere(kind, text):
                runs = tuple(handed.chunk.runs)
                self._ended.update(run.key for run in runs)
                yield RunsFailed(runs, type(kind, (Exception,), {})(text))
                return
            case StepsFinished(num_examples):
                handed.num_examples += num_examples
            case EpochScored():
                handed.num_epochs += 1
            case ChunkState(arrays=arrays):
                handed.num_examples = handed.num_epochs = 0
                num_bytes = sum(array.nbytes for array in arrays.values())
                self._state_bytes = num_bytes / len(handed.chunk.runs)
            case RunFinished(run=run):
                self._ended.add(run.key)
        yield event

    def _narrow(self, chunk: Chunk) -> Iterator[TrainingEvent]:
        """Runs of a chunk that did not fit start again in narrower ones, as do those that wait."""
        cell, width = chunk.runs[0].key.cell, chunk.width
        assert width is not None  # a run alone fails by itself
        if self._widths[cell] == width:
            cells = [
                name
                for name, dataset in self._datasets.items()
                if dataset.fingerprint == chunk.dataset and self._widths.get(name) == width
            ]
            self._widths |= dict.fromkeys(cells, width // 2)
            warn_of_narrower_chunks(width // 2)
            yield WidthChosen(tuple(cells), width // 2)
        narrower = self._widths[cell]
        assert narrower is not None
        same = [each for each in self._waiting if each.chunk.dataset == chunk.dataset]
        too_wide = [each.chunk for each in same if each.chunk.width == width]
        self._waiting = deque(each for each in self._waiting if each.chunk not in too_wide)
        runs = [run for each in [chunk, *too_wide] for run in each.runs]
        fresh = [run for run in runs if run.key not in self._ended]
        for part in chunk_runs(fresh, narrower):
            self._waiting.append(self._handed(part, chunk.dataset, narrower))

    def _lost(self, member: Member, *, killed: bool) -> Iterator[TrainingEvent]:
        """The chunks of a process go on elsewhere; one that has killed its process twice fails.

        Args:
            member: that is lost.
            killed: whether its machine goes on, so that one of its chunks may be to blame.
        """
        self._cluster.drop(member)
        lost: list[_Handed] = []
        for handed in member.chunks.values():
            chunk = handed.chunk
            self._num_in_flight -= len(chunk.runs)
            if self._stop.is_set():
                continue
            runs = [run for run in chunk.runs if run.key not in self._ended]
            deaths = handed.deaths + killed
            if deaths == 2:
                self._ended.update(run.key for run in runs)
                yield RunsFailed(tuple(runs), ProcessKilled())
                continue
            lost.append(handed)
            again = self._handed(runs, chunk.dataset, chunk.width, self._saved(runs), deaths)
            if deaths:
                self._suspects.append(again)
            else:
                self._waiting.appendleft(again)
        if lost:
            yield RunsLost(
                member.worker.node,
                tuple(run for handed in lost for run in handed.chunk.runs),
                sum(handed.num_examples for handed in lost),
                sum(handed.num_epochs for handed in lost),
            )
        self._call_idle()
