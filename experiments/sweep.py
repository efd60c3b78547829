"""Runs a plan of cells: tasks x methods x training seeds, each trained and evaluated.

python -m experiments.sweep --tasks=PointGoal1,CarGoal1 --algos=dt,bc --preset=demo \
    --seeds=0,1 --variants=none,rand,sas --layouts=64 --out=runs/sweep
python -m experiments.sweep --plan=plan.toml --out=runs/sweep --dry_run

The same command resumes: cells whose rows are all in the table are skipped, the others
go on where they were. The table is OUT/results.csv, or --table.
"""

import shlex
import sys

from absl import flags

from experiments import cli, settings_flag
from sas_jax.errors import UserError

_PLAN = cli.define_path("plan", None, "TOML or JSON file of a plan; flags come after.")
_TASKS = flags.DEFINE_list("tasks", None, "Tasks, e.g. PointGoal1,CarGoal1.")
_ALGOS = flags.DEFINE_list(
    "algos", None, "Algorithms, e.g. dt,bc (instead of methods)."
)
_PRESET = flags.DEFINE_string("preset", None, "Settings of --algos: default or demo.")
_SEEDS = flags.DEFINE_list("seeds", None, "Training seeds (default: 0).")
_VARIANTS = flags.DEFINE_list(
    "variants", None, "Variants, where an algorithm has them."
)
_LIMITS = flags.DEFINE_list("cost_limits", None, "Thresholds (default: the tasks').")
_LAYOUTS = flags.DEFINE_integer("layouts", None, "Layouts per variant (default: 20).")
_FIRST_SEED = flags.DEFINE_integer("first_seed", None, "Seed of the first layout.")
_SEED = flags.DEFINE_integer("seed", None, "Seed of the agents' draws (default: 0).")
_SHIFTS = flags.DEFINE_multi_string(
    "shift", None, "A changed world besides others; may be repeated; '' for the plain."
)
_DATA = cli.define_path(
    "data", None, "record (default), dsrl, or a file with {task} in its name."
)
_EPISODES = flags.DEFINE_integer("episodes", None, "Episodes to record (default: 300).")
_MIXTURE = flags.DEFINE_string("mixture", None, "Behaviours to record (collect's).")
_DATA_SEED = flags.DEFINE_integer("data_seed", None, "Seed of recordings (default: 0).")
_CARD = flags.DEFINE_bool("card", None, "Measure world-model cards, too.")
_OUT = cli.define_path("out", "runs/sweep", "Folder of the sweep.", is_local=True)
_TABLE = cli.define_path(
    "table", None, "CSV of the rows (default: OUT/results.csv).", is_local=True
)
_PARQUET = flags.DEFINE_bool("parquet", False, "Write the table as Parquet, too.")
_RATES = cli.define_path(
    "rates", None, "JSON of another table, for the estimate.", is_local=True
)
_DRY = flags.DEFINE_bool("dry_run", False, "Print the plan and an estimate, and end.")
_ENGINE = flags.DEFINE_string(
    "engine", "local", "Where cells run: local, ray or slurm."
)
_CELLS = flags.DEFINE_integer("cells", 0, "Cells at a time (default: as many as fit).")
_CORES = flags.DEFINE_float("cores", 0, "Cores a cell (default: shared out, or 1).")
_GPUS = flags.DEFINE_float("gpus", 0, "GPUs a cell; 0.25 lets four cells share one.")
_TPUS = flags.DEFINE_float("tpus", 0, "TPU chips a cell (ray).")
_CLUSTER = flags.DEFINE_string(
    "cluster", "", "Ray's address, e.g. auto; submitit's executor, e.g. local."
)
_RETRIES = flags.DEFINE_integer("retries", 3, "New tries when a node is lost (ray).")
_MINUTES = flags.DEFINE_integer("minutes", 24 * 60, "Time a cell is granted (slurm).")

cli.answer_help(__name__, __doc__)

