#!/bin/sh
# The benchmark of one GPU, from a bare checkout: finds a Python with JAX or makes .venv,
# adds JAX's CUDA packages where a card is there and JAX does not see it, and measures.
#
#   bash experiments/benchmarks/gpu/gpu.sh                           under 8 minutes on a card
#   JAX_PLATFORMS=cpu bash experiments/benchmarks/gpu/gpu.sh --smoke
#
# Arguments go to experiments.benchmarks.gpu. $PYTHON names the Python to begin with.
set -u
cd "$(dirname "$0")/../../.." || exit 2
usage="bash experiments/benchmarks/gpu/gpu.sh --smoke"
. scripts/gpu_python.sh
exec "$python" -m experiments.benchmarks.gpu "$@"
