"""The script of experiments/launch, with stand-ins for what it starts."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "experiments" / "launch" / "slurm.sh"

SHOW = 'line=$(printf "<%s>" "$@"); echo "$line"'
AFTER_OPTIONS = 'while [[ $1 == --* ]]; do shift; done; "$@"'
RAY = f"{SHOW}; while [[ $1 != -- ]]; do shift; done; shift; " + '"$@"'
SCONTROL = f'if [[ $1 == show ]]; then printf "a%s\\n" 1 2; else {SHOW}; fi'


def start(tmp_path: Path, *arguments: str, cwjax: str) -> subprocess.Popen[str]:
    """The script, where commands are shell scripts of these lines."""
    commands = {"srun": AFTER_OPTIONS, "ray": RAY, "scontrol": SCONTROL, "cwjax": cwjax}
    for name, lines in commands.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{lines}\n")
        (tmp_path / name).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "TMPDIR": str(tmp_path),
        "SLURM_JOB_ID": "70007",
        "SLURM_JOB_NODELIST": "a[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
    }
    return subprocess.Popen(
        ["bash", str(SCRIPT), *arguments],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("code", [0, 1])
def test_the_study_runs_on_the_cluster_of_the_jobs_nodes(tmp_path: Path, code: int) -> None:
    shows = f'{SHOW}; echo "$RAY_AUTH_MODE ${{#RAY_AUTH_TOKEN}}"; exit {code}'
    process = start(tmp_path, "sweep", "--spec", "my sweep.toml", cwjax=shows)
    ray, study, token = process.communicate(timeout=20)[0].splitlines()
    assert token == "token 64"
    assert process.returncode == code
    assert ray.startswith("<symmetric-run><--address><a1:20007><--min-nodes><2>")
    assert study == "<sweep><--spec><my sweep.toml><--cluster><a1:20007>"
    assert not (tmp_path / "cwjax-70007").exists()


def test_before_the_time_is_up_it_saves_and_queues_itself_again(tmp_path: Path) -> None:
    process = start(
        tmp_path,
        "compare",
        cwjax=r"""
            trap 'sleep 0.3; touch saved; exit 143' TERM
            cd "$TMPDIR"; touch ready
            while :; do sleep 0.05; done""",
    )
    deadline = time.monotonic() + 20
    while not (tmp_path / "ready").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    printed = process.communicate(timeout=20)[0].splitlines()
    assert process.returncode == 143
    assert (tmp_path / "saved").exists()
    assert printed[-1] == "<requeue><70007>"