from experiments.sweep_progress import Bar
from sas_jax import config as config_lib
from sas_jax import learners
from sas_jax.files.results_parquet import write_parquet
from sas_jax.sweeps import engines, pages
from sas_jax.sweeps import plan as plan_lib
from sas_jax.sweeps.estimate import Rates, built_in
from sas_jax.sweeps.sweep import Sweep
from sas_jax.sweeps.table import read_records


def planned() -> plan_lib.Plan:
    """The plan of --plan, with what flags say on top of it."""
    values = settings_flag.read(_PLAN.value, "--plan") if _PLAN.value else {}
    given = {
        "tasks": _TASKS.value,
        "seeds": _SEEDS.value,
        "variants": _VARIANTS.value,
        "cost_limits": _LIMITS.value,
        "layouts": _LAYOUTS.value,
        "first_seed": _FIRST_SEED.value,
        "seed": _SEED.value,
        "shifts": _SHIFTS.value,
        "card": _CARD.value,
    }
    values = dict(values) | {k: v for k, v in given.items() if v is not None}
    data = {
        "source": _DATA.value,
        "episodes": _EPISODES.value,
        "mixture": _MIXTURE.value,
        "seed": _DATA_SEED.value,
    }
    data = {k: v for k, v in data.items() if v is not None}
    if data:
        values["data"] = dict(values.get("data", {})) | data
    if _ALGOS.value:
        values["methods"] = [{"algo": algo} for algo in _ALGOS.value]
    methods = values.setdefault("methods", [{}])
    if _PRESET.value and isinstance(methods, list):
        values["methods"] = [dict(m) | {"preset": _PRESET.value} for m in methods]
    return plan_lib.from_values(values)


def cells_of(plan: plan_lib.Plan) -> list:
    """The plan's cells, with --config and --set applied to every one."""
    given, texts = settings_flag.from_file(), settings_flag.texts()
    return plan.cells(
        lambda config: learners.override(learners.merge(config, given), texts)
    )


def main(argv):
    """Runs what is left of the plan, then prints and writes the tables."""
    del argv
    cells = cells_of(planned())
    if settings_flag.is_listing():
        for cell in {c.name: c for c in cells}.values():
            print(settings_flag.listing(config_lib.to_dict(cell.config)))
        return
    engine = engines.get(_ENGINE.value)
    resources = engines.Resources(
        cores=_CORES.value,
        gpus=_GPUS.value,
        tpus=_TPUS.value,
        cells=_CELLS.value,
        retries=_RETRIES.value,
        address=_CLUSTER.value,
        minutes=_MINUTES.value,
    )
    command = shlex.join(["python", "-m", "experiments.sweep", *sys.argv[1:]])
    sweep = Sweep(
        cells,
        _OUT.value,
        _TABLE.value,
        command=command,
        modules=flags.FLAGS["import"].value,
    )
    records = list(sweep.table.records.values())
    if _RATES.value:
        records += read_records(_RATES.value)[0].values()
    rates = Rates(records, built_in())
    sweep.look()
    if _DRY.value:
        print(pages.plan_table(sweep, rates, resources, _ENGINE.value).text())
        return
    with sweep.alone():
        sweep.take_up()
        sweep.look()
        with Bar(sweep, rates, resources) as bar:
            sweep.run(engine, resources, tell=bar.tell, tick=bar.tick)
    failed = [s for s in sweep.standings if s.state == "failed"]
    if sweep.table.rows:
        page = pages.write(sweep, command)
        if _PARQUET.value:
            write_parquet(sweep.table.path.with_suffix(".parquet"), sweep.table.rows)
        print(f"{len(sweep.table.rows)} rows in {sweep.table.path}; tables in {page}")
    if failed:
        raise UserError(
            f"{len(failed)} of {len(sweep.standings)} cells failed, see above; the "
            "same command tries them again"
        )


if __name__ == "__main__":
    cli.run(main, resumes=True)
