# Sourced: the project's Python environment, made where there is none.
# $RESURFACE_VENV names it (default .venv); $python is its interpreter.

venv=${RESURFACE_VENV:-.venv}
python=$venv/bin/python

# install_pins NAMES NOTE: those lines of requirements.txt whose package is in NAMES (a|b|c) and that
# are not installed, without their dependencies.
install_pins() {
  local pins have pin missing=()
  if [[ ! -x $python ]]; then
    echo "making the Python environment $venv" >&2
    python3 -m venv "$venv" || {
      echo "python3 could not make $venv (on Debian: apt-get install python3-venv)" >&2
      return 1
    }
  fi
  mapfile -t pins < <(grep -E "^($1)==" requirements.txt)
  have=$("$python" -m pip list --format=freeze --disable-pip-version-check 2>/dev/null || true)
  for pin in "${pins[@]}"; do
    grep -qixF "$pin" <<<"$have" || missing+=("$pin")
  done
  ((${#missing[@]})) || return 0
  echo "installing ${missing[*]} into $venv${2:-}" >&2
  "$python" -m pip install --quiet --disable-pip-version-check --no-deps "${missing[@]}"
}
