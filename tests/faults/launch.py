"""`cwjax compare` with faults in it: python -m tests.faults.launch OPTIONS [FLAG ...].

OPTIONS is JSON. Its `faults` are lists of [fault, pattern, nth]: what happens at the nth atomic
write of a file whose path matches the pattern. Faults are in the calls that such a write makes of
the system, so the code under test is the one that users run.
"""

from __future__ import annotations

import errno
import fnmatch
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from cwjax.cli import command_line

BEFORE_FSYNC = ("tear", "full")
SIGNALS = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM, "interrupt": signal.SIGINT}
"""These come between fsync and rename."""


def install(faults: list[tuple[str, str, int]]) -> None:
    """Puts the faults into `os.fsync` and `os.replace`."""
    fsync, replace = os.fsync, os.replace
    seen: Counter[int] = Counter()

    def due(path: str, *, before_fsync: bool) -> list[str]:
        names = []
        for place, (name, pattern, nth) in enumerate(faults):
            if (name in BEFORE_FSYNC) == before_fsync and fnmatch.fnmatch(path, pattern):
                seen[place] += 1
                if seen[place] == nth:
                    names.append(name)
        return names

    def faulty_fsync(descriptor: int) -> None:
        for name in due(os.readlink(f"/proc/self/fd/{descriptor}"), before_fsync=True):
            if name == "full":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    def faulty_replace(source: Path, target: Path) -> None:
        for name in due(str(target), before_fsync=False):
            os.kill(os.getpid(), SIGNALS[name])
        replace(source, target)

    os.fsync, os.replace = faulty_fsync, faulty_replace


def jumping_clock() -> Callable[[], float]:
    """A wall clock that is set a day forth and back at every look."""
    real, looks = time.time, iter(range(10**9))
    return lambda: real() + (-1) ** next(looks) * 86_400


def main() -> int:
    """Runs the script with its faults."""
    options = json.loads(sys.argv.pop(1))
    install(options.get("faults", []))
    if options.get("clock_jumps"):
        time.time = jumping_clock()
    from cwjax.cli import compare
    from cwjax.models import cnn
    from cwjax.training import chunk

    chunk.CHECKPOINT_SECONDS = options.get("checkpoint_seconds", chunk.CHECKPOINT_SECONDS)
    cnn.NUM_FEATURES = options.get("num_features", cnn.NUM_FEATURES)
    return compare.main()


if __name__ == "__main__":
    command_line.run_main(main)
