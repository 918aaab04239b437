#!/usr/bin/env bash
# Sets up, builds and runs all tests: bash scripts/test.sh [PRESET]   (presets: cpu, cuda, asan)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
preset=${1:-cpu}
if [[ $preset == cuda ]]; then bash scripts/setup.sh --cuda; else bash scripts/setup.sh; fi
source scripts/venv.sh
install_pins 'gguf|numpy|PyYAML|tqdm|safetensors' # of the tests of scripts: checkpoints to GGUF and back
bash scripts/build.sh "$preset"
ctest --preset "$preset" --parallel "$(nproc)"
