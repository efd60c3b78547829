"""Whether data can be trained on, and what about them deserves a warning."""

import warnings

import numpy as np

from sas_jax.data.dsrl import DataWarning
from sas_jax.data.episodes import Episodes
from sas_jax.envs import tasks
from sas_jax.errors import UserError

_BLOCK = 1 << 16
_MAX_LISTED = 8
# A column whose standard deviation is below this share of its magnitude is constant.
_CONSTANT = 1e-6
# The point robot moves in a plane: what these of its sensors read never changes.
_PLANAR = {"accelerometer": (2,), "velocimeter": (2,), "gyro": (0, 1)}
_PLANAR |= {"magnetometer": (2,)}


class ConstantColumnWarning(DataWarning):
    """A column never changes, and nothing about the task says that it should not."""


class ShortEpisodeWarning(DataWarning):
    """Episodes have fewer steps than the model's context."""


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
    """Raises UserError with episode, step and column of the first NaN or infinity."""
    for name in ("observations", "actions", "rewards", "costs"):
        array = getattr(episodes, name)
        for first in range(0, len(array), _BLOCK):
            block = array[first : first + _BLOCK]
            if np.isfinite(block).all():
                continue
            row, *column = np.argwhere(~np.isfinite(block))[0]
            episode = int(np.searchsorted(episodes.offsets, first + row, "right")) - 1
            step = first + row - episodes.offsets[episode]
            value = block[(row, *column)]
            raise UserError(_where(episodes, name, value, episode, step, column))
    finals = episodes.final_observations
    if not np.isfinite(finals).all():
        episode, column = np.argwhere(~np.isfinite(finals))[0]
        step = episodes.lengths[episode]
        value = finals[episode, column]
        raise UserError(
            _where(episodes, "final_observations", value, episode, step, [column])
        )


def _where(episodes, name, value, episode, step, column) -> str:
    place = f"episode {episode}, step {step}"
    place += f", column {column[0]}" if len(column) else ""
    return (
        f"data of {episodes.task}: {name} has {value} in {place}; expected finite "
        "numbers"
    )


def known_constants(task: str) -> frozenset[int]:
    """Observation columns of a task that cannot change."""
    if not task.startswith("Point"):
        return frozenset()
    groups = tasks.get_task(task).obs_groups
    return frozenset(
        groups[name].start + offset
        for name, offsets in _PLANAR.items()
        for offset in offsets
    )


def constant_columns(array: np.ndarray) -> np.ndarray:
    """Numbers of the columns of `[S, C]` that do not vary."""
    mean = array.mean(axis=0, dtype=np.float64)
    largest = np.maximum(array.max(0) - mean, mean - array.min(0))
    return np.flatnonzero(largest <= _CONSTANT * np.maximum(1.0, np.abs(mean)))


def warn(episodes: Episodes, *, context: int) -> None:
    """Warns of what training survives but its owner should know.

    Warns:
      ConstantColumnWarning: columns that never change, but for the task's known ones;
        they are copied by the world model and left out of its densities.
      ShortEpisodeWarning: episodes with fewer than `context` steps; they are padded.
    """
    known = known_constants(episodes.task)
    for name, array, expected in (
        ("observation", episodes.observations, known),
        ("action", episodes.actions, frozenset()),
    ):
        found = [int(c) for c in constant_columns(array) if int(c) not in expected]
        if found:
            listed = ", ".join(map(str, found[:_MAX_LISTED]))
            if len(found) > _MAX_LISTED:
                listed += f" and {len(found) - _MAX_LISTED} more"
            warnings.warn(
                f"data of {episodes.task}: constant {name} columns: {listed}; nothing "
                "can be learnt about them",
                ConstantColumnWarning,
                stacklevel=3,
            )
    short = np.flatnonzero(episodes.lengths < context)
    if short.size:
        warnings.warn(
            f"data of {episodes.task}: {short.size} of {episodes.num_episodes} "
            f"episodes are shorter than the context of {context} steps (shortest: "
            f"{episodes.lengths.min()}); they are padded",
            ShortEpisodeWarning,
            stacklevel=3,
        )
