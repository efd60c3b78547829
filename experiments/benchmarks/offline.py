"""Updates a second of the learners on single steps, one lane and several at once.

python -m experiments.benchmarks.offline
python -m experiments.benchmarks.offline --algos=cpq --lanes=1,9 --torch

A lane is a training seed under a threshold; lanes are trained by one program. The gain
is what that saves: the time of as many runs of one lane, over the time of all at once.
With --torch a step of CPQ in PyTorch is timed beside ours, after both have said the
same losses for the same parameters (extra `torch`). On an accelerator the same command
measures wall time; `minutes of 100k` is what a table's column costs there.
"""

import os

import jax
from absl import flags

from experiments import cli
from experiments.benchmarks import common, model_cases, model_flags, offline_timing
from sas_jax.errors import UserError

_ALGOS = flags.DEFINE_list(
    "algos", list(offline_timing.ALGOS), f"Some of {', '.join(offline_timing.ALGOS)}."
)
_LANES = flags.DEFINE_list("lanes", ["1", "3", "9"], "Lanes at once, for each a case.")
_UPDATES = flags.DEFINE_integer(
    "updates", 0, "Updates of a call; 0 means 20 on a CPU and 1000 elsewhere."
)
_TORCH = flags.DEFINE_bool("torch", False, "Time a step of CPQ in PyTorch, too.")
_OUT = cli.define_path("out", "runs/bench/offline.json", "Where the numbers go.")


def main(argv):
    """Measures, prints the table and writes it as JSON."""
    del argv
    lanes = model_cases.numbers("lanes", _LANES.value)
    for algo in _ALGOS.value:
        if algo not in offline_timing.ALGOS:
            raise UserError(
                f"--algos: unknown {algo!r}; {', '.join(offline_timing.ALGOS)}"
            )
    if _UPDATES.value < 0 or model_flags.REPEATS.value < 1:
        raise UserError("--updates: expected >= 0; --repeats: >= 1")
    if _TORCH.value and "cpq" not in _ALGOS.value:
        raise UserError("--torch: compares with cpq; expected it among --algos")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    common.pin(model_flags.THREADS.value)
    clock = common.clock(model_flags.THREADS.value)
    updates = _UPDATES.value or (20 if jax.default_backend() == "cpu" else 1000)
    rows, differences, rate = offline_timing.measure(
        {algo: model_flags.make_config(algo) for algo in _ALGOS.value},
        lanes=lanes,
        updates=updates,
        repeats=model_flags.REPEATS.value,
        clock=clock,
        threads=model_flags.THREADS.value,
        has_torch=_TORCH.value,
    )
    print(_table(rows, clock))
    print(f"matrix products in float32: {rate / 1e9:.0f} GFLOP/s")
    for name, value in differences.items():
        print(f"PyTorch's {name} differs by {value:.1e}")
    settings = model_flags.settings(
        updates=updates, lanes=_LANES.value, torch=offline_timing.torch_version()
    )
    measured = {"rows": rows, "differences": differences, "peak_flops": rate}
    common.finish(_OUT.value, settings, clock, measured)


def _table(rows, clock) -> str:
    headers = ["case", f"ms an update ({clock})", "[quartiles]", "lane-updates/s"]
    headers += ["gain", "MFLOP a lane", "of peak", "minutes of 100k", "compile s"]
    cells = []
    for row in rows:
        time = row["milliseconds"]
        cells.append(
            [
                row["case"],
                f"{time['median']:.2f}",
                f"[{time['low']:.2f}-{time['high']:.2f}]",
                f"{row['lane_updates_a_second']:.0f}",
                "" if row["gain"] is None else f"{row['gain']:.2f}",
                f"{row['flops'] / 1e6:.0f}",
                f"{row['share_of_peak']:.0%}",
                f"{row['minutes_of_100k_updates']:.1f}",
                f"{row['compile_seconds']:.0f}",
            ]
        )
    return common.table(headers, cells)


if __name__ == "__main__":
    cli.run(main)
