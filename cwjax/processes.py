"""Processes beside this one, which start anew, leave Ctrl-C to their parent and end with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def new_pool(num_processes: int) -> ProcessPoolExecutor:
    """Processes that start when they are first needed, each for one thread of computation."""
    context = multiprocessing.get_context("spawn")  # JAX has threads, which a fork would lose
    return ProcessPoolExecutor(num_processes, mp_context=context, initializer=_prepare)


def submit(
    pool: ProcessPoolExecutor,
    function: Callable[Arguments, Result],
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> Future[Result]:
    """Begins to call a function in a process of the pool.

    Raises:
        BrokenProcessPool: a process was killed before.
    """
    with _hidden_main():
        return pool.submit(function, *args, **kwargs)


@contextmanager
def _hidden_main() -> Iterator[None]:
    """Processes that start meanwhile do not run the user's script again.

    They need nothing of it: what it defines travels within what they are sent.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _prepare() -> None:
    """The start of a process: it ignores Ctrl-C, which its parent answers, and ends with that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(dict.fromkeys(_THREADS, "1"))  # for libraries that are loaded later
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
