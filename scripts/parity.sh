#!/usr/bin/env bash
# Against transformers and tokenizers: a table of every family and of two real checkpoints, by logits, gradients,
# generation, tokenizer, chat format and saving (real tokenizers of four makers, 40 chat templates); all logits of a real checkpoint; strings through small tokenizers for
# each component. More arguments go to scripts/parity_tokenizer.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
bash scripts/bench/peer.sh
bash scripts/fetch_model.sh smollm2-135m
bash scripts/fetch_model.sh gemma3-270m
bash scripts/build.sh cpu resurface bench_logits test_core
python=${RESURFACE_PEER_PYTHON:-.venv-peer/bin/python}
"$python" scripts/fetch_tokenizers.py models/tokenizers
"$python" scripts/parity_families.py --build build/cpu --tokenizers models/tokenizers models/smollm2-135m models/gemma3-270m
"$python" scripts/parity_logits.py models/smollm2-135m build/cpu/bench_logits
"$python" scripts/parity_tokenizer.py --built --binary build/cpu/resurface "$@"
