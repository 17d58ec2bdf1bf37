"""Compares arms over many data sets and imbalances, and judges all of it as one family.

python -m experiments.sweep
python -m experiments.sweep --dataset mnist fashion_mnist --imbalance-factor 10 100 --dry-run
python -m experiments.sweep --spec sweep.toml --num-seeds 12
python -m experiments.sweep --spec sweep.toml --shard 3/8
python -m experiments.sweep --spec sweep.toml --distributed

Whatever ends it, the same command continues where it stopped. A TOML file holds flags by their
names without the dashes, e.g. num_seeds = 12; what is given on the command line wins.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cwjax.config import RuntimeConfig
from cwjax.errors import ConfigError
from cwjax.sweep.config import SweepConfig
from cwjax.sweep.hosts import Hosts
from experiments import command_line


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Flags of `sweep`: the sweep, the machine, and where the results go."""

    sweep: SweepConfig = field(default_factory=SweepConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    spec: Path | None = None
    """TOML file of flags."""
    out: Path | None = None
    """Directory of the results, new or to be continued [default: results/sweep-<settings>]."""
    dry_run: bool = False
    """Say how many runs there are, and how long and how much memory they take here; train none."""
    retry_failed: bool = False
    """Train again what failed before; without it only what was interrupted or killed. With
    --distributed cells that killed a process wait for it too: they would end the sweep of all."""
    shard: str | None = None
    """K/N: train the K-th of N equal shares of the runs, on a machine of its own; `report --merge`
    puts the directories together."""
    distributed: bool = False
    """Share the runs with the other processes that run this command; under SLURM, Open MPI and on
    TPU pods they find each other."""
    coordinator: str | None = None
    """With --distributed elsewhere: HOST:PORT of the first process, the same for all."""
    num_processes: int | None = None
    """With --coordinator: how many processes there are."""
    process_id: int | None = None
    """With --coordinator: which of them this is, from 0."""
    peer_timeout: int = 30
    """With --distributed: seconds after which a process that is silent counts as lost, and the
    others end."""
    quiet: bool = False
    """Print nothing but errors."""

    def __post_init__(self) -> None:
        explicit = (self.coordinator, self.num_processes, self.process_id)
        if explicit != (None, None, None):
            if None in explicit:
                raise ConfigError("give --coordinator, --num-processes and --process-id together")
            if not self.distributed:
                raise ConfigError("--coordinator is for --distributed: give both or neither")
        if self.distributed and self.shard is not None:
            raise ConfigError("--distributed and --shard exclude each other: give one of them")
        if self.peer_timeout < 1:
            raise ConfigError(f"--peer-timeout is {self.peer_timeout}: give at least 1 second")
        self.share()

    def share(self) -> tuple[int, int]:
        """Index (from 0) and number of the shares."""
        if self.shard is None:
            return (0, 1)
        match = re.fullmatch(r"(\d+)/(\d+)", self.shard)
        index, count = map(int, match.groups()) if match else (0, 0)
        if not 1 <= index <= count:
            raise ConfigError(f"--shard is {self.shard!r}: give K/N, from 1/N to N/N")
        return (index - 1, count)

    def hosts(self) -> Hosts | None:
        """Who else takes part."""
        if not self.distributed:
            return None
        return Hosts(self.coordinator, self.num_processes, self.process_id, self.peer_timeout)

    def directory(self) -> Path:
        """Where the results go."""
        if self.out is not None:
            return self.out
        name = self.sweep.directory_name()
        if self.shard is not None:
            name += f"-shard-{self.shard.replace('/', '-of-')}"
        return Path("results") / name


def main() -> int:
    """The script; returns its exit code."""
    arguments = with_spec(sys.argv[1:])
    flags = command_line.parse(Flags, __doc__, arguments)
    from cwjax.results.store import check_directory
    from cwjax.sweep.directory import SWEEP
    from cwjax.sweep.supervisor import WorkerLost, run_sweep
    from experiments import sweep_display

    if flags.dry_run:
        from experiments.estimate import estimate

        estimate(flags.sweep, flags.runtime, flags.share()[1])
        return 0
    check_directory(flags.directory(), SWEEP)
    events = run_sweep(
        flags.sweep,
        flags.directory(),
        flags.runtime,
        retry_failed=flags.retry_failed,
        share=flags.share(),
        hosts=flags.hosts(),
    )
    try:
        with closing(events):  # a signal that interrupts them lets the worker save first
            ended = sweep_display.follow(events, flags.sweep, flags.directory(), flags.quiet)
    except WorkerLost as error:
        print(f"error: {error}; the same command continues where it stopped", file=sys.stderr)
        return 1
    is_share = flags.distributed or flags.shard is not None
    return sweep_display.conclude(ended, flags.directory(), is_share=is_share, quiet=flags.quiet)


def with_spec(arguments: Sequence[str]) -> list[str]:
    """The command line with the flags of its `--spec` file in front, so that its own flags win.

    Raises:
        ConfigError: the file cannot be read, or is no flat TOML table of flags.
    """
    spec = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    spec.add_argument("--spec", type=Path)
    path = spec.parse_known_args(list(arguments))[0].spec
    if path is None:
        return list(arguments)
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"--spec {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"--spec {path} is not TOML: {error}") from None
    if any(argument.startswith("--num-seeds") for argument in arguments):
        table.pop("seeds", None)
    return [*(word for item in table.items() for word in _flag(path, *item)), *arguments]


def _flag(path: Path, name: str, value: Any) -> list[str]:
    """The words of the command line that say the same as one line of the file."""
    if isinstance(value, dict):
        raise ConfigError(f"--spec {path}: [{name}] is a table; give its flags without one")
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        if value == getattr(RuntimeConfig(), name, False):  # says what holds anyway
            return []
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}", *map(str, value if isinstance(value, list) else [value])]


if __name__ == "__main__":
    command_line.run_main(main)
