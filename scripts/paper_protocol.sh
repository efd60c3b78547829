#!/bin/sh
# The paper's protocol, for a machine with a GPU and some cores, in calls of under ten
# minutes. Each call goes on where the last one was stopped; the last one writes the
# paper's tables. From a bare checkout: it sets itself up, as gpu.sh does.
#
#   bash scripts/paper_protocol.sh; echo $?     3: call it again. 0: all is done
#   JAX_PLATFORMS=cpu bash scripts/paper_protocol.sh --plan=my_plan.toml --out=runs/mine
#
# $SECONDS_A_CALL bounds a call (default 560), $CELLS is how many cells share the card
# (default 4). Arguments go to experiments.sweep, after this script's own. A model loses
# at most what it made since its last checkpoint, an evaluation its block of 32 episodes.
set -u
cd "$(dirname "$0")/.." || exit 2
usage="bash scripts/paper_protocol.sh"
. scripts/gpu_python.sh
out=runs/paper
for argument; do
    case $argument in --out=*) out=${argument#--out=} ;; esac
done
timeout --kill-after=20 "${SECONDS_A_CALL:-560}" \
    "$python" -m experiments.sweep --plan=experiments/plans/paper.toml \
    --out="$out" --cells="${CELLS:-4}" "$@"
code=$?
case $code in
    0) ;;
    124 | 137) echo "time is up; call again to go on" >&2; exit 3 ;;
    *) exit "$code" ;;
esac
exec "$python" -m experiments.reproduce --table=1,2,7 --results="$out/results.csv" \
    --out="$out/paper"
