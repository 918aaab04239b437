#!/usr/bin/env bash
# Wall time of 12 LoRA attack runs on the quickstart's model: one after the other, and as one stack;
# in one run, alternating; their results must agree. Usage: sweep.sh [ROUNDS] [MODEL_DIR]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
preset=${RESURFACE_PRESET:-cpu}
bash scripts/build.sh "$preset" bench_sweep
exec "build/$preset/bench_sweep" "${1:-3}" "${@:2}"
