"""Trains several arms on the same seeds and says which differences are more than luck.

cwjax compare
cwjax compare --arms uniform balanced logit_adjusted:tau=0.5,1 --num-seeds 12
cwjax compare --dataset mnist --imbalance none --protocol notebook

The first trains uniform and balanced class weights on long-tailed digits over ten seeds, in about
a minute on two CPU cores. The same command with the same --out continues where it stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from cwjax.cli import command_line
from cwjax.cli.study import StudyFlags, train
from cwjax.config import DataConfig


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Flags of `compare`."""

    data: DataConfig = field(default_factory=DataConfig)
    study: StudyFlags = field(default_factory=StudyFlags)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code.

    Args:
        arguments: what follows its name [default: the process's].
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    flags = command_line.parse(Flags, __doc__, "compare", arguments)
    return train([flags.data], flags.study, arguments)
