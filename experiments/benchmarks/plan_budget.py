"""Cost saved against what plans are imagined with: trajectory-steps, and milliseconds.

python -m experiments.sweep --plan=experiments/plans/plan_budget.toml \
    --out=runs/plan_budget
python -m experiments.benchmarks.plan_budget --results=runs/plan_budget/results.csv

A plan of N candidates of T steps, made every r steps, imagines N T / r trajectory-steps
a step; where the policy may act by itself, its references alone. How often that was is
in the table of results, so both the mean and the most are told. Milliseconds are those
of one robot's control step here, of a model of the same sizes.
"""

import dataclasses
from pathlib import Path

from absl import flags

from experiments import cli, settings_flag
from experiments.benchmarks import common, model_cases, planning_timing
from experiments.benchmarks.plan_budget_figure import plan_budget_figure
from sas_jax.errors import UserError
from sas_jax.files import results
from sas_jax.report.tables import interval_text
from sas_jax.stats.intervals import Interval, metric_interval, paired_difference
from sas_jax.sweeps import plan as plan_lib

_PLAN = cli.define_path("plan", "experiments/plans/plan_budget.toml", "The sweep's.")
_RESULTS = cli.define_path("results", None, "Its CSV.")
_THREADS = flags.DEFINE_integer("threads", 1, "Cores to be pinned to.")
_REPEATS = flags.DEFINE_integer("repeats", 3, "Rounds.")
_PLANS = flags.DEFINE_integer("plans", 5, "Plans of a round.")
_OUT = cli.define_path("out", "runs/bench/plan_budget.json", "Numbers; a .png beside.")


def main(argv):
    """Times every setting of the plan, joins its rows, prints, writes and draws."""
    del argv
    if not _RESULTS.value:
        raise UserError("--results: expected the CSV of the plan's sweep")
    if min(_PLANS.value, _REPEATS.value) < 1:
        raise UserError("--plans and --repeats: expected integers >= 1")
    cells = plan_lib.from_values(settings_flag.read(_PLAN.value, "--plan")).cells()
    rows = results.read_results(_RESULTS.value)
    plain = _rows_of(rows, cells[0].name, "none")
    common.pin(_THREADS.value)
    found = []
    for cell in cells:
        own = _rows_of(rows, cell.name, "plan")
        config = cell.acts_with
        references, every = planning_timing.measure(
            config,
            model_cases.make_spec(config),
            sizes=[1],
            plans=_PLANS.value,
            repeats=_REPEATS.value,
            skip=("none",),
        )
        idle = sum(row.plan_idle for row in own) / len(own)
        found.append(
            {
                "case": cell.name,
                "idle": idle,
                "trajectory_steps_at_most": every["trajectory_steps"],
                "trajectory_steps": _mixed(
                    idle, references["trajectory_steps"], every["trajectory_steps"]
                ),
                "milliseconds": _mixed(
                    idle,
                    references["milliseconds"]["median"],
                    every["milliseconds"]["median"],
                ),
                "slowest_milliseconds": every["slowest_milliseconds"]["median"],
                "layouts": len(own),
                **_against(own, plain, "return"),
                **_against(own, plain, "cost"),
            }
        )
    print(_table(found))
    settings = {"plan": Path(_PLAN.value).name, "repeats": _REPEATS.value}
    settings |= {"plans": _PLANS.value, "threads": _THREADS.value}
    plain_rows = [_plain(row) for row in found]
    common.finish(_OUT.value, settings, "wall", {"rows": plain_rows})
    print(plan_budget_figure(Path(_OUT.value).with_suffix(".png"), found))


def _rows_of(rows, name, variant):
    own = [row for row in rows if (row.algo, row.variant) == (name, variant)]
    if not own:
        raise UserError(f"--results: no rows of {name}, variant {variant}")
    return own


def _mixed(idle: float, references: float, every: float) -> float:
    """The mean over plans, a share `idle` of which are of references alone."""
    return idle * references + (1 - idle) * every


def _against(own, plain, metric: str) -> dict[str, Interval]:
    """The mean, and its difference from the plain policy on the same layouts."""
    # The same checkpoint under another name: only how it plans differs.
    alike = [dataclasses.replace(row, algo=own[0].algo) for row in plain]
    paired = paired_difference([*own, *alike], "plan", "none", metric)
    return {
        metric: metric_interval(own, metric),
        f"{metric}_minus_none": paired.difference,
    }


def _plain(row: dict) -> dict:
    """The row as JSON has it."""
    return {
        name: dataclasses.asdict(value) if isinstance(value, Interval) else value
        for name, value in row.items()
    }


def _table(found) -> str:
    headers = ["plans", "trajectory-steps a step", "at most", "ms a step", "slowest"]
    headers += ["return", "cost", "minus none: return", "cost"]
    cells = [
        [
            row["case"],
            f"{row['trajectory_steps']:.0f}",
            f"{row['trajectory_steps_at_most']:.0f}",
            f"{row['milliseconds']:.2f}",
            f"{row['slowest_milliseconds']:.1f}",
            interval_text(row["return"], "return"),
            interval_text(row["cost"], "cost"),
            interval_text(row["return_minus_none"], "return", signed=True),
            interval_text(row["cost_minus_none"], "cost", signed=True),
        ]
        for row in found
    ]
    return common.table(headers, cells)


if __name__ == "__main__":
    cli.run(main)
