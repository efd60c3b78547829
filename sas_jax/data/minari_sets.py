"""Minari data sets, through Minari's own package (the extra `minari`).

A set's episodes may have any length. Costs lie in infos, as safety environments report
them: `infos["cost"]`, one for every step, or one more for the reset, which is dropped.
"""

from types import ModuleType
from typing import Any

import numpy as np

from sas_jax.data import conventions
from sas_jax.data.episodes import Episodes
from sas_jax.envs import tasks
from sas_jax.envs.suites.notices import without_adroit_notice
from sas_jax.errors import UserError

PREFIX = "minari:"


def _minari() -> ModuleType:
    try:
        with without_adroit_notice():
            import minari
    except ImportError as error:
        raise UserError(
            f"Minari data need the package minari ({error}); expected the extra "
            "[minari] to be installed"
        ) from error
    return minari


def load(name: str, *, task: str | None, allow_breaks: bool = False) -> Episodes:
    """Reads a set of this machine; Minari's `download` brings others here.

    Args:
      name: its id, such as ``"D4RL/pen/human-v2"``. task: of the registry; None where
        the environment that the set names is a task's.
      allow_breaks: passed on; a set's rows follow one another.

    Raises:
      UserError: no such set, spaces that are no boxes, no task, or what
        `conventions.to_episodes` says.
    """
    source = f"{PREFIX}{name}"
    minari = _minari()
    try:
        found = minari.load_dataset(name)
        parts = [_arrays(episode, source) for episode in found.iterate_episodes()]
        low, high = _bounds(found.spec.action_space, source)
        env_spec = found.spec.env_spec
    except UserError:
        raise
    except Exception as error:  # Minari raises many kinds
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{source}: cannot be read ({type(error).__name__}: {reason}); expected a "
            "data set of this machine (minari list local; minari download NAME)"
        ) from error
    if task is None:
        task = _task_of(env_spec, source)
    for part in parts:
        # Ours act in [-1, 1].
        part["actions"] = (part["actions"] - low) / (high - low) * 2.0 - 1.0
    return conventions.from_dict(
        parts, task=task, source=source, allow_breaks=allow_breaks
    )


def _arrays(episode: Any, source: str) -> dict[str, np.ndarray]:
    """One episode's arrays, a row for every step."""
    rewards = np.asarray(episode.rewards)
    steps = len(rewards)
    if not (
        isinstance(episode.observations, np.ndarray) and episode.observations.ndim == 2
    ):
        raise UserError(
            f"{source}: observations of type {type(episode.observations).__name__}; "
            "expected vectors"
        )
    arrays = {
        "observations": episode.observations[:-1],
        "next_observations": episode.observations[1:],
        "actions": np.asarray(episode.actions, np.float64),
        "rewards": rewards,
        "terminals": np.asarray(episode.terminations),
        "timeouts": np.asarray(episode.truncations),
    }
    if not (arrays["terminals"][-1] or arrays["timeouts"][-1]):
        arrays["timeouts"][-1] = True  # the recorder was stopped
    for key in ("cost", "costs"):
        if episode.infos and key in episode.infos:
            costs = np.asarray(episode.infos[key], np.float64).reshape(-1)
            if len(costs) not in (steps, steps + 1):
                raise UserError(
                    f"{source}: infos[{key!r}] of episode {episode.id} has "
                    f"{len(costs)} rows for {steps} steps"
                )
            arrays["costs"] = costs[-steps:]
            break
    return arrays


def _bounds(space: Any, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Bounds `[A]` of the set's actions; [-1, 1] where its box has none."""
    if type(space).__name__ != "Box" or len(space.shape) != 1:
        raise UserError(f"{source}: actions of {space}; expected a Box of one axis")
    low, high = (np.asarray(x, np.float64) for x in (space.low, space.high))
    has = np.isfinite(low) & np.isfinite(high)
    return np.where(has, low, -1.0), np.where(has, high, 1.0)


def _task_of(env_spec: Any, source: str) -> str:
    """The task whose environment the set names."""
    env_id = getattr(env_spec, "id", None)
    for task in tasks.TASKS.values():
        if env_id is not None and task.env_id == env_id:
            return task.name
    raise UserError(
        f"{source}: recorded in {env_id or 'no environment that it names'}, which is "
        f"no task here; pass task=NAME (or task=gymnasium:{env_id or 'ID'})"
    )


def write(name: str, episodes: Episodes) -> None:
    """Writes a set of this machine; costs go to ``infos["cost"]``.

    Args:
      name: its id, such as ``"mine/PointGoal1/varied-v0"``.

    Raises:
      UserError: Minari is not installed, or refuses the name or the data.
    """
    minari = _minari()
    import warnings

    import gymnasium
    from minari.data_collector.episode_buffer import EpisodeBuffer

    task = tasks.get_task(episodes.task)
    boxes = (
        gymnasium.spaces.Box(-np.inf, np.inf, (episodes.obs_dim,), np.float32),
        gymnasium.spaces.Box(-1.0, 1.0, (episodes.action_dim,), np.float32),
    )
    try:
        with warnings.catch_warnings():
            # It asks for an author and an environment, which a recording may not have.
            warnings.simplefilter("ignore", UserWarning)
            minari.create_dataset_from_buffers(
                name,
                [_buffer(EpisodeBuffer, episodes, e) for e in _numbers(episodes)],
                observation_space=boxes[0],
                action_space=boxes[1],
                algorithm_name="sas_jax",
                description=f"Episodes of {task.name} ({task.env_id}).",
                data_format="hdf5",
            )
    except Exception as error:  # Minari raises many kinds
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{PREFIX}{name}: cannot be written ({type(error).__name__}: {reason}); "
            "expected a new id of the form NAMESPACE/NAME-v0"
        ) from error


def _numbers(episodes: Episodes) -> range:
    return range(episodes.num_episodes)


def _buffer(make: Any, episodes: Episodes, e: int) -> Any:
    """One episode as Minari's buffer: T + 1 observations, T + 1 infos."""
    rows = slice(episodes.offsets[e], episodes.offsets[e + 1])
    steps = int(episodes.lengths[e])
    flags = np.zeros((2, steps), bool)
    flags[0, -1], flags[1, -1] = episodes.terminated[e], ~episodes.terminated[e]
    finals = episodes.final_observations[e : e + 1]
    return make(
        id=e,
        observations=np.concatenate([episodes.observations[rows], finals]),
        actions=np.clip(episodes.actions[rows], -1.0, 1.0),
        rewards=episodes.rewards[rows],
        terminations=flags[0],
        truncations=flags[1],
        # The reset costs nothing.
        infos={"cost": np.append(np.float32(0), episodes.costs[rows])},
    )
