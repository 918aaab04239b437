#!/usr/bin/env bash
# Seconds of a covariance of five layers in one sweep against one run a layer, and of MEMIT's solve with 100 edits at
# d_ff 4864 against the primal one, in one run. Usage: solves.sh [MODEL_DIR] [ROUNDS] [TOKENS] [D_FF] [EDITS]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
preset=${RESURFACE_PRESET:-cpu}
bash scripts/build.sh "$preset" bench_solves
model=${1:-models/smollm2-135m}
shift || true
exec "build/$preset/bench_solves" "$model" "$@"
