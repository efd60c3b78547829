"""What all environments here share: the size of a pose, and checks of what comes in."""

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


def check_action(action, task: tasks.Task) -> np.ndarray:
    """Returns `action` as `[A]` float64 (the suites want arrays), or ValueError."""
    action = np.asarray(action, dtype=np.float64)
    if action.shape != (task.action_dim,):
        raise ValueError(
            f"action of shape {action.shape}: expected ({task.action_dim},)"
        )
    return action
