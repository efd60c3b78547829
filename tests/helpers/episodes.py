"""Whole episodes of single environments as bytes that tests compare."""

import numpy as np

from tests.helpers import parity


def action_for(task, observation, rng) -> np.ndarray:
    """Drives at goals and into things, not quite straight; any push elsewhere."""
    if task.obs_groups:
        noise = rng.normal(0.0, 0.3, task.action_dim)
        return parity.drive(task, observation) + noise
    return rng.uniform(-1.0, 1.0, task.action_dim)


def rows_of(env, seed: int, num_steps: int | None = None) -> list[np.ndarray]:
    """Runs an episode; one row `[O + 4]` a moment, as float64.

    A row is the observation, reward, cost, terminated and truncated.
    """
    rng = np.random.default_rng([seed, 3])
    observation = env.reset(seed)
    rows = [np.append(observation, np.zeros(4))]
    while len(rows) - 1 != num_steps:
        observation, *rest = env.step(action_for(env.task, observation, rng))
        rows.append(np.append(observation, rest))
        if rest[2] or rest[3]:
            break
    return rows


def bytes_of(env, seed: int, num_steps: int | None = None) -> bytes:
    """The rows' bytes: equal if and only if the episodes are, bit for bit."""
    return np.concatenate(rows_of(env, seed, num_steps)).tobytes()
