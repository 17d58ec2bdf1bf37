"""The installed command `cwjax`, and those below it (`COMMANDS`)."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from cwjax.cli import command_line
from cwjax.errors import ConfigError, suggestion

COMMANDS = ("compare", "sweep", "report", "export", "describe", "weights")
"""Each is a module of this package with a `main`; its docstring is its help."""

_ABOUT = """\
Does class weighting help on this data, by how much, and how sure are we?

Usage: cwjax COMMAND [FLAG ...]

Commands:
{commands}

`cwjax COMMAND --help` lists a command's flags. Start with: cwjax compare"""


def main() -> NoReturn:
    """Runs the command that the command line names."""
    command_line.run_main(_main)


def _main() -> int:
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        abouts = {command: _module(command).__doc__ or "" for command in COMMANDS}
        lines = [f"  {name:9}{about.partition(chr(10))[0]}" for name, about in abouts.items()]
        print(_ABOUT.format(commands="\n".join(lines)))
        return 0
    if name == "--version":
        print(f"cwjax {importlib.metadata.version('cwjax')}")
        return 0
    if name not in COMMANDS:
        raise ConfigError(
            f"no command {name!r}{suggestion(name, COMMANDS)}: choose one of {', '.join(COMMANDS)}"
        )
    return call(name, arguments)


def call(command: str, arguments: Sequence[str]) -> int:
    """One of `COMMANDS` with these arguments; returns its exit code, errors as the command's."""
    code: int = _module(command).main(arguments)
    return code


def _module(command: str) -> ModuleType:
    return importlib.import_module(f"cwjax.cli.{command}")
