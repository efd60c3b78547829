"""Milliseconds of a training step at the paper's size, and training's peak memory.

python -m experiments.bench.training
python -m experiments.bench.training --algos=dt,cdt --seeds=1,3

Every case runs in a process of its own; the last row is `train.fit` as users run it,
from a file of 300 episodes to a checkpoint. CDT's batch (512 rows of 40 steps, the
paper's 2048 of 10) takes seconds a step on a CPU.
"""

import dataclasses
from pathlib import Path

from absl import flags

from experiments import cli
from experiments.bench import common, model_cases, training_timing
from sas_jax.errors import UserError
from sas_jax.experiment import ALGORITHMS

_ALGOS = flags.DEFINE_list("algos", ["dt"], f"Some of {', '.join(ALGORITHMS)}.")
_SEEDS = flags.DEFINE_list("seeds", ["1", "3"], "Training seeds at once, a vmap axis.")
_STEPS = flags.DEFINE_integer("steps", 5, "Steps of a call.")
_EPISODES = flags.DEFINE_integer("episodes", 300, "Episodes of the made-up data.")
_FIT = flags.DEFINE_bool("fit", True, "Measure the memory of `train.fit`, too.")
_OUT = flags.DEFINE_string("out", "runs/bench/training.json", "Where the numbers go.")


def main(argv):
    """Measures, prints the table and writes it as JSON."""
    del argv
    seeds = model_cases.numbers("seeds", _SEEDS.value)
    for algo in _ALGOS.value:
        if algo not in ALGORITHMS:
            raise UserError(f"--algos: unknown {algo!r}; {', '.join(ALGORITHMS)}")
    if min(_STEPS.value, model_cases.REPEATS.value) < 1 or _EPISODES.value < 2:
        raise UserError("--steps and --repeats: expected >= 1; --episodes: >= 2")
    configs = {
        f"{algo}, {count} seed{'s' if count > 1 else ''}": _with_seeds(algo, count)
        for algo in _ALGOS.value
        for count in seeds
    }
    common.pin(model_cases.THREADS.value)
    clock = common.clock(model_cases.THREADS.value)
    rows = training_timing.measure(
        configs,
        episodes=_EPISODES.value,
        steps=_STEPS.value,
        repeats=model_cases.REPEATS.value,
        clock=clock,
        folder=Path(_OUT.value).parent,
        has_fit=_FIT.value,
    )
    print(_table(rows, clock))
    settings = model_cases.settings(steps=_STEPS.value, episodes=_EPISODES.value)
    common.finish(_OUT.value, settings, clock, {"rows": rows})


def _with_seeds(algo, count):
    config = model_cases.make_config(algo)
    train = dataclasses.replace(config.train, num_seeds=count)
    return dataclasses.replace(config, train=train)


def _table(rows, clock) -> str:
    headers = ["case", "rows x steps", f"ms a step ({clock})", "[quartiles]", "wall"]
    headers += ["a seed", "GFLOP a seed", "XLA's", "of peak", "temporary MB"]
    headers += ["peak MB", "imports alone"]
    cells = []
    for row in rows:
        memory = [f"{row[k] / 1e6:.0f}" for k in ("peak_bytes", "base_bytes")]
        if "milliseconds" not in row:
            cells.append([row["case"], *[""] * 9, *memory])
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
                *memory,
            ]
        )
    return common.table(headers, cells)


if __name__ == "__main__":
    cli.run(main)
