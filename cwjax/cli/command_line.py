"""What the commands share: flags into dataclasses; every mistake is one line and exit code 2."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from types import FrameType
from typing import NoReturn, TypeVar

from cwjax.cli.help import flags_of, help_text
from cwjax.errors import ConfigError, suggestion

Flags = TypeVar("Flags")
Event = TypeVar("Event")
Handler = Callable[[int, FrameType | None], None]

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal asks the command to end; no error, so nothing but `run_main` catches it.

    Args:
        number: the signal.
        saved: whether there was work, which is saved now.
    """

    def __init__(self, number: int, *, saved: bool = False) -> None:
        super().__init__(number)
        self.number = number
        self.saved = saved


def parse(flags: type[Flags], about: str | None, name: str, arguments: Sequence[str]) -> Flags:
    """Reads a command line into a dataclass of flags; a mistake or `--help` ends the program.

    Args:
        flags: the dataclass.
        about: the command's docstring, for `--help`.
        name: of the command.
        arguments: what follows it.
    """
    if {"-h", "--help"} & set(arguments):
        print(help_text(flags, about or "", name))
        raise SystemExit(0)
    _check_names(flags, arguments)
    import tyro  # a tenth of a second: --help does without

    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            config = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)
            return tyro.cli(flags, args=list(arguments), config=config)
    except SystemExit:
        raise ConfigError(_one_line(messages.getvalue())) from None


def given_flags(arguments: Sequence[str]) -> set[str]:
    """The flags that a command line has, e.g. `--num-seeds`."""
    words = (argument.partition("=")[0] for argument in arguments)
    return {word.replace("_", "-") for word in words if word.startswith("--")}


def _check_names(flags: type, arguments: Sequence[str]) -> None:
    known = [flag.name for flag in flags_of(flags)]
    for given in sorted(given_flags(arguments) - set(known)):
        raise ConfigError(f"no flag {given}{suggestion(given, known)} (--help lists the flags)")


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


def run_main(main: Callable[[], int]) -> NoReturn:
    """Runs a command; what the user can fix is one line, never a traceback."""
    _open_standard_streams()
    warnings.showwarning = _show_warning
    try:
        _check_environment()
        with _handled(_interrupting()):
            code = main()
            for stream in (sys.stdout, sys.stderr):  # here, where a broken pipe is caught
                stream.flush()
            raise SystemExit(code)
    except ConfigError as error:
        _say_error(f"error: {error}")
        raise SystemExit(2) from None
    except Interrupted as interrupted:
        saved = ": saved; the same command continues where it stopped" * interrupted.saved
        _say_error(f"interrupted{saved}")
        raise SystemExit(128 + interrupted.number) from None
    except BrokenPipeError:  # who reads the output has ended, as `head` does
        _discard_output()
        raise SystemExit(128 + signal.SIGPIPE) from None
    except OSError as error:  # a full disk, a directory that became read-only
        reason = f"{error.filename or 'the results'}: {error.strerror or error}"
        _say_error(f"error: {reason}")
        raise SystemExit(2) from None


def _check_environment() -> None:
    """Checks what NumPy reads while it is imported, and ends with a traceback if it is wrong."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "0")
    try:
        int(epoch)
    except ValueError:
        raise ConfigError(
            f"SOURCE_DATE_EPOCH is {epoch!r}, not a whole number of seconds: set it right or unset "
            "it"
        ) from None


def _open_standard_streams() -> None:
    """Closed streams lead nowhere, and characters that a terminal lacks are spelled out."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            file = os.open(os.devnull, os.O_RDWR)  # the lowest free number: the one that is closed
            setattr(sys, name, open(file, "w" if descriptor else "r"))  # noqa: SIM115
    codecs.register_error("cwjax_plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="cwjax_plain")


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    from cwjax.report.terminal import printable

    return printable(error.object[error.start : error.end], "ascii"), error.end


def _say_error(text: str) -> None:
    """Prints one line to standard error; nothing in it is hidden."""
    if not text.isprintable():
        from cwjax.report.words import one_line

        text = one_line(text)
    print(text, file=sys.stderr)


def _discard_output() -> None:
    """What is still to be flushed goes nowhere; Python would complain at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a stream without a file
            os.dup2(nowhere, stream.fileno())


@contextlib.contextmanager
def _handled(handler: Handler) -> Iterator[None]:
    ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
    # Under nohup a hangup is not to be heard.
    before = {number: signal.signal(number, handler) for number in set(STOPPING) - ignored}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _interrupting() -> Handler:
    """A handler that raises at the first signal; a further SIGINT ends the process at once."""
    received: list[int] = []

    def interrupt(number: int, _: FrameType | None) -> None:
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
        events: of a study; closing them saves what is being trained.
    """
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            os._exit(128 + number)
        received.append(number)

    def until_signal() -> Iterator[Event]:
        for event in events:
            if received:
                raise Interrupted(received[0], saved=True)
            yield event

    with _handled(note), contextlib.closing(events):
        yield until_signal()


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: str | None = None,
) -> None:
    """In the place of `warnings.showwarning`: the message alone."""
    _say_error(f"warning: {message}")
