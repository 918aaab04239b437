#!/usr/bin/env bash
# clang-format and the checks of .clang-tidy: bash scripts/lint.sh [FILE.cpp ...]   (default: all, 15 min on 2 cores)
# By clangd, which runs the checks on the file alone; clang-tidy walks all of ATen for each, 40 s a file.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
for tool in clang-format-14 clang++-19 clangd-19; do
  command -v "$tool" >/dev/null ||
    { echo "lint: no $tool (Debian: apt install clang-format-14 clang-19 clangd-19)" >&2 && exit 1; }
done
git ls-files '*.cpp' '*.h' | xargs clang-format-14 --dry-run -Werror
if (($#)); then files=("$@"); else mapfile -t files < <(git ls-files '*.cpp' | grep -v '^tests/'); fi
arguments=(-DCMAKE_CXX_COMPILER=clang++-19)
if [[ -n ${Torch_ROOT:-} ]]; then arguments+=("-DTorch_ROOT=$Torch_ROOT"); fi
cmake --preset cpu -B build/lint "${arguments[@]}" >/dev/null
cmake --build build/lint --target resurface_pch >&2

check() {
  local said
  said=$(clangd-19 --clang-tidy --check-locations=false --check="$1" 2>&1) && return
  { grep '^E\[' <<<"$said" || tail -n 3 <<<"$said"; } | sed "s#^E\[[^]]*\]#$1:#"
  return 1
}
export -f check
printf '%s\n' "${files[@]}" | xargs -P "$(nproc)" -I{} bash -c 'check {}'
echo "lint: ${#files[@]} files, nothing found"
