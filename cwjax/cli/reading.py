"""A progress bar for data that take long to read; what is cached is read at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress


@contextmanager
def reading_bar(*, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Gives what `ReadOptions.progress` takes; nothing is drawn before it is called.

    Args:
        quiet: draw nothing at all.
    """
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("reading images", total=None, visible=False)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=True)

        yield show
