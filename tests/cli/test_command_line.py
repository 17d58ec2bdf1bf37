"""How a command ends: signals, closed streams, errors that a user can fix."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Generator

import pytest
from calls import Call

from cwjax.cli import command_line
from cwjax.errors import ConfigError


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_outside_of_training_does_not_claim_that_something_is_saved(
    number: signal.Signals, call: Call
) -> None:
    def main() -> int:
        os.kill(os.getpid(), number)
        return 0

    before = signal.signal(number, signal.SIG_DFL)  # under nohup a hangup would not be heard
    try:
        assert call(main) == (128 + number, "", "interrupted\n")
    finally:
        signal.signal(number, before)


def test_a_signal_in_training_saves_first(call: Call) -> None:
    closed = []

    def events() -> Generator[int, None, None]:
        try:
            yield from range(3)
        finally:
            closed.append(True)

    def main() -> int:
        with command_line.saved_on_signals(events()) as shown:
            for event in shown:
                if event == 1:
                    os.kill(os.getpid(), signal.SIGTERM)
        return 0

    saved = "interrupted: saved; the same command continues where it stopped\n"
    assert call(main) == (128 + signal.SIGTERM, "", saved)
    assert closed == [True]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ConfigError("--x is 1: give 2"), 2, "error: --x is 1: give 2\n"),
        (ConfigError("arm '\x1b[31mred'"), 2, "error: arm '\\x1b[31mred'\n"),
        (
            OSError(errno.ENOSPC, "No space left", "runs/a.npz"),
            2,
            "error: runs/a.npz: No space left\n",
        ),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, ""),
    ],
)
def test_errors_are_one_line(error: Exception, code: int, message: str, call: Call) -> None:
    def main() -> int:
        raise error

    assert call(main) == (code, "", message)


def test_an_error_of_cwjax_itself_is_a_traceback(call: Call) -> None:
    def main() -> int:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        call(main)
