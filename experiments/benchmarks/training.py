"""Milliseconds of a training step at the paper's size, and training's peak memory.

python -m experiments.benchmarks.training
python -m experiments.benchmarks.training --algos=cdt --set=model.decoder.dtype=bfloat16

Every case runs in a process of its own; the last row is `train.fit` as users run it,
from a file of 300 episodes to a checkpoint. CDT's batch (512 rows of 40 steps, the
paper's 2048 of 10) takes seconds a step on a CPU. On an accelerator the same command
measures wall time and the device's memory; `device` in the JSON says which it was.
"""

import dataclasses
import os
from pathlib import Path

import jax
from absl import flags

from experiments import cli
from experiments.benchmarks import common, model_cases, model_flags, training_timing
from sas_jax.errors import UserError

# Those whose work in arithmetic is counted.
_COUNTED = ("dt", "cdt")
_ALGOS = flags.DEFINE_list("algos", list(_COUNTED), f"Some of {', '.join(_COUNTED)}.")
_SEEDS = flags.DEFINE_list("seeds", ["1", "3"], "Training seeds at once, a vmap axis.")
_STEPS = flags.DEFINE_integer(
    "steps", 0, "Steps of a call; 0 means 5 of DT and 1 of CDT, 200 off the CPU."
)
# Steps of a call on a CPU, where dispatch costs nothing beside them.
_CPU_STEPS = {"dt": 5, "cdt": 1}
_EPISODES = flags.DEFINE_integer("episodes", 300, "Episodes of the made-up data.")
_FIT = flags.DEFINE_bool("fit", True, "Measure the memory of `train.fit`, too.")
_OUT = cli.define_path("out", "runs/bench/training.json", "Where the numbers go.")


def main(argv):
    """Measures, prints the table and writes it as JSON."""
    del argv
    seeds = model_cases.numbers("seeds", _SEEDS.value)
    for algo in _ALGOS.value:
        if algo not in _COUNTED:
            raise UserError(f"--algos: unknown {algo!r}; {', '.join(_COUNTED)}")
    if _STEPS.value < 0 or model_flags.REPEATS.value < 1 or _EPISODES.value < 2:
        raise UserError("--steps: expected >= 0; --repeats: >= 1; --episodes: >= 2")
    # Several processes share an accelerator's memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    configs = {
        f"{algo}, {count} seed{'s' if count > 1 else ''}": _with_seeds(algo, count)
        for algo in _ALGOS.value
        for count in seeds
    }
    common.pin(model_flags.THREADS.value)
    clock = common.clock(model_flags.THREADS.value)
    is_cpu = jax.default_backend() == "cpu"
    steps = {
        name: _STEPS.value or (_CPU_STEPS[config.algo] if is_cpu else 200)
        for name, config in configs.items()
    }
    rows, rates = training_timing.measure(
        configs,
        episodes=_EPISODES.value,
        steps=steps,
        repeats=model_flags.REPEATS.value,
        clock=clock,
        folder=Path(_OUT.value).parent,
        has_fit=_FIT.value,
    )
    print(_table(rows, clock))
    for dtype, rate in rates.items():
        print(f"matrix products in {dtype}: {rate / 1e9:.0f} GFLOP/s")
    settings = model_flags.settings(steps=_STEPS.value, episodes=_EPISODES.value)
    common.finish(_OUT.value, settings, clock, {"rows": rows, "peak_flops": rates})


def _with_seeds(algo, count):
    config = model_flags.make_config(algo)
    train = dataclasses.replace(config.train, num_seeds=count)
    return dataclasses.replace(config, train=train)


def _table(rows, clock) -> str:
    headers = ["case", "rows x steps", f"ms a step ({clock})", "[quartiles]", "wall"]
    headers += ["a seed", "GFLOP a seed", "XLA's", "of peak", "temporary MB"]
    headers += ["100k steps, min", "device MB", "peak MB", "imports alone"]
    cells = []
    for row in rows:
        memory = [f"{row[k] / 1e6:.0f}" for k in ("peak_bytes", "base_bytes")]
        if "milliseconds" not in row:
            cells.append([row["case"], *[""] * 11, *memory])
            continue
        time = row["milliseconds"]
        cells.append(
            [
                row["case"],
                f"{row['batch_rows']} x {row['row_length']}",
                f"{time['median']:.1f}",
                f"[{time['low']:.1f}-{time['high']:.1f}]",
                f"{row['wall_milliseconds']['median']:.1f}",
                f"{time['median'] / row['seeds']:.1f}",
                f"{row['model_flops'] / 1e9:.2f}",
                f"{row['xla_flops'] / 1e9:.2f}",
                f"{row['share_of_peak']:.0%}",
                f"{(row['temporary_bytes'] or 0) / 1e6:.0f}",
                f"{row['minutes_of_100k_steps']:.1f}",
                f"{row.get('device_peak_bytes', 0) / 1e6:.0f}",
                *memory,
            ]
        )
    return common.table(headers, cells)


if __name__ == "__main__":
    cli.run(main)
