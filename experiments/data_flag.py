"""The flag --data: one reading of offline data for every entry point."""

from absl import flags

from experiments import cli
from sas_jax.errors import UserError

_DATA = cli.define_path(
    "data", None, "HDF5 file in DSRL's layout, or a task whose DSRL file to get."
)
_ALLOW = flags.DEFINE_bool(
    "allow_breaks", False, "Take rows that do not follow one another, with a warning."
)


def value() -> str | None:
    """What --data says."""
    return _DATA.value


def load(task: str | None = None, *, default: str | None = None, is_shown: bool = True):
    """Reads what --data names, and says which file that was.

    Args:
      task: what the data must be of; None leaves it to the data.
      default: what to load without --data.
      is_shown: print the file's name.

    Returns:
      `Episodes`.

    Raises:
      UserError: no --data, or anything that `dsrl.load` refuses.
    """
    from sas_jax.data import dsrl  # needs h5py, which not every entry point does

    name = _DATA.value or default
    if not name:
        raise UserError("--data is missing; expected a file or the name of a task")
    try:
        episodes = dsrl.load(name, task=task, allow_breaks=_ALLOW.value)
    except UserError as error:
        raise UserError(f"--data: {error}") from error
    if is_shown:
        print(
            f"data: {episodes.source}: {episodes.num_episodes} episodes of "
            f"{episodes.task}, {episodes.num_steps} steps"
        )
    return episodes


def split(episodes, config, spec, checkpoint: str):
    """The training and the held-out part of what a checkpoint was trained on.

    config, spec: of the checkpoint. checkpoint: its name, for the error.

    Raises:
      UserError: other data, whose "held-out" episodes may have been trained on.
    """
    training, held_out = episodes.split(config.train.held_out, seed=config.train.seed)
    if training.fingerprint() != spec.fingerprint:
        raise UserError(
            f"--data {episodes.source}: not the file that {checkpoint} was trained "
            "on; its held-out episodes may have been seen"
        )
    return training, held_out
