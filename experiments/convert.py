"""Converts offline data between the kinds that people have.

python -m experiments.convert --data=hopper_medium-v2.hdf5 --task=Hopper --out=h.npz
python -m experiments.convert --data=minari:mujoco/hopper/medium-v0 --task=Hopper
python -m experiments.convert --data=data/pg1.hdf5 --out=minari:mine/pg1-v0

--data: an HDF5 file in DSRL's or D4RL's layout, an NPZ archive, or minari:NAME.
--out: what its name says: minari:NAME, an .npz file, else DSRL's HDF5 layout (which
D4RL's readers read, too).
"""

import re
from pathlib import Path

from absl import flags

from experiments import cli, data_flag
from sas_jax.errors import UserError
from sas_jax.files import places

_TASK = flags.DEFINE_string("task", None, "Task, where the data do not tell.")
_OUT = cli.define_path("out", None, "File, or minari:NAME (default: data/TASK.hdf5).")
_MINARI = "minari:"

cli.answer_help(__name__, __doc__)


def main(argv):
    """Reads, writes, and says what was written."""
    del argv
    from sas_jax.data import dsrl, minari_sets, npz

    episodes = data_flag.load(_TASK.value)
    stem = re.sub("[^A-Za-z0-9._-]+", "_", episodes.task)
    out = _OUT.value or f"data/{stem}.hdf5"
    if out.startswith(_MINARI):
        minari_sets.write(out.removeprefix(_MINARI), episodes)
    elif not places.is_url(out) and Path(out).exists():
        raise UserError(f"--out: {out} exists already; expected a new file")
    elif out.endswith(".npz"):
        npz.write(out, episodes)
    else:
        dsrl.write(out, episodes)
    returns, costs = episodes.returns(), episodes.cost_returns()
    print(
        f"{out}: {episodes.num_episodes} episodes of {episodes.task}, return "
        f"{returns.mean():.1f}, cost {costs.mean():.1f} (means)"
    )


if __name__ == "__main__":
    cli.run(main)
