# Sourced by run and check_real_size in the root of the repository: sets python, defines make_checkpoint.

python=${SINOPIA_PEERS_PYTHON:-}
if [ -z "$python" ]; then
  venv=build/peers-venv
  python=$venv/bin/python
  wanted=$(cat tools/golden/requirements.txt bench/peers/requirements.txt)
  # The list of what is in it is written last: it tells a whole environment from an interrupted one.
  if [ "$(cat "$venv/requirements.txt" 2>/dev/null)" != "$wanted" ]; then
    echo "Making $venv (some minutes)" >&2
    python3 -m venv "$venv"
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps -r tools/golden/requirements.txt >&2
    "$python" -m pip install --quiet --disable-pip-version-check -r bench/peers/requirements.txt >&2
    printf '%s\n' "$wanted" > "$venv/requirements.txt"
  fi
fi

# make_checkpoint FOLDER [OPTION...]: the checkpoint of the real size, and the reference unless told otherwise.
make_checkpoint() {
  "$python" -W ignore tools/golden/real_size.py --out "$@" >&2
}
