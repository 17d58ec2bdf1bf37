#!/usr/bin/env bash
# A study on all nodes of a SLURM job, which are a Ray cluster meanwhile.
#
#   sbatch --nodes=4 --gpus-per-node=8 experiments/launch/slurm.sh sweep --spec sweep.toml --out sweep
#
# Two minutes before the time is up everything is saved, and the job queues itself again to go on.
# A preempted job SLURM queues again; at most the last minute of each run is trained again then.
#SBATCH --job-name=cwjax
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
set -uo pipefail

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$head:$((20000 + SLURM_JOB_ID % 10000))
process=${TMPDIR:-/tmp}/cwjax-$SLURM_JOB_ID # of the study: it saves when it is told to end, Ray does not
export RAY_USAGE_STATS_ENABLED=0
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n') # nobody else gets in (Ray 2.52 or newer)
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token

# shellcheck disable=SC2016 # expanded by the shell that it starts, on the head node
study='echo $$ >"$1"; shift; exec cwjax "$@"'
srun --kill-on-bad-exit=0 --cpu-bind=none \
    ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" -- \
    bash -c "$study" study "$process" "$@" --cluster "$address" &

trap 'kill -TERM "$(cat "$process")"' TERM
wait $!
code=$?
while kill -0 $! 2>/dev/null; do # the signal has ended `wait`, not the study
    wait $!
    code=$?
done
rm -f "$process"
if [ "$code" -eq 143 ]; then # saved
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
