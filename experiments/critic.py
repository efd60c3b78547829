"""Fits the cost critic of a checkpoint to its data and measures it on held-out data.

python -m experiments.critic --checkpoint=runs/pg1_dt --data=data/pg1.hdf5 \
    --out=runs/pg1_dt/critic.npz --set=horizon=15 --set=members=4

Episodes are split as the checkpoint's training split them. The report is printed and
written as JSON beside the critic.
"""

import json

from absl import flags
from tqdm import tqdm

from experiments import cli, data_flag, settings_flag
from sas_jax.errors import UserError

_CHECKPOINT = cli.define_path("checkpoint", None, "Workdir of experiments.train.")
_STEP = flags.DEFINE_integer("step", None, "Training step (default: the last).")
_OUT = cli.define_path("out", None, "Critic (default: CHECKPOINT/critic.npz).")
_SEED = cli.define_seed("seed", 0, "Of the members' weights and batches.")

cli.answer_help(__name__, __doc__)

from sas_jax import checkpoint
from sas_jax import config as config_lib
from sas_jax.critic.file import save_critic
from sas_jax.critic.fit import fit_critic
from sas_jax.critic.network import CriticConfig
from sas_jax.files import atomic
from sas_jax.report.critic_table import critic_tables


def main(argv):
    """Fits, saves, prints the tables."""
    del argv
    if not _CHECKPOINT.value or not data_flag.value():
        raise UserError("--checkpoint and --data: expected both")
    config = settings_flag.apply(
        CriticConfig(), merge=config_lib.merge, override=config_lib.override
    )
    loaded = checkpoint.load(_CHECKPOINT.value, _STEP.value)
    train = loaded.config.train
    out = _OUT.value or f"{_CHECKPOINT.value}/critic.npz"
    atomic.probe(out)
    episodes = data_flag.load(loaded.config.task)
    data_flag.split(episodes, loaded.config, loaded.spec, _CHECKPOINT.value)
    with tqdm(desc="critic", unit="step", total=config.num_steps) as bar:

        def show(step, losses):
            bar.update(step - bar.n)
            bar.set_postfix(held_out_loss=f"{losses.mean():.4f}", refresh=False)

        critic, report = fit_critic(
            episodes,
            loaded.spec,
            config,
            _SEED.value,
            held_out=train.held_out,
            split_seed=train.seed,
            on_look=show,
        )
    save_critic(out, critic, report)
    atomic.write_text(f"{out}.json", json.dumps(report, indent=1))
    for table in critic_tables(report):
        print(table.text())
    print(out)


if __name__ == "__main__":
    cli.run(main)
