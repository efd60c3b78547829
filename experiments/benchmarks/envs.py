"""Environment speed: plain against lean against physics alone, and the vector.

    python -m experiments.benchmarks.envs
    python -m experiments.benchmarks.envs --tasks=PointGoal1 --repeats=15

Prints a table and writes the numbers to ``--out``.
"""

import statistics

from absl import flags
from tqdm import tqdm

from experiments import cli
from experiments.benchmarks import env_timing, results
from sas_jax.envs import tasks
from sas_jax.errors import UserError

_TASKS = flags.DEFINE_list("tasks", None, "Navigation tasks (default: all sixteen).")
_STEPS = flags.DEFINE_integer("steps", 200, "Steps per repeat and path.")
_REPEATS = flags.DEFINE_integer("repeats", 7, "Repeats, each on another layout.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the first layout.")
_VECTOR_TASKS = flags.DEFINE_list(
    "vector_tasks", ["PointGoal1", "CarGoal1"], "Tasks of the vector environment."
)
_WORKERS = flags.DEFINE_list("workers", ["1", "2"], "Worker counts to compare.")
_NUM_ENVS = flags.DEFINE_integer("num_envs", 16, "Slots of the vector environment.")
_OUT = cli.define_path("out", "runs/bench/envs.json", "Where the numbers go.")


def main(argv):
    """Measures, prints, writes."""
    del argv
    if min(_STEPS.value, _REPEATS.value, _NUM_ENVS.value) < 1:
        raise UserError("--steps, --repeats and --num_envs: expected integers >= 1")
    if not all(text.isdecimal() and int(text) > 0 for text in _WORKERS.value):
        raise UserError(f"--workers={','.join(_WORKERS.value)}: expected integers >= 1")
    names = _TASKS.value
    if names is None:
        names = [
            task.name
            for task in tasks.TASKS.values()
            if task.obs_groups and task.suite == "safety-gymnasium"
        ]
    for name in [*names, *_VECTOR_TASKS.value]:
        if not tasks.get_task(name).obs_groups:
            raise UserError(f"task {name!r}: expected a navigation task")
    single = [
        env_timing.time_task(
            name, num_steps=_STEPS.value, repeats=_REPEATS.value, seed=_SEED.value
        )
        for name in tqdm(names, desc="tasks")
    ]
    vector = _time_vectors()
    print(_single_table(single))
    print()
    print(_vector_table(vector))
    measured = {"single": single, "vector": vector}
    settings = {"steps": _STEPS.value, "repeats": _REPEATS.value, "seed": _SEED.value}
    results.write_json(_OUT.value, settings, measured)
    print(f"\nwritten to {_OUT.value}")


def _time_vectors() -> list[dict]:
    """Worker counts in turns, three times; medians."""
    cases = [(task, int(n)) for task in _VECTOR_TASKS.value for n in _WORKERS.value]
    runs = {case: [] for case in cases}
    for task, workers in tqdm(cases * 3, desc="vector"):
        runs[task, workers].append(
            env_timing.time_vector(
                task, workers, num_envs=_NUM_ENVS.value, num_steps=_STEPS.value
            )
        )
    return [
        {"task": task, "workers": workers, "num_envs": _NUM_ENVS.value}
        | {key: statistics.median(run[key] for run in done) for key in done[0]}
        for (task, workers), done in runs.items()
    ]


def _single_table(rows) -> str:
    lines = [
        "CPU microseconds a step, median [quartiles]; resets in ms",
        f"{'task':14}{'plain':>20}{'lean':>18}{'physics':>18}{'speed-up':>9}"
        f"{'lean/phys':>10}{'reset plain':>12}{'lean':>7}",
    ]
    for row in rows:
        cells = [
            f"{row[key]['median']:.0f} [{row[key]['low']:.0f}-{row[key]['high']:.0f}]"
            for key in ("plain", "lean", "physics")
        ]
        lines.append(
            f"{row['task']:14}{cells[0]:>20}{cells[1]:>18}{cells[2]:>18}"
            f"{row['speedup']:>8.2f}x{row['lean_over_physics']:>10.2f}"
            f"{row['plain_reset']['median']:>12.1f}{row['reset']['median']:>7.1f}"
        )
    return "\n".join(lines)


def _vector_table(rows) -> str:
    lines = [f"{'task':14}{'workers':>8}{'steps/s':>9}{'start s':>9}{'reset ms':>10}"]
    lines += [
        f"{row['task']:14}{row['workers']:>8}{row['steps_per_second']:>9.0f}"
        f"{row['start_seconds']:>9.1f}{row['reset_ms_per_env']:>10.1f}"
        for row in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run(main)
