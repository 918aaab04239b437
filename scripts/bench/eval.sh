#!/usr/bin/env bash
# Items a second of scoring a suite's probes with SmolLM2-135M, against a transformers loop (scripts/bench/eval.py).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
preset=${RESURFACE_PRESET:-cpu}
bash scripts/setup.sh
bash scripts/bench/peer.sh
bash scripts/fetch_model.sh smollm2-135m
bash scripts/build.sh "$preset" bench_eval
"${RESURFACE_PEER_PYTHON:-.venv-peer/bin/python}" scripts/bench/eval.py --binary "build/$preset/bench_eval" "$@"
