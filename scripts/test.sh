#!/usr/bin/env bash
# Sets up, builds and runs all tests: bash scripts/test.sh [PRESET]   (presets: cpu, cuda, asan)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
preset=${1:-cpu}
if [[ $preset == cuda ]]; then bash scripts/setup.sh --cuda; else bash scripts/setup.sh; fi
bash scripts/build.sh "$preset"
ctest --preset "$preset" --parallel "$(nproc)"
