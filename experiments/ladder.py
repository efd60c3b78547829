"""How steadily the rungs from SAC to SAC-ALaM learn, and what their prices know.

python -m experiments.ladder --out=experiments/results/online.csv

Learns on a point mass among hazards, in JAX; writes a row for every rung and seed.
"""

import time

from absl import flags

from experiments import cli
from sas_jax.errors import UserError

_ALGOS = flags.DEFINE_list("algos", None, "Some of the rungs (default: all).")
_SEEDS = flags.DEFINE_integer("seeds", 5, "Training seeds, side by side.")
_UPDATES = flags.DEFINE_integer("updates", 12_000, "Updates of each.")
_CHUNK = flags.DEFINE_integer("chunk", 200, "Updates between two looks.")
_SET = flags.DEFINE_multi_string("set", [], "A setting of all rungs: model.penalty=2.")
_OUT = cli.define_path("out", "runs/ladder.csv", "CSV of the rows.")

cli.answer_help(__name__, __doc__)

import jax

from sas_jax import learners
from sas_jax.files import csv_table
from sas_jax.files.places import as_path
from sas_jax.learners import sac_alam
from sas_jax.report.tables import Table
from sas_jax.studies import ladder

# Beside the ladder, density constraints.
_RUNGS = (*sac_alam.LADDER, "dcrl")
_SHOWN = (
    "late_return", "late_cost", "late_over_limit", "return_std", "cost_std",
    "price_std", "probe_price_std", "auc_multiplier_20", "auc_shuffled_20",
)  # fmt: skip


def _rows_of(algo):
    """A row for every seed of a rung."""
    config = ladder.make_config(
        algo, seeds=_SEEDS.value, updates=_UPDATES.value, chunk=_CHUNK.value
    )
    config = learners.override(config, _SET.value)
    started = time.process_time()
    curves, states, spec = ladder.run(config)
    seconds = time.process_time() - started
    rows = []
    for seed in range(_SEEDS.value):
        row = {"algo": algo, "seed": seed, "cpu_seconds": round(seconds, 1)}
        row |= ladder.steadiness(config, curves, seed)
        if config.model.price == "state":
            state = jax.tree.map(lambda x, i=seed: x[i], states)
            row |= ladder.foretelling(config, state, spec)
        rows.append(row)
    return rows


def _rounded(row: dict) -> dict:
    """Numbers as the file has them."""
    return {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()}


def main(argv):
    """Trains rung after rung; the file is whole after each."""
    del argv
    algos = _ALGOS.value or list(_RUNGS)
    for algo in algos:
        if algo not in _RUNGS:
            known = ", ".join(_RUNGS)
            raise UserError(f"--algos: unknown {algo!r}; expected some of {known}")
    path, rows = as_path(_OUT.value), []
    path.parent.mkdir(parents=True, exist_ok=True)
    for algo in algos:
        rows += _rows_of(algo)
        csv_table.write(path, [_rounded(row) for row in rows])
        print(f"{algo}: {rows[-1]['cpu_seconds']} s of CPU", flush=True)
    cells = []
    for algo in algos:
        own = [row for row in rows if row["algo"] == algo]
        means = (sum(r.get(k, float("nan")) for r in own) / len(own) for k in _SHOWN)
        cells.append((algo, *(f"{mean:.3g}" for mean in means)))
    print(Table("means of seeds", ("algo", *_SHOWN), tuple(cells)).text())
    print(f"{len(rows)} rows in {path}")


if __name__ == "__main__":
    cli.run(main)
