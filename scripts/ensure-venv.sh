# Sourced by the scripts beside it: `ensure_venv [EXTRA...]` makes .venv with those extras, once.
# Sets $root and $bin. Needs a POSIX shell and Python 3.11 or later.

root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)
bin=$root/.venv/bin

ensure_venv() {
    stamp=$root/.venv/.ready-core
    for extra in "$@"; do stamp=$stamp-$extra; done
    # The common case costs no Python: the stamp is newer than all that it depends on.
    if [ -x "$bin/python" ] && [ -f "$stamp" ] && [ -z "$(find "$root/pyproject.toml" \
        "$root/constraints.txt" "$root/scripts/setup.py" -newer "$stamp")" ]; then
        return
    fi
    for python in "${PYTHON:-python3}" python3.13 python3.12 python3.11 python; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            "$python" "$root/scripts/setup.py" "$@"
            return
        fi
    done
    echo "error: Python 3.11 or later is needed, and none was found; PYTHON=... names one" >&2
    exit 1
}
