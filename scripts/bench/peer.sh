#!/usr/bin/env bash
# The Python environment of the peers that the benchmarks and the goldens compare with: torch with all its
# CUDA libraries (its Python half does not load without them) and transformers. Some minutes the first time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
if [[ -n ${RESURFACE_PEER_PYTHON:-} ]]; then exit 0; fi
if [[ ! -x .venv-peer/bin/python ]]; then python3 -m venv .venv-peer; fi
if ! .venv-peer/bin/python -c 'import torch, transformers, peft' 2>/dev/null; then
  echo "peer: installing torch and transformers into .venv-peer" >&2
  .venv-peer/bin/python -m pip install --quiet --disable-pip-version-check -r scripts/bench/requirements.txt
fi
