#!/usr/bin/env bash
# Configures and builds: bash scripts/build.sh [PRESET] [TARGET ...]   (presets: cpu, cuda, asan)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
preset=${1:-cpu}
shift || true
arguments=()
if [[ -n ${Torch_ROOT:-} ]]; then arguments+=("-DTorch_ROOT=$Torch_ROOT"); fi
echo "build: preset $preset, into build/$preset" >&2
cmake --preset "$preset" "${arguments[@]}" >/dev/null
cmake --build --preset "$preset" ${1:+--target "$@"} >&2
