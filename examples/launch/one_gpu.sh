#!/usr/bin/env bash
# One process on one device:  examples/launch/one_gpu.sh fairseq-hydra-train …   (or fairseq-train …)
# DEVICE=cpu runs it without a GPU.
set -euo pipefail
exec sparqle launch -n 1 --device "${DEVICE:-gpu}" "$@"
