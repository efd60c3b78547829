#!/bin/sh
# Finds a Python that the lock supports (3.11 or 3.12; $PYTHON when set) and starts
# bootstrap.py with it. Arguments go to bootstrap.py.
set -u
here=$(dirname "$0")

version() {
    command -v "$1" >/dev/null || { echo "missing"; return; }
    "$1" -c 'import sys; print("Python %d.%d" % sys.version_info[:2])' 2>/dev/null ||
        echo "not a Python"
}

suits() {
    case $(version "$1") in "Python 3.11" | "Python 3.12") ;; *) return 1 ;; esac
}

if [ -n "${PYTHON:-}" ]; then
    suits "$PYTHON" && exec "$PYTHON" "$here/bootstrap.py" "$@"
    echo "error: PYTHON=$PYTHON is $(version "$PYTHON");" \
        "Python 3.11 or 3.12 expected" >&2
    exit 2
fi
for python in python3 python3.12 python3.11; do
    suits "$python" && exec "$python" "$here/bootstrap.py" "$@"
done
echo "error: python3 is $(version python3); install Python 3.11 or 3.12," \
    "or name one: make PYTHON=/path/to/python3.12" >&2
exit 2
