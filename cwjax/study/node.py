"""What happens in a process of a cluster that trains: chunks of runs in, events out; no file."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from cwjax.data.dataset import Dataset, count_classes
from cwjax.models.travel import unpack_model
from cwjax.store.record import epoch_scores
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
    dump_events,
    versions,
)
from cwjax.training import devices
from cwjax.training.lanes import default_lanes
from cwjax.training.local import Engine, OutOfDeviceMemory, check_state, make_run_programs
from cwjax.training.runs import (
    ChunkState,
    EpochFinished,
    EpochScored,
    Run,
    RunsFailed,
    StepsFinished,
    TrainingEvent,
)
from cwjax.training.width import fitting_width

REPLY_SECONDS = 1.0
"""After this time a call returns what there is; sooner where a chunk ends."""


class Node:
    """Trains chunks, each in a thread of its own, on the devices of this process.

    Args:
        work: what every process of the study is told.
        num_lanes: how many chunks at a time, unless the devices are fewer.
        find_dataset: the data set of a fingerprint.
    """

    def __init__(self, work: Work, num_lanes: int, find_dataset: Callable[[str], Dataset]) -> None:
        self._device = devices.configure(work.runtime, work.train.precision, work.cpu_threads)
        self._config = work.train
        if work.own_model is not None:
            self._config = replace(work.train, model=unpack_model(work.own_model))
        self._runtime = work.runtime
        self._find_dataset = find_dataset
        on_cpu = self._device.platform == "cpu"
        self._num_lanes = len(default_lanes(None)[:num_lanes]) if on_cpu else 1
        self._free = list(range(self._num_lanes))
        self._engines: dict[tuple[str, int | None], list[Engine]] = {}
        self._running = Counter[tuple[str, int | None]]()
        self._lock = threading.Lock()
        self._outbox = queue.SimpleQueue[tuple[int, NodeEvent]]()
        self._uncollected: set[int] = set()  # chunks with a state in the outbox; one each
        self._keep_seconds = 0.0
        self._stop = threading.Event()

    def greet(self) -> Greeting:
        """What this process is."""
        return Greeting(versions(), self._device, self._num_lanes)

    def prepare(self, dataset: str, run: Run) -> Prepared:
        """What must be known before runs of a data set are cut into chunks.

        Args:
            dataset: its fingerprint.
            run: any of them.
        """
        data = self._find_dataset(dataset)
        programs = make_run_programs(data, self._config)
        limit = self._runtime.max_parallel_runs
        width = fitting_width(run, data, programs, self._config, limit)
        return Prepared(width, programs.skips_partial_batches)

    def exchange(self, chunks: Sequence[Chunk], keep_seconds: float, stop: bool) -> bytes:
        """Begins to train chunks; returns what has happened since the last call.

        Args:
            chunks: no more than there are free lanes.
            keep_seconds: least time between two states of a chunk that are given out.
            stop: end after the current steps, each chunk with a last state.

        Returns:
            `dump_events` of `(number of the chunk, event)`.
        """
        self._keep_seconds = keep_seconds
        if stop:
            self._stop.set()
        for chunk in chunks:
            lane = self._free.pop()
            threading.Thread(target=self._train, args=(chunk, lane), daemon=True).start()
        return dump_events(list(self._collect(time.monotonic() + REPLY_SECONDS)))

    def _collect(self, deadline: float) -> Iterator[tuple[int, NodeEvent]]:
        """Events until the deadline, or until a chunk has ended; steps are added up."""
        steps = Counter[int]()
        ended = False
        while True:
            left = 0 if ended else max(0.0, deadline - time.monotonic())
            try:
                number, event = self._outbox.get(block=left > 0, timeout=left)
            except queue.Empty:
                break
            if isinstance(event, StepsFinished):
                steps[number] += event.num_examples
                continue
            if steps[number]:  # in order: what a state holds has been told before it
                yield number, StepsFinished(steps.pop(number))
            if isinstance(event, ChunkState):
                self._uncollected.discard(number)
            yield number, event
            ended = ended or isinstance(event, ChunkEnded)
        for number, num_examples in steps.items():
            if num_examples:
                yield number, StepsFinished(num_examples)

    def _train(self, chunk: Chunk, lane: int) -> None:
        key = chunk.dataset, chunk.width
        try:
            with self._lock:
                self._running[key] += 1
                engine = self._engine(chunk.dataset, chunk.width, lane)
            for event in self._events(engine, chunk):
                self._outbox.put((chunk.number, event))
        except OutOfDeviceMemory:
            self._outbox.put((chunk.number, ChunkTooWide()))
        except Exception as error:  # it ends the study, where it is told
            self._outbox.put((chunk.number, NodeFailed(error)))
        finally:
            with self._lock:
                self._running[key] -= 1
            self._free.append(lane)
            self._outbox.put((chunk.number, ChunkEnded()))

    def _engine(self, dataset: str, width: int | None, lane: int) -> Engine:
        """Lanes of one device share compiled programs; those that nothing runs are dropped."""
        if (dataset, width) not in self._engines:
            for key in [key for key in self._engines if not self._running[key]]:
                del self._engines[key]
            data = self._find_dataset(dataset)
            programs = make_run_programs(data, self._config)
            lanes = default_lanes(width)[: self._num_lanes]
            keep = self._runtime.keep_models
            by_lane = {
                each: Engine(data, programs, self._config, [each], keep_models=keep)
                for each in lanes
            }
            self._engines[dataset, width] = [by_lane[each] for each in lanes]
        return self._engines[dataset, width][lane]

    def _events(self, engine: Engine, chunk: Chunk) -> Iterator[NodeEvent]:
        """What training yields, made small: scores for validation logits, fewer states."""
        if chunk.begun is not None:
            check_state(chunk.begun, engine.state_shapes(chunk.runs[0]))
        begun = () if chunk.begun is None else (chunk.begun,)
        kept = time.monotonic()
        for event in engine.train(chunk.runs, begun, self._stop):
            match event:
                case EpochFinished():
                    yield self._scored(event, chunk.dataset)
                case ChunkState():
                    late = time.monotonic() >= kept + self._keep_seconds
                    if self._stop.is_set() or (late and chunk.number not in self._uncollected):
                        kept = time.monotonic()
                        self._uncollected.add(chunk.number)
                        yield event
                case RunsFailed(error=error):
                    yield RunsFailedThere(type(error).__name__, str(error))
                case _:
                    yield event

    def _scored(self, event: EpochFinished, dataset: str) -> TrainingEvent:
        data, run = self._find_dataset(dataset), event.run
        scores = epoch_scores(
            event.train_loss,
            event.validation_logits,
            data.labels[run.validation_indices],
            count_classes(data.labels[run.train_indices], data.num_classes),
        )
        return EpochScored(run, event.epoch, scores)
