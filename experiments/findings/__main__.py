"""The studies behind docs/findings.md.

python -m experiments.findings train NAME …   trains studies, or goes on with them; keeps the scores
python -m experiments.findings page           writes docs/findings.md from what is kept
python -m experiments.findings list           prints every study with its commands

Studies are trained in results/findings; whatever ends one, the same command goes on with it.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from cwjax.cli import command_line
from cwjax.cli.main import call
from cwjax.errors import ConfigError
from experiments.findings.page import KEPT, ROOT, render
from experiments.findings.studies import STUDIES

PAGE = ROOT.parents[1] / "docs" / "findings.md"
RESULTS = Path("results") / "findings"


@dataclass(frozen=True)
class Flags:
    """What is done."""

    action: tyro.conf.Positional[Literal["train", "page", "list"]]
    """Train studies, write the page, or print the studies."""
    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Of studies to train."""

    def __post_init__(self) -> None:
        if (self.action == "train") != bool(self.names):
            raise ConfigError("names of studies are needed by train, and by train alone")
        for name in self.names:
            if name not in STUDIES:
                raise ConfigError(f"{name!r} is no study: choose among {', '.join(STUDIES)}")


def main() -> int:
    """The script; returns its exit code."""
    flags = command_line.parse(Flags, __doc__, "findings", sys.argv[1:])
    if flags.action == "list":
        for name, commands in STUDIES.items():
            print(f"{name}:", *(f"    cwjax {command}" for command in commands), sep="\n")
    elif flags.action == "page":
        PAGE.write_text(render(), "utf-8")
    for name in flags.names:
        for line in STUDIES[name]:
            command, *arguments = shlex.split(line)
            code = call(command, arguments)
            if code != 0:
                return code
        keep(RESULTS / name, ROOT / name)
    return 0


def keep(results: Path, kept: Path) -> None:
    """Copies what the page needs of a finished study, and its report without the figures."""
    kept.mkdir(exist_ok=True)
    for file in KEPT:
        (kept / file).unlink(missing_ok=True)
        if (results / file).exists():
            shutil.copyfile(results / file, kept / file)
    report = (results / "report.md").read_text("utf-8").splitlines(keepends=True)
    text = "".join(line for line in report if not line.startswith("!["))
    (kept / "report.md").write_text(text, "utf-8")


if __name__ == "__main__":
    command_line.run_main(main)
