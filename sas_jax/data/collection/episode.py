"""One recorded episode: running it, and the part file that keeps it."""

import os
import pathlib
import zipfile
from collections.abc import Callable

import numpy as np

from sas_jax.data.behaviours import dials as behaviours_dials
from sas_jax.data.behaviours import given
from sas_jax.data.collection.plan import Plan

_ARRAYS = ("observations", "actions", "rewards", "costs", "terminated")


def record(
    env, plan: Plan, episode: int, *, on_step: Callable[[], None] = lambda: None
) -> dict[str, np.ndarray]:
    """Runs one episode.

    env: of the plan's task, in the world that the plan has for the episode. on_step:
    called before every action.

    Returns:
      observations `[T + 1, O]`, actions `[T, A]`, rewards `[T]`, costs `[T]` (float32)
      and terminated `[]` bool. The actions are those that acted, in [-1, 1].
    """
    observation = env.reset(plan.environment_seed(episode))
    if plan.policy:
        act = given.start(env.task, plan.policy, plan.seed, episode)
    else:
        dials = plan.dials(episode)
        act = behaviours_dials.start(env, plan.task, dials, plan.seed, episode)
    told = getattr(act, "told", lambda reward, cost: None)
    observations, actions, rewards, costs = [observation], [], [], []
    while True:
        on_step()
        action = act(observation)
        observation, reward, cost, terminated, truncated = env.step(action)
        told(reward, cost)
        observations.append(observation)
        actions.append(action)
        rewards.append(reward)
        costs.append(cost)
        if terminated or truncated:
            break
    return {
        "observations": np.array(observations, np.float32),
        "actions": np.array(actions, np.float32),
        "rewards": np.array(rewards, np.float32),
        "costs": np.array(costs, np.float32),
        "terminated": np.array(terminated),
    }


def part_path(parts: pathlib.Path, episode: int) -> pathlib.Path:
    """Where the part of an episode lies."""
    return parts / f"episode_{episode:06d}.npz"


def load_part(parts: pathlib.Path, episode: int) -> dict[str, np.ndarray] | None:
    """Returns a recorded part, None if it is absent or damaged (then run it again)."""
    try:
        with np.load(part_path(parts, episode), allow_pickle=False) as file:
            return {name: file[name] for name in _ARRAYS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def write_part(parts: pathlib.Path, episode: int, arrays: dict) -> None:
    """Writes a part whole or not at all; OSError where that cannot be."""
    temporary = parts / f".episode_{episode:06d}.{os.getpid()}.npz"
    try:
        np.savez(temporary, **arrays)
        os.replace(temporary, part_path(parts, episode))
    finally:
        temporary.unlink(missing_ok=True)
