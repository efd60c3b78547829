"""Fits the cost critic of a checkpoint to its data and measures it on held-out data.

python -m experiments.critic --checkpoint=runs/pg1_dt --data=data/pg1.hdf5 \
    --out=runs/pg1_dt/critic.npz --set=horizon=15 --set=members=4

Episodes are split as the checkpoint's training split them. The report is printed and
written as JSON beside the critic.
"""

from absl import flags

from experiments import cli

_CHECKPOINT = cli.define_path("checkpoint", None, "Workdir of experiments.train.")
_STEP = flags.DEFINE_integer("step", None, "Training step (default: the last).")
_OUT = cli.define_path("out", None, "Critic (default: CHECKPOINT/critic.npz).")
_SEED = cli.define_seed("seed", 0, "Of the members' weights and batches.")

from experiments import fitting

cli.answer_help(__name__, __doc__)

from sas_jax.critic.file import save_critic
from sas_jax.critic.fit import fit_critic
from sas_jax.critic.network import CriticConfig
from sas_jax.report.critic_table import critic_tables


def main(argv):
    """Fits, saves, prints the tables."""
    del argv
    report, path = fitting.fit_beside(
        "critic",
        fit_critic,
        save_critic,
        CriticConfig(),
        workdir=_CHECKPOINT.value,
        step=_STEP.value,
        seed=_SEED.value,
        out=_OUT.value,
    )
    for table in critic_tables(report):
        print(table.text())
    print(path)


if __name__ == "__main__":
    cli.run(main)
