"""What the scripts share: flags into dataclasses; every mistake is one line and exit code 2."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NoReturn, TypeVar

import tyro

from cwjax.errors import ConfigError

Flags = TypeVar("Flags")
Event = TypeVar("Event")

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal asks the script to end; no error, so nothing but `run_main` catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def parse(
    flags: type[Flags], description: str | None, arguments: Sequence[str] | None = None
) -> Flags:
    """Reads the command line into a dataclass of flags; a mistake ends the program.

    Args:
        flags: the dataclass.
        description: for --help.
        arguments: instead of the command line's.
    """
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            return tyro.cli(
                flags,
                args=arguments,
                description=description,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
            )
    except SystemExit as stop:
        if stop.code:
            fail(_one_line(messages.getvalue()))
        raise


def _one_line(boxed: str) -> str:
    """The message inside the box that tyro draws, without the frame and the help below it.

    Where the terminal has no box characters, a rule of hyphens stands above the message too.
    """
    lines = [line.strip("│ ") for line in boxed.splitlines()[1:]]
    if re.match("-+$", lines[0]):
        del lines[0]
    message = []
    for line in lines:
        if re.match("[─╰╯]+|-+$", line):
            break
        message.append(line)
    return re.sub(r"^Error parsing [\w.]+: ", "", " ".join(message)) + " (--help lists the flags)"


def fail(message: str) -> NoReturn:
    """Ends the program with one line on standard error and exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def run_main(main: Callable[[], Any]) -> NoReturn:
    """Runs a script; what the user can mend is one line, never a traceback."""
    warnings.showwarning = _show_warning
    try:
        with _handled(_interrupting()):
            raise SystemExit(main())
    except ConfigError as error:
        fail(str(error))
    except Interrupted as interrupted:
        print("interrupted: saved; the same command continues where it stopped", file=sys.stderr)
        raise SystemExit(128 + interrupted.number) from None
    except OSError as error:  # a full disk, a directory that became read-only
        fail(f"{error.filename or 'the results'}: {error.strerror or error}")


@contextlib.contextmanager
def _handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
    # Under nohup a hangup is not to be heard.
    before = {number: signal.signal(number, handler) for number in set(STOPPING) - ignored}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _interrupting() -> Callable[[int, Any], None]:
    """A handler that raises at the first signal; a further SIGINT ends the process at once."""
    received: list[int] = []

    def interrupt(number: int, _: object) -> None:
        if not received:
            received.append(number)
            raise Interrupted(number)
        if number == signal.SIGINT:
            os._exit(128 + number)

    return interrupt


@contextlib.contextmanager
def saved_on_signals(events: Generator[Event, None, None]) -> Iterator[Iterator[Event]]:
    """The same events, up to the next one after a signal; closed, and so saved, on the way out.

    One of `STOPPING` ends them with `Interrupted` at an event, where all is in order. A further
    SIGINT ends the process at once; files are whole then too, since each is written atomically.

    Args:
        events: of an experiment; closing them saves what is being trained.
    """
    received: list[int] = []

    def note(number: int, _: object) -> None:
        if received and number == signal.SIGINT:
            os._exit(128 + number)
        received.append(number)

    def until_signal() -> Iterator[Event]:
        for event in events:
            if received:
                raise Interrupted(received[0])
            yield event

    with _handled(note), contextlib.closing(events):
        yield until_signal()


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"warning: {message}", file=sys.stderr)
