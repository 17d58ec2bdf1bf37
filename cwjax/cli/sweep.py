"""Compares arms over many data sets and imbalances, and judges all of it as one family.

cwjax sweep
cwjax sweep --dataset mnist fashion_mnist --imbalance-factor 10 100 --dry-run
cwjax sweep --dataset folder:photos folder:scans --image-size 32 --imbalance none
cwjax sweep --spec sweep.toml --num-seeds 12

Whatever ends it, the same command continues where it stopped. A TOML file holds flags by their
names without the dashes, e.g. num_seeds = 12; what is given on the command line wins.
"""

from __future__ import annotations

import sys
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cwjax.cli import command_line
from cwjax.cli.help import flags_of
from cwjax.cli.study import StudyFlags, train
from cwjax.config import DataConfig, Profile, RuntimeConfig, SourceConfig, TestSplit
from cwjax.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Axes:
    """Which data the cells have: every data set with every profile and factor."""

    dataset: tuple[str, ...] = ("mnist5k",)
    """Data sets, each by its source and, for some, its place:"""
    imbalance: tuple[Profile, ...] = ("long_tailed",)
    """Profiles that the training split is subsampled to."""
    imbalance_factor: tuple[float, ...] = (10.0, 50.0, 100.0)
    """Factors of every profile but none: examples of the largest class per example of the
    smallest."""
    permute_classes: bool = False
    """Let each seed choose which class is head and which is tail."""
    test_split: TestSplit = "fixed"
    """fixed: each source's own test split or, where it has none, a stratified fifth that is always
    the same; per-seed: each seed draws its own fifth of all examples."""
    source: SourceConfig = field(default_factory=SourceConfig)

    def __post_init__(self) -> None:
        for name in ("dataset", "imbalance", "imbalance_factor"):
            values = getattr(self, name)
            flag = "--" + name.replace("_", "-")
            if not values:
                raise ConfigError(f"{flag} is empty: give at least one value")
            repeated = [str(value) for value, count in Counter(values).items() if count > 1]
            if repeated:
                raise ConfigError(f"{flag} repeats {', '.join(repeated)}: give each value once")

    def cells(self) -> list[DataConfig]:
        """The data of every cell; without an imbalance a data set has one cell.

        Raises:
            ConfigError: a setting that cannot be used.
        """
        from cwjax.data.sources import settings_by_source

        sources = settings_by_source(self.dataset, self.source)
        return [
            DataConfig(
                dataset=dataset,
                imbalance=imbalance,
                imbalance_factor=factor,
                permute_classes=self.permute_classes and imbalance != "none",
                test_split=self.test_split,
                source=sources[dataset],
            )
            for dataset in self.dataset
            for imbalance in self.imbalance
            for factor in self.imbalance_factor[: 1 if imbalance == "none" else None]
        ]


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Flags as a file."""

    data: Axes = field(default_factory=Axes)
    study: StudyFlags = field(default_factory=StudyFlags)
    spec: Path | None = None
    """TOML file of flags."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code.

    Args:
        arguments: what follows its name [default: the process's].
    """
    arguments = with_spec(sys.argv[1:] if arguments is None else arguments)
    flags = command_line.parse(Flags, __doc__, "sweep", arguments)
    return train(flags.data.cells(), flags.study, arguments)


def with_spec(arguments: Sequence[str]) -> list[str]:
    """The command line with the flags of its `--spec` file in front, so that its own flags win.

    Raises:
        ConfigError: the file cannot be read, or is no flat TOML table of flags.
    """
    words = [word for argument in arguments for word in argument.split("=", maxsplit=1)]
    if "--spec" not in words[:-1]:
        return list(arguments)
    path = Path(words[words.index("--spec") + 1])
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"--spec {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"--spec {path} is not TOML: {error}") from None
    if "--num-seeds" in command_line.given_flags(arguments):
        table.pop("seeds", None)
    return [*(word for item in table.items() for word in _flag(path, *item)), *arguments]


def _flag(path: Path, name: str, value: object) -> list[str]:
    """The words of the command line that say the same as one line of the file."""
    if isinstance(value, dict):
        raise ConfigError(f"--spec {path}: [{name}] is a table; give its flags without one")
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        known = {each.name for each in flags_of(Flags)} & {f"--{flag}", f"--no-{flag}"}
        if known and value == getattr(RuntimeConfig(), flag.replace("-", "_"), False):
            return []  # says what holds anyway
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}", *map(str, value if isinstance(value, list) else [value])]
