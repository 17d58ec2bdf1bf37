#!/usr/bin/env bash
# A sweep on SLURM: one process a node, on all of its devices.
#
#   sbatch --nodes=4 --gpus-per-node=8 experiments/launch/slurm.sh --spec sweep.toml --out /shared/sweep
#
# Without --gpus-per-node it trains on the CPUs. SLURM sends SIGTERM to the processes two minutes
# before the time is up: what is in flight is saved, and the job queues itself again to go on.
#SBATCH --job-name=cwjax
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
set -uo pipefail

# JAX would give each process the one GPU of its number on the node.
process='if [ -n "${SLURM_GPUS_ON_NODE:-}" ]; then
    JAX_LOCAL_DEVICE_IDS=$(seq -s, 0 $((SLURM_GPUS_ON_NODE - 1)))
    export JAX_LOCAL_DEVICE_IDS
fi
exec python -m experiments.sweep --distributed "$@"'

trap : TERM # a preemption may signal this script too: the processes save, and it waits for them
srun --kill-on-bad-exit=0 --cpu-bind=none bash -c "$process" cwjax "$@"
code=$?
if [ "$code" -eq 143 ]; then # stopped by SIGTERM
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
