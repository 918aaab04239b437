#!/usr/bin/env bash
# Sets up what a build needs: Debian packages, and LibTorch from the pinned torch wheel in .venv.
# Safe to run again: it installs only what is missing.
#
#   bash scripts/setup.sh            for a CPU build (about a minute)
#   bash scripts/setup.sh --cuda     also the CUDA libraries that the wheel needs on a GPU
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cuda=0
case ${1:-} in
  "") ;;
  --cuda) cuda=1 ;;
  *)
    echo "usage: scripts/setup.sh [--cuda]" >&2
    exit 2
    ;;
esac

packages=(cmake ninja-build g++ ccache pkg-config libyaml-cpp-dev libeigen3-dev catch2
  nlohmann-json3-dev libicu-dev libpcre2-dev libcli11-dev libfmt-dev libxxhash-dev libsqlite3-dev
  zlib1g-dev libsentencepiece-dev)
if command -v dpkg-query >/dev/null; then
  missing=()
  for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
      missing+=("$package")
  done
  if ((${#missing[@]})); then
    sudo=()
    if [[ $(id -u) != 0 ]]; then
      command -v sudo >/dev/null || {
        echo "setup: please have installed: ${missing[*]}" >&2
        exit 1
      }
      sudo=(sudo)
    fi
    echo "setup: installing Debian packages: ${missing[*]}" >&2
    "${sudo[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends \
      "${missing[@]}" >/dev/null
  fi
else
  echo "setup: no dpkg here; a build needs the equivalents of: ${packages[*]}" >&2
fi

# A LibTorch of the user's own: -DTorch_ROOT=... or the environment variable.
if [[ -n ${Torch_ROOT:-} ]]; then
  echo "setup: LibTorch is yours: $Torch_ROOT" >&2
  exit 0
fi
source scripts/venv.sh
# libtorch_cpu.so needs two of the wheel's CUDA dependencies, both small; a GPU needs all of them.
install_pins 'torch|nvidia-cuda-cupti|nvidia-cuda-runtime' ' (530 MB)'
if ((cuda)); then
  echo "setup: installing the CUDA libraries of torch into $venv (some 3 GB)" >&2
  "$python" -m pip install --quiet --disable-pip-version-check "$(grep -E '^torch==' requirements.txt)"
fi
echo "setup: done" >&2
