"""Runs the plain and the fast path side by side and compares every number.

Used by tests, and by anyone who wants to know whether the fast path may be trusted with
other versions of MuJoCo or numpy than those it was written under.
"""

import time
from typing import NamedTuple

import numpy as np

from sas_jax.envs import tasks
from sas_jax.envs.make import make as make_env

_PUSH_EVERY = 60  # steps between helping hands for the box


class Parity(NamedTuple):
    """What one episode on both paths showed.

    steps: steps compared. goals: goals reached. cost: episode cost.
    observation_error: largest absolute difference of an observation entry.
    mismatches: steps on which reward, cost or an end differed in any bit.
    same_stream: whether both random generators ended in the same state.
    plain_seconds, lean_seconds: time in the steps alone, for each path.
    """

    steps: int
    goals: int
    cost: float
    observation_error: float
    mismatches: int
    same_stream: bool
    plain_seconds: float
    lean_seconds: float


def compare(task_name: str, seed: int, num_steps: int | None = None) -> Parity:
    """Drives one episode through goals and hazards on both paths.

    num_steps: stop after so many steps; default the whole episode.
    """
    task = tasks.get_task(task_name)
    plain = make_env(task.name, lean=False)
    lean = make_env(task.name, lean=True)
    rng = np.random.default_rng([seed, 1])
    observation, other = plain.reset(seed), lean.reset(seed)
    error = np.abs(observation - other).max()
    steps = goals = mismatches = 0
    cost = plain_seconds = lean_seconds = 0.0
    ended = False
    while not ended and steps != num_steps:
        action = drive(task, observation) + rng.normal(0.0, 0.3, task.action_dim)
        if "push_box_lidar" in task.obs_groups and steps % _PUSH_EVERY == 0:
            offset = rng.choice([0.0, 0.5])
            _put_box_near_goal(plain, offset)
            _put_box_near_goal(lean, offset)
        goal_before = plain.pose()[3:5]
        started = time.perf_counter()
        result = plain.step(action)
        between = time.perf_counter()
        fast_result = lean.step(action)
        lean_seconds += time.perf_counter() - between
        plain_seconds += between - started
        observation = result[0]
        error = max(error, np.abs(observation - fast_result[0]).max())
        mismatches += result[1:] != fast_result[1:]
        mismatches += not np.array_equal(plain.pose(), lean.pose(), equal_nan=True)
        goals += not np.array_equal(goal_before, plain.pose()[3:5], equal_nan=True)
        cost += result[2]
        ended = result[3] or result[4]
        steps += 1
    same = _stream(plain) == _stream(lean)
    plain.close()
    lean.close()
    return Parity(
        steps, goals, cost, float(error), mismatches, same, plain_seconds, lean_seconds
    )


def drive(task, observation) -> np.ndarray:
    """Steers to the nearest goal, straight on where there is none. Returns `[2]`."""
    group = task.obs_groups.get("goal_lidar")
    if group is None:
        return np.array([1.0, 0.0] if task.name.startswith("Point") else [1.0, 1.0])
    heading = (np.argmax(observation[group]) + 0.5) * 22.5
    if task.name.startswith("Point"):
        turn = (heading + 180.0) % 360.0 - 180.0
        return np.array([1.0 if abs(turn) < 60 else 0.2, np.clip(turn / 30, -1, 1)])
    turn = (heading + 90.0 + 180.0) % 360.0 - 180.0  # a car drives along its -y
    if abs(turn) > 90:
        return np.array([np.sign(turn), -np.sign(turn)])
    return 1.0 + np.clip(turn / 60, -1, 1) * np.array([1.0, -1.0])


def _put_box_near_goal(env, offset: float) -> None:
    """Moves the box of a Push task to its goal, or beside it by `offset` in x and y."""
    suite = env.unwrapped.task
    start = suite.model.joint("push_box").qposadr[0]
    suite.data.qpos[start : start + 2] = suite.data.body("goal").xpos[:2] + offset


def _stream(env) -> tuple:
    """State of an environment's random generator, comparable."""
    state = env.unwrapped.task.random_generator.random_generator.get_state(legacy=False)
    return state["state"]["key"].tobytes(), state["state"]["pos"]
