"""A worker that trains nothing: it draws runs, and fails or dies where it is told to.

What goes wrong is read from `faults.json` beside the sweep's directory: "cell arm seed" -> `fail`,
`die` (killed by the system), `die once`, `crash` (an exit code of 1) or `refuse`.
"""

from __future__ import annotations

import json
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

from drawn_runs import make_dataset, make_record, write_start

from cwjax.cell import run_keys
from cwjax.results.store import open_store
from cwjax.sweep import messages
from cwjax.sweep.worker import GO, Job


def work(job: Job, connection: Connection) -> None:
    connection.send(messages.Joined(*job.share))
    if connection.recv() != GO:
        return
    connection.send(messages.Laid(1, 0, 1))
    place = 0
    for cell, config in job.cells.items():
        with open_store(job.directories[cell]) as store:
            write_start(store, config, make_dataset())
            for arm, seed in run_keys(config):
                place += 1
                mine = place % job.share[1] == job.share[0]
                if cell in job.skip or store.has_run(arm, seed) or not mine:
                    continue
                key = (cell, arm, seed)
                connection.send(messages.Started((key,)))
                if _goes_wrong(key, job, connection):
                    continue
                store.write_run(make_record(make_dataset(), arm, seed, 0.5 * (arm != "uniform")))
                connection.send(messages.Stored(key, 0.5))
                if connection.poll():
                    connection.send(messages.Stopped())
                    return
    connection.send(messages.Done())


def _goes_wrong(key: messages.Key, job: Job, connection: Connection) -> bool:
    path = Path(next(iter(job.directories.values()))).parents[2] / "faults.json"
    faults = json.loads(path.read_text()) if path.exists() else {}
    name = " ".join(map(str, key))
    match faults.get(name):
        case None:
            return False
        case "fail":
            connection.send(messages.Failed((key,), "no batches today"))
            return True
        case "refuse":
            connection.send(messages.Refused("runs: No space left on device"))
            os._exit(0)
        case "wait":
            while not connection.poll(0.01):
                time.sleep(0.01)
            return False
        case "die once":
            del faults[name]
            path.write_text(json.dumps(faults))
            os.kill(os.getpid(), signal.SIGKILL)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "crash":
            os._exit(1)
    raise AssertionError
