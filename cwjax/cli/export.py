"""Writes a trained model to a directory of its own, for cwjax.load_model and other frameworks.

cwjax compare --keep-models --out results/digits
cwjax export results/digits --arm balanced --seed 3 --out model
cwjax export results/digits --best-on-validation --out model

The study must have been trained with --keep-models. The directory holds parameters, class names,
preprocessing and the temperature of its probabilities, and a README that says how to use them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from cwjax.cli import command_line
from cwjax.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Which model, and where to."""

    directory: tyro.conf.Positional[Path]
    """Directory of a study that was trained with --keep-models."""
    arm: str | None = None
    """Its arm, as the report names it."""
    seed: int | None = None
    """Its seed."""
    best_on_validation: bool = False
    """Take the run with the best primary metric on its validation examples, of --arm and --seed
    where they are given."""
    cell: str | None = None
    """In a study of several cells the cell, as the directories in runs/ are named."""
    out: Path | None = None
    """Directory to be written, a new one."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code.

    Args:
        arguments: what follows its name [default: the process's].
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    flags = command_line.parse(Flags, __doc__, "export", arguments)
    if flags.out is None:
        raise ConfigError("no --out: give the directory that the model goes to")

    from cwjax.report import words
    from cwjax.store.directory import StudyDirectory
    from cwjax.study.export import chosen_run, export

    directory = StudyDirectory(flags.directory)
    key = chosen_run(
        directory,
        cell=flags.cell,
        arm=flags.arm,
        seed=flags.seed,
        best_on_validation=flags.best_on_validation,
    )
    print(words.exported_sentence(export(directory, key, flags.out), flags.out))
    return 0
