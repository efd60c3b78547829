"""What all environments here share: the size of a pose, and checks of what comes in."""

from typing import Any

import numpy as np

from sas_jax.envs import tasks
from sas_jax.errors import UserError

# Agent x, y, yaw, goal x, y, 0.
POSE_SIZE = 6


def check_seed(seed: int) -> int:
    """Returns `seed` as an int that every suite's generator accepts.

    Raises:
      UserError: not an integer in [0, 2**32).
    """
    if isinstance(seed, (bool, np.bool_)) or not isinstance(seed, (int, np.integer)):
        raise UserError(f"seed {seed!r}: expected an integer in [0, 2**32)")
    if not 0 <= seed < 2**32:
        raise UserError(f"seed {seed}: expected an integer in [0, 2**32)")
    return int(seed)


def check_action(action: Any, task: tasks.Task) -> np.ndarray:
    """Returns `action` as `[A]` float64, clipped to the box of all tasks, [-1, 1].

    The suites clip what acts, but Velocity tasks charge their control cost for the
    action as it was given. Clipped before, the action that a data set or a report holds
    is the one that acted and the one that was paid for.

    Raises:
      UserError: a wrong shape, NaN or infinity.
    """
    action = np.asarray(action, dtype=np.float64)
    if action.shape != (task.action_dim,):
        raise UserError(
            f"task {task.name}: action of shape {action.shape}: expected "
            f"({task.action_dim},)"
        )
    if not np.isfinite(action).all():
        raise UserError(f"task {task.name}: action is not finite: expected floats")
    return np.minimum(np.maximum(action, -1.0), 1.0)
