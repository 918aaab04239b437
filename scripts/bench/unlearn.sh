#!/usr/bin/env bash
# Seconds of a step and peak memory of NPO with the reference's log-probs kept against a second model in memory, and of
# RMU that stops at its block against whole passes of two models; losses and gradients must agree.
# Usage: unlearn.sh [MODEL_DIR] [ROUNDS] [STEPS] [BATCH]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
preset=${RESURFACE_PRESET:-cpu}
bash scripts/build.sh "$preset" bench_unlearn
model=${1:-models/smollm2-135m}
shift || true
exec "build/$preset/bench_unlearn" "$model" "$@"
