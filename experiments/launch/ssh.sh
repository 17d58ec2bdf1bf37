#!/usr/bin/env bash
# A sweep on machines that are reached by ssh, one process each; the first is the coordinator.
#
#   experiments/launch/ssh.sh "host1 host2 host3" --spec sweep.toml --out /shared/sweep
#
# DIRECTORY names the checkout on the machines [default: this one], PYTHON their interpreter
# [default: python], PORT the coordinator's [default: 8476]. Ctrl-C saves and ends all of them.
set -uo pipefail

read -ra hosts <<<"$1"
shift
printf -v flags '%q ' "$@"
command="cd ${DIRECTORY:-$PWD} && exec ${PYTHON:-python} -m experiments.sweep --distributed"
command+=" --coordinator ${hosts[0]}:${PORT:-8476} --num-processes ${#hosts[@]}"

pids=()
for index in "${!hosts[@]}"; do
    ssh -tt "${hosts[index]}" "$command --process-id $index $flags" </dev/null &
    pids+=($!)
done
trap 'kill -INT "${pids[@]}"' INT TERM
code=0
for pid in "${pids[@]}"; do
    wait "$pid" || code=1
done
exit "$code"
