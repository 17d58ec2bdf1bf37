"""The scripts of experiments/launch, with fakes of what they start."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "experiments" / "launch"
FLAGS = ["--spec", "my sweep.toml"]


def start(tmp_path: Path, script: str, *arguments: str, **fakes: str) -> subprocess.Popen[str]:
    """The script, where commands of these names are shell scripts with these lines."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, lines in fakes.items():
        (programs / name).write_text(f"#!/usr/bin/env bash\n{lines}\n")
        (programs / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "7",
        "SLURM_GPUS_ON_NODE": "3",
    }
    return subprocess.Popen(
        ["bash", str(LAUNCH / script), *arguments],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )


SHOW = 'line=$(printf "<%s>" "$@"); echo "$line"'  # in one write: others write too
AFTER_OPTIONS = 'while [[ $1 == --* ]]; do shift; done; "$@"'


@pytest.mark.parametrize("code", [0, 1, 143])
def test_slurm_gives_a_process_all_gpus_and_queues_a_preempted_job_again(
    tmp_path: Path, code: int
) -> None:
    process = start(
        tmp_path,
        "slurm.sh",
        *FLAGS,
        srun=AFTER_OPTIONS,
        python=f"echo $JAX_LOCAL_DEVICE_IDS; {SHOW}; exit {code}",
        scontrol=SHOW,
    )
    devices, arguments, *queued = process.communicate()[0].splitlines()
    assert process.returncode == code
    assert devices == "0,1,2"
    assert arguments == "<-m><experiments.sweep><--distributed><--spec><my sweep.toml>"
    assert queued == (["<requeue><7>"] if code == 143 else [])


@pytest.mark.parametrize("flags", [FLAGS, []])
def test_a_process_is_started_on_every_machine(tmp_path: Path, flags: list[str]) -> None:
    process = start(
        tmp_path, "ssh.sh", "a b", *flags, ssh='shift 2; exec bash -c "$1"', python=SHOW
    )
    printed = process.communicate()[0]
    common = "<-m><experiments.sweep><--distributed><--coordinator><a:8476><--num-processes><2>"
    given = "".join(f"<{flag}>" for flag in flags)
    assert sorted(printed.splitlines()) == [
        f"{common}<--process-id><{index}>{given}" for index in (0, 1)
    ]
    assert process.returncode == 0


def test_a_signal_ends_all_machines_and_is_waited_for(tmp_path: Path) -> None:
    process = start(
        tmp_path,
        "ssh.sh",
        "a b",
        ssh='shift 2; exec bash -c "$1"',
        python=r"""
            trap 'sleep 0.3; touch saved-$9; exit 143' TERM
            touch ready-$9
            while :; do sleep 0.05; done""",
    )
    deadline = time.monotonic() + 20
    while len(list(tmp_path.glob("ready-*"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 1
    assert len(list(tmp_path.glob("saved-*"))) == 2


def test_tpu_workers_get_the_flags(tmp_path: Path) -> None:
    process = start(tmp_path, "tpu_vm.sh", "pod", "zone", *FLAGS, gcloud=SHOW)
    printed = process.communicate()[0]
    assert r"sweep --distributed --spec my\ sweep.toml >" in printed
    assert "<pod><--zone=zone><--worker=all>" in printed
