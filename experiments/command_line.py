"""What the scripts share: flags into dataclasses; every mistake is one line and exit code 2."""

from __future__ import annotations

import contextlib
import io
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import tyro

from cwjax.config import ConfigError

Flags = TypeVar("Flags")


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
    """The message inside the box that tyro draws, without the frame and the help below it."""
    lines = [line.strip("│ ") for line in boxed.splitlines()[1:]]
    message = []
    for line in lines:
        if re.match(r"^[─╰╯]+", line):
            break
        message.append(line)
    return re.sub(r"^Error parsing [a-z._]+: ", "", " ".join(message)) + " (--help lists the flags)"


def fail(message: str) -> NoReturn:
    """Ends the program with one line on standard error and exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def run_main(main: Callable[[], Any]) -> NoReturn:
    """Runs a script; what the user can mend is one line, never a traceback."""
    warnings.showwarning = _show_warning
    try:
        raise SystemExit(main())
    except ConfigError as error:
        fail(str(error))
    except KeyboardInterrupt:
        print("interrupted: the same command continues where it stopped", file=sys.stderr)
        raise SystemExit(130) from None
    except OSError as error:  # a full disk, a directory that became read-only
        fail(f"{error.filename or 'the results'}: {error.strerror or error}")


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"warning: {message}", file=sys.stderr)
