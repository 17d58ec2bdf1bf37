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
flags=
[ $# -eq 0 ] || printf -v flags '%q ' "$@"
printf -v directory '%q' "${DIRECTORY:-$PWD}"
command="cd $directory && exec ${PYTHON:-python} -m experiments.sweep --distributed"
command+=" --coordinator ${hosts[0]}:${PORT:-8476} --num-processes ${#hosts[@]}"

pids=()
# The end of an ssh hangs up its machine's process, which saves.
trap 'kill -TERM "${pids[@]}" 2>/dev/null' INT TERM HUP
for index in "${!hosts[@]}"; do
    ssh -tt "${hosts[index]}" "$command --process-id $index $flags" </dev/null &
    pids+=($!)
done
code=0
for pid in "${pids[@]}"; do
    while kill -0 "$pid" 2>/dev/null; do # a signal ends a wait early
        wait "$pid"
    done
    wait "$pid" || code=1
done
exit "$code"
