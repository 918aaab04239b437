#!/usr/bin/env bash
# Ratio to transformers of a full fine-tuning step on SmolLM2-135M (scripts/bench/step.py).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bash scripts/setup.sh
bash scripts/bench/peer.sh
bash scripts/fetch_model.sh smollm2-135m
bash scripts/build.sh cpu bench_step
"${RESURFACE_PEER_PYTHON:-.venv-peer/bin/python}" scripts/bench/step.py "$@"
