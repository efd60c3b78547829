"""Writes a checkpoint's policy as one small file, without the optimiser's state.

python -m experiments.pack --checkpoint=runs/demo/model --out=pg1.zip

Whatever takes a --checkpoint to act with takes the file as well.
"""

from absl import flags

from experiments import cli
from sas_jax.errors import UserError

_CHECKPOINT = cli.define_path("checkpoint", None, "Workdir of experiments.train.")
_STEP = flags.DEFINE_integer("step", None, "Training step (default: the last).")
_OUT = cli.define_path("out", None, "File to write.", is_local=True)

cli.answer_help(__name__, __doc__)


def main(argv):
    """Packs, and says where the file is and how large."""
    del argv
    for name, flag in (("checkpoint", _CHECKPOINT), ("out", _OUT)):
        if not flag.value:
            raise UserError(f"--{name}: expected a path")
    from sas_jax import checkpoint, packed

    path = packed.pack(checkpoint.load(_CHECKPOINT.value, _STEP.value), _OUT.value)
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    cli.run(main)
