#!/usr/bin/env bash
# One process for each GPU of this machine, under torchrun:  examples/launch/one_machine.sh fairseq-hydra-train …
# PROCESSES is their number (8), DEVICE=cpu runs them without GPUs, over gloo.
set -euo pipefail
exec torchrun --standalone --nproc-per-node "${PROCESSES:-8}" -m sparqle_fairseq.cli.main \
    launch --device "${DEVICE:-gpu}" "$@"
