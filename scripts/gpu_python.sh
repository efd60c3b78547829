# To be sourced from the root of a checkout: sets $python to a Python that has all
# packages and, unless JAX_PLATFORMS says otherwise, sees the machine's GPU. It makes
# .venv where there is none, and adds JAX's CUDA packages where a card is there that JAX
# does not see. $PYTHON names the Python to begin with, $usage a call that needs no GPU.
venv=.venv/bin/python

# Everything that the benchmark and sweeps import.
has_packages() {
    command -v "$1" >/dev/null &&
        "$1" -c 'import absl.flags, experiments.benchmarks.gpu.plan' >/dev/null 2>&1
}

find_python() {
    for python in ${PYTHON:-} "$venv" python3 python3.12 python3.11; do
        has_packages "$python" && { echo "$python"; return; }
    done
}

# Set-up chooses among the Pythons on its own; it needs a package index.
set_up() {
    echo "setting up .venv (log: .bootstrap/setup.log)" >&2
    sh scripts/setup.sh --stamp .venv/.ready-gpu >&2
}

sees_card() {
    "$1" -c 'import jax, sys; sys.exit(jax.default_backend() == "cpu")' 2>/dev/null
}

# JAX's CUDA packages of the version that is there.
add_cuda() {
    wanted="jax[cuda12]==$("$1" -c 'import jax; print(jax.__version__)')"
    echo "adding $wanted" >&2
    for uv in uv .bootstrap/uv-*/bin/uv; do
        command -v "$uv" >/dev/null || continue
        "$uv" pip install --quiet --python "$1" "$wanted" >&2 && return
    done
    "$1" -m pip install --quiet "$wanted" >&2
}

python=$(find_python)
if [ -z "$python" ]; then
    set_up && has_packages "$venv" && python=$venv
fi
if [ -z "$python" ]; then
    echo "error: no Python with JAX here, and .venv could not be made;" \
        "name one that has it: PYTHON=/path/to/python" >&2
    exit 2
fi
if [ -z "${JAX_PLATFORMS:-}" ] && ! sees_card "$python"; then
    if ! command -v nvidia-smi >/dev/null; then
        echo "error: no GPU here (no nvidia-smi); on a CPU:" \
            "JAX_PLATFORMS=cpu $usage" >&2
        exit 2
    fi
    # Only an environment of the checkout is changed, never the system's Python.
    if [ "$python" != "$venv" ]; then
        has_packages "$venv" || set_up || exit 2
        python=$venv
    fi
    if ! sees_card "$python" && { ! add_cuda "$python" || ! sees_card "$python"; }; then
        echo "error: JAX sees no GPU, and its CUDA packages did not help;" \
            "install jax[cuda12] into .venv" >&2
        exit 2
    fi
fi
echo "with $python" >&2
