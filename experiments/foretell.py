"""Which learnt risk foretells a cost: critics and prices, asked about held-out steps.

python -m experiments.foretell --data=data/pg1.hdf5 --out=runs/foretold.csv \
    --critics=runs/demo/model/critic.npz,runs/cpq,runs/sac_alam

A critic is a file of experiments.critic, or a checkpoint of a learner with one. Where
states have prices (SAC-ALaM and its kin), these are asked, too. `shuffled` is the
control: each step has the risk of another (sas_jax/studies/foretelling.py).
"""

from pathlib import Path

from absl import flags

from experiments import cli, data_flag
from sas_jax.errors import UserError

_CRITICS = flags.DEFINE_list("critics", None, "Files or workdirs.")
_HELD_OUT = flags.DEFINE_float("held_out", 0.1, "Share that training held out.")
_SEED = cli.define_seed("seed", 0, "Training seed, of which the split is.")
_OUT = cli.define_path("out", "runs/foretold.csv", "CSV of the rows.")

cli.answer_help(__name__, __doc__)

from sas_jax.files import atomic, csv_table
from sas_jax.report.tables import Table
from sas_jax.studies import foretelling


def main(argv):
    """Asks all of them, writes the rows, prints the table."""
    del argv
    if not _CRITICS.value or not data_flag.value():
        raise UserError("--critics and --data: expected both")
    atomic.probe(_OUT.value)
    held_out, spec = foretelling.held_out_part(
        data_flag.load(), _HELD_OUT.value, _SEED.value
    )
    # All are read, and refused, before the first is asked.
    asked = [(path, foretelling.signals_of(path, spec)) for path in _CRITICS.value]
    rows = []
    for path, signals in asked:
        for found in foretelling.foretell(signals, held_out):
            auc = found.auc
            rows.append(
                {
                    "critic": Path(path).name,
                    "signal": found.name,
                    "horizon": found.horizon,
                    "auc": f"{auc.mean:.4f}",
                    "low": f"{auc.low:.4f}",
                    "high": f"{auc.high:.4f}",
                    "base": f"{found.base:.4f}",
                    "episodes": auc.num_clusters,
                }
            )
    csv_table.write(_OUT.value, rows)
    header = ("critic", "signal", "steps", "AUROC", "base rate")
    cells = [
        (
            row["critic"],
            row["signal"],
            str(row["horizon"]),
            f"{row['auc']} [{row['low']}, {row['high']}]",
            row["base"],
        )
        for row in rows
    ]
    note = f"{held_out.num_episodes} held-out episodes; 0.95 intervals over them"
    title = f"{held_out.task}: a cost within so many steps"
    print(Table(title, header, tuple(cells), (note,)).text())
    print(_OUT.value)


if __name__ == "__main__":
    cli.run(main)
