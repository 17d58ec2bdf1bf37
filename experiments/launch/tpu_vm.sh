#!/usr/bin/env bash
# A sweep on every worker of a TPU pod slice; JAX finds the workers by itself.
#
#   experiments/launch/tpu_vm.sh NAME ZONE --spec sweep.toml --out gs-mounted/sweep
#
# DIRECTORY names the checkout on the workers [default: ~/cwjax].
set -euo pipefail

name=$1 zone=$2
shift 2
flags=
[ $# -eq 0 ] || printf -v flags '%q ' "$@"
gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all \
    --command="cd ${DIRECTORY:-\$HOME/cwjax} && exec python3 -m experiments.sweep --distributed $flags"
