"""Control rate of a policy that acts on imagination, for one robot and for many.

python -m experiments.benchmarks.planning
python -m experiments.benchmarks.planning --sizes=1024 --set=sas.plan.num_candidates=32
python -m experiments.benchmarks.planning --variant=plan_recall

A step is what evaluation pays between two steps of the environment: the jitted `act`
and the fetch of its actions. All rows plan in the same step, every `execute` steps:
the slowest step is that one. Rows out of phase share the work out more evenly.
"""

from absl import flags

from experiments import cli
from experiments.benchmarks import common, model_cases, model_flags, planning_timing
from sas_jax.errors import UserError

_SIZES = flags.DEFINE_list("sizes", ["1", "32"], "Robots at once.")
_VARIANT = flags.DEFINE_enum(
    "variant", "plan", ["plan", "plan_recall"], "Which plans: without a map or with."
)
_PLANS = flags.DEFINE_integer("plans", 5, "Plans of a round.")
_OUT = cli.define_path("out", "runs/bench/planning.json", "Where the numbers go.")


def main(argv):
    """Measures, prints the table and writes it as JSON."""
    del argv
    sizes = model_cases.numbers("sizes", _SIZES.value)
    if min(_PLANS.value, model_flags.REPEATS.value) < 1:
        raise UserError("--plans and --repeats: expected integers >= 1")
    config = model_flags.make_config()
    common.pin(model_flags.THREADS.value)
    rows = planning_timing.measure(
        config,
        model_cases.make_spec(config),
        sizes=sizes,
        plans=_PLANS.value,
        repeats=model_flags.REPEATS.value,
        planner=_VARIANT.value,
    )
    print(_table(rows))
    settings = model_flags.settings(
        sizes=sizes, plans=_PLANS.value, variant=_VARIANT.value
    )
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
