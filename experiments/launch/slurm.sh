#!/usr/bin/env bash
# A sweep on SLURM: one process a node, on all of its devices.
#
#   sbatch --nodes=4 experiments/launch/slurm.sh --spec sweep.toml --out /shared/sweep
#
# SLURM sends SIGTERM two minutes before the time is up: what is in flight is saved, and the job
# queues itself again to go on.
#SBATCH --job-name=cwjax
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
set -uo pipefail

srun --kill-on-bad-exit=0 python -m experiments.sweep --distributed "$@" &
steps=$!
trap 'kill -TERM "$steps"; preempted=1' TERM
wait "$steps"
code=$?
if [ -n "${preempted:-}" ]; then
    wait "$steps"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
