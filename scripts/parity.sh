#!/usr/bin/env bash
# Against transformers and tokenizers: every family, and the real checkpoint with all its logits; what
# becomes of over 200,000 strings with its tokenizer, and with small ones for each component.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
bash scripts/bench/peer.sh
bash scripts/fetch_model.sh smollm2-135m
bash scripts/build.sh cpu resurface bench_logits test_core
python=${RESURFACE_PEER_PYTHON:-.venv-peer/bin/python}
"$python" scripts/parity_families.py --build build/cpu
"$python" scripts/parity_logits.py models/smollm2-135m build/cpu/bench_logits
"$python" scripts/parity_tokenizer.py models/smollm2-135m --built --binary build/cpu/resurface "$@"
