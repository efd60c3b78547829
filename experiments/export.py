"""Writes a trained policy as a file that JAX alone can run.

python -m experiments.export --checkpoint=runs/pg1_dt --out=pg1_dt.zip

docs/howto/bring_your_policy.md has a script that runs it without this package.
"""

from absl import flags

from experiments import cli
from sas_jax.errors import UserError

_CHECKPOINT = cli.define_path("checkpoint", None, "Workdir of experiments.train.")
_STEP = flags.DEFINE_integer("step", None, "Training step (default: the last).")
_VARIANT = flags.DEFINE_string("variant", None, "Variant (default: sas, or none).")
_EPISODES = flags.DEFINE_integer("episodes", 1, "Episodes side by side.")
_TRAIN_SEED = flags.DEFINE_integer("train_seed", 0, "Index of the training seed.")
_CRITIC = cli.define_path(
    "critic", None, "File of experiments.critic, or a checkpoint with a cost critic."
)
_ASKING = cli.define_path("asking", None, "File of experiments.asking, if needed.")
_SUPPORT = cli.define_path("support", None, "File of experiments.support, if needed.")
_PLATFORMS = flags.DEFINE_list("platforms", None, "E.g. cpu,cuda (default: this one).")
_OUT = cli.define_path("out", None, "File (default: CHECKPOINT/policy.zip).")

cli.answer_help(__name__, __doc__)


def main(argv):
    """Exports and says where the file is."""
    del argv
    if not _CHECKPOINT.value:
        raise UserError("--checkpoint: expected a workdir of experiments.train")
    from sas_jax import api, exporting

    loaded = api.load_policy(
        _CHECKPOINT.value,
        variants=None if _VARIANT.value is None else (_VARIANT.value,),
        step=_STEP.value,
        train_seed=_TRAIN_SEED.value,
        critic=_CRITIC.value,
        asking=_ASKING.value,
        support=_SUPPORT.value,
    )
    path = exporting.export_policy(
        loaded,
        _OUT.value or f"{_CHECKPOINT.value}/policy.zip",
        episodes=_EPISODES.value,
        platforms=None if _PLATFORMS.value is None else tuple(_PLATFORMS.value),
    )
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    cli.run(main)
