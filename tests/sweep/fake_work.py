"""A worker that trains nothing: it draws runs, and fails or dies where it is told to.

What goes wrong is read from `faults.json` beside the sweep's directory: "cell arm seed" -> `fail`,
`die` (killed by the system), `crash` (an exit code of 1), `refuse`, `wait` (to be stopped), or
`unsaved` and `lost` (the same, but then the disk is full, or it crashes), or `crash between runs`,
before the run starts. "start" -> anything: it refuses to start.
"""

from __future__ import annotations

import json
import os
import signal
from multiprocessing.connection import Connection

from cwjax.cell import run_keys
from cwjax.results.store import open_store
from cwjax.sweep import messages
from cwjax.sweep.directory import cell_directory
from cwjax.sweep.worker import STOP, Setup
from drawn_runs import make_dataset, make_record, write_start


def work(setup: Setup, connection: Connection) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.raise_signal(number)  # not heard: the supervisor asks
    if "start" in _faults(setup):
        connection.send(messages.Refused("no such device"))
        return
    holds = setup.hosts is None or setup.hosts.process_id == 0
    connection.send(messages.Joined(0, 1, holds))  # among others too it gets all runs
    job = connection.recv()
    if job == STOP:
        connection.send(messages.Stopped())
        return
    connection.send(messages.Laid(1, 0, 1))
    place = 0
    for cell, config in job.cells.items():
        with open_store(cell_directory(setup.directory, cell)) as store:
            write_start(store, config, make_dataset())
            for arm, seed in run_keys(config):
                place += 1
                mine = place % job.share[1] == job.share[0]
                key = (cell, arm, seed)
                if key in job.skip or store.has_run(arm, seed) or not mine:
                    continue
                if _faults(setup).get(" ".join(map(str, key))) == "crash between runs":
                    os._exit(1)
                connection.send(messages.Started((key,)))
                if _goes_wrong(key, setup, connection):
                    continue
                store.write_run(make_record(make_dataset(), arm, seed, 0.5 * (arm != "uniform")))
                connection.send(messages.Stored(key, 0.5))
                if connection.poll():
                    connection.send(messages.Stopped())
                    return
    connection.send(messages.Done(job.share[1] == 1))


def _faults(setup: Setup) -> dict[str, str]:
    path = setup.directory.parent / "faults.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _goes_wrong(key: messages.Key, setup: Setup, connection: Connection) -> bool:
    match _faults(setup).get(" ".join(map(str, key))):
        case None:
            return False
        case "fail":
            connection.send(messages.Failed((key,), "no batches today"))
            return True
        case "refuse":
            connection.send(messages.Refused("runs: No space left on device"))
            os._exit(0)
        case "wait":
            connection.poll(None)
            return False
        case "unsaved":
            connection.poll(None)
            connection.send(messages.Refused("runs: No space left on device"))
            os._exit(0)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "lost":
            connection.poll(None)
            os._exit(1)
        case "crash":
            os._exit(1)
    raise AssertionError
