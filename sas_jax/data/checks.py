"""Whether data can be trained on, and what about them deserves a warning."""

import warnings

import numpy as np

from sas_jax.data import findings
from sas_jax.data.dsrl import DataWarning
from sas_jax.data.episodes import Episodes
from sas_jax.data.hdf5 import LARGEST
from sas_jax.errors import UserError

_BLOCK = 1 << 16


def check_task(episodes: Episodes, task: str, *, owner: str) -> None:
    """Raises UserError where data are of another task than `owner`'s."""
    if episodes.task != task:
        raise UserError(
            f"data of {episodes.task}: expected {task}, the task of {owner}"
        )


def check_sizes(
    episodes: Episodes, obs_dim: int, action_dim: int, *, owner: str
) -> None:
    """Raises UserError where data have other sizes than `owner`, e.g. a checkpoint."""
    sizes = (episodes.obs_dim, episodes.action_dim)
    if sizes != (obs_dim, action_dim):
        raise UserError(
            f"data of {episodes.task}: observations of size {sizes[0]} and actions of "
            f"size {sizes[1]}; expected {obs_dim} and {action_dim} as in {owner}"
        )


def check_finite(episodes: Episodes) -> None:
    """Raises UserError with episode, step and column of the first NaN or infinity.

    Numbers beyond `hdf5.LARGEST` are refused as well: their squares are infinite.
    """
    for name in ("observations", "actions", "rewards", "costs"):
        array = getattr(episodes, name)
        for first in range(0, len(array), _BLOCK):
            block = array[first : first + _BLOCK]
            wrong = ~(np.abs(block) <= LARGEST)
            if not wrong.any():
                continue
            row, *column = np.argwhere(wrong)[0]
            episode = int(np.searchsorted(episodes.offsets, first + row, "right")) - 1
            step = first + row - episodes.offsets[episode]
            value = block[(row, *column)]
            raise UserError(_where(episodes, name, value, episode, step, column))
    finals = episodes.final_observations
    wrong = ~(np.abs(finals) <= LARGEST)
    if wrong.any():
        episode, column = np.argwhere(wrong)[0]
        step = episodes.lengths[episode]
        value = finals[episode, column]
        raise UserError(
            _where(episodes, "final_observations", value, episode, step, [column])
        )


def _where(episodes, name, value, episode, step, column) -> str:
    place = f"episode {episode}, step {step}"
    place += f", column {column[0]}" if len(column) else ""
    return (
        f"data of {episodes.task}: {name} has {value:g} in {place}; expected finite "
        f"numbers of at most {LARGEST:g} in size"
    )


def warn(episodes: Episodes, *, context: int) -> None:
    """Warns of all `findings.look` finds, and of episodes shorter than the context.

    Args:
      episodes: the data.
      context: steps that a model sees at once.

    Warns:
      DataWarning: one each; the text begins with the finding's name.
    """
    found = findings.look(episodes)
    short = np.flatnonzero(episodes.lengths < context)
    if short.size:
        text = (
            f"{short.size} of {episodes.num_episodes} episodes are shorter than the "
            f"context of {context} steps (shortest: {episodes.lengths.min()}); they "
            "are padded"
        )
        found.append(findings.Finding("shorter-than-context", text))
    for finding in found:
        warnings.warn(f"{finding} (data of {episodes.task})", DataWarning, stacklevel=3)
