#!/usr/bin/env bash
# From a fresh clone to a verdict: sets up, builds, and runs the study of the small bilingual world.
# Run again, it finds everything done and ends in seconds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
bash scripts/build.sh cpu resurface
build/cpu/resurface study configs/quickstart.yaml "$@"
echo "quickstart: the report is runs/quickstart/report.html, the figures runs/quickstart/results.jsonl" >&2
