"""A command in this process, as a user calls it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable

import pytest
from calls import Call, Ended

from cwjax.cli import command_line


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls a command's `main` with arguments; its exit code, standard output and error."""

    def call(main: Callable[[], int], *arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["cwjax", *map(str, arguments)])
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # commands replace it
        with pytest.raises(SystemExit) as end:
            command_line.run_main(main)
        printed = capsys.readouterr()
        return Ended(end.value.code, printed.out, printed.err)

    return call
