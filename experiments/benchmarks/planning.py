"""Control rate of a policy that acts on imagination, for one robot and for many.

python -m experiments.benchmarks.planning
python -m experiments.benchmarks.planning --sizes=1024 --set=sas.plan.num_candidates=32

A step is what evaluation pays between two steps of the environment: the jitted `act`
and the fetch of its actions. All rows plan in the same step, every `execute` steps:
the slowest step is that one. Rows out of phase share the work out more evenly.
"""

import time

import jax
import numpy as np
from absl import flags

from experiments import cli
from experiments.benchmarks import acting_timing, common, model_cases, model_flags
from sas_jax.errors import UserError
from sas_jax.learners import sequence
from sas_jax.types import TimeStep

_SIZES = flags.DEFINE_list("sizes", ["1", "32"], "Robots at once.")
_PLANS = flags.DEFINE_integer("plans", 5, "Plans of a round.")
_OUT = cli.define_path("out", "runs/bench/planning.json", "Where the numbers go.")


def step_seconds(config, spec, variables, *, rows: int, variant: str, steps: int):
    """Wall seconds of `steps` actions of `rows` rows, the first plan left out."""
    policy = sequence.make_policy(config, spec, variants=(variant,))
    key = jax.random.key(3)
    carry = acting_timing.carry_of(config, spec, variables, policy, rows, key, False)
    zeros = np.zeros(rows, np.float32)
    now = TimeStep(model_cases.make_observations(spec, rows), zeros, zeros, zeros > 0)
    act = jax.jit(policy.act, donate_argnums=1)
    every = config.sas.plan.execute
    seconds = []
    for t in range(steps + every):
        started = time.perf_counter()
        action, carry = act(variables, carry, now, key)
        np.asarray(action)
        if t >= every:
            seconds.append(time.perf_counter() - started)
    return np.array(seconds)


def measure(config, spec, *, sizes: list[int], plans: int, repeats: int) -> list[dict]:
    """Rows of every number of robots, without and with plans."""
    variables = model_cases.make_variables(config, spec)
    plan, found = config.sas.plan, []
    steps = plans * plan.execute
    for rows in sizes:
        for variant in ("none", "plan"):
            runs = [
                step_seconds(
                    config, spec, variables, rows=rows, variant=variant, steps=steps
                )
                for _ in range(repeats)
            ]
            means = [run.mean() for run in runs]
            slowest = [run.reshape(plans, -1).max(axis=1).mean() for run in runs]
            work = 0
            if variant == "plan":
                work = plan.num_candidates * plan.horizon / plan.execute
            found.append(
                {
                    "case": f"{variant}, {rows} robots",
                    "rows": rows,
                    "variant": variant,
                    "trajectory_steps": work,
                    "milliseconds": common.spread([1e3 * x for x in means]),
                    "slowest_milliseconds": common.spread([1e3 * x for x in slowest]),
                }
            )
    return found


def main(argv):
    """Measures, prints the table and writes it as JSON."""
    del argv
    sizes = model_cases.numbers("sizes", _SIZES.value)
    if min(_PLANS.value, model_flags.REPEATS.value) < 1:
        raise UserError("--plans and --repeats: expected integers >= 1")
    config = model_flags.make_config()
    common.pin(model_flags.THREADS.value)
    rows = measure(
        config,
        model_cases.make_spec(config),
        sizes=sizes,
        plans=_PLANS.value,
        repeats=model_flags.REPEATS.value,
    )
    print(_table(rows))
    settings = model_flags.settings(sizes=sizes, plans=_PLANS.value)
    common.finish(_OUT.value, settings, "wall", {"rows": rows})


def _table(rows) -> str:
    headers = ["case", "trajectory-steps a step", "ms a step", "Hz", "ms, slowest step"]
    headers += ["Hz, slowest", "us a trajectory-step"]
    cells = []
    plain = {}
    for row in rows:
        mean = row["milliseconds"]["median"]
        slowest = row["slowest_milliseconds"]["median"]
        work = row["trajectory_steps"] * row["rows"]
        plain.setdefault(row["rows"], mean)
        each = f"{1e3 * (mean - plain[row['rows']]) / work:.1f}" if work else "-"
        cells.append(
            [
                row["case"],
                f"{row['trajectory_steps']:g}",
                f"{mean:.2f}",
                f"{1e3 / mean:.0f}",
                f"{slowest:.2f}",
                f"{1e3 / slowest:.0f}",
                each,
            ]
        )
    return common.table(headers, cells)


if __name__ == "__main__":
    cli.run(main)
