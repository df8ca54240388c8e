#!/usr/bin/env bash
# Trains the router on one machine with GPUs. Run where verl, its engine and xrouter are installed:
#
#   pip install 'xrouter[verl]' 'verl[sglang]'
#   CONFIG=router.toml OUT=runs/router deploy/verl/single_node.sh
#
# CONFIG   the TOML file (docs/router-training-verl.md); its [verl] nodes must be 1
# OUT      the run's folder; where it holds checkpoints, the run goes on from the last one
# DRY_RUN  1 = compose and check the configuration, start nothing
# Keys of live models are read from the environment, as in serving.
set -euo pipefail

: "${CONFIG:?set CONFIG to the TOML file}"
: "${OUT:?set OUT to the folder of the run}"

options=(--backend verl --out "$OUT")
if [[ -d "$OUT/checkpoints" ]]; then options+=(--resume); fi
if [[ "${DRY_RUN:-0}" == 1 ]]; then options+=(--dry-run); fi

# A Ray of an earlier run on this machine would be joined otherwise.
unset RAY_ADDRESS

exec xrouter router-train "$CONFIG" "${options[@]}"
