#!/usr/bin/env bash
# Seconds of one ROME edit on SmolLM2-135M, with the causal cache and as an uncached reference of the same
# mathematics, in one run, alternating; the deltas must agree to 1e-5. Usage: edit.sh [MODEL_DIR] [ROUNDS] [LAYER]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
preset=${RESURFACE_PRESET:-cpu}
bash scripts/build.sh "$preset" bench_edit
exec "build/$preset/bench_edit" "${1:-models/smollm2-135m}" "${2:-3}" "${3:--1}"
