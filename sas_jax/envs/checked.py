"""Checks of what an environment from outside this package returns.

Arrays of a wrong shape would be broadcast in silence, and a NaN would be learnt from.
Every fault is one line that names the task, what was returned and what was expected.
"""

import numpy as np

from sas_jax.envs import tasks
from sas_jax.envs.interface import POSE_SIZE, check_action, check_seed
from sas_jax.errors import UserError

_METHODS = ("reset", "step", "close")


class CheckedEnv:
    """An environment whose answers are checked; the interface of `PlainEnv`.

    What the environment may leave out: `pose` (then all NaN), `layout` (then empty).
    """

    def __init__(self, env, task: tasks.Task):
        """env: what a registered suite has made for `task`.

        Raises:
          UserError: it lacks a method.
        """
        self.task, self._env = task, env
        for method in _METHODS:
            if not callable(getattr(env, method, None)):
                raise UserError(
                    f"task {task.name}: its environment ({type(env).__name__}) has no "
                    f"method {method}; expected {', '.join(_METHODS)}"
                )

    def __getattr__(self, name: str):
        return getattr(self._env, name)

    def reset(self, seed: int) -> np.ndarray:
        """Starts the episode that `seed` names. Returns `[O]` float64."""
        observation = self._env.reset(check_seed(seed))
        return self._observation(observation, "reset")

    def step(self, action):
        """One step; see `PlainEnv.step`."""
        result = self._env.step(check_action(action, self.task))
        if not isinstance(result, tuple) or len(result) != 5:
            raise self._fault("step", _describe(result), "a tuple of 5")
        observation, reward, cost, terminated, truncated = result
        return (
            self._observation(observation, "step"),
            self._number(reward, "reward"),
            self._number(cost, "cost"),
            self._flag(terminated, "terminated"),
            self._flag(truncated, "truncated"),
        )

    def pose(self) -> np.ndarray:
        """Returns `[6]`; see `PlainEnv.pose`."""
        if not hasattr(self._env, "pose"):
            return np.append(np.full(POSE_SIZE - 1, np.nan), 0.0)
        pose = np.asarray(self._env.pose(), np.float64)
        if pose.shape != (POSE_SIZE,):
            raise self._fault("pose", f"shape {pose.shape}", f"({POSE_SIZE},)")
        return pose

    def layout(self) -> dict[str, np.ndarray]:
        """Name -> `[k, 3]` x, y, radius; see `PlainEnv.layout`."""
        return self._env.layout() if hasattr(self._env, "layout") else {}

    def close(self) -> None:
        """Releases the environment."""
        self._env.close()

    def _observation(self, value, method) -> np.ndarray:
        try:
            array = np.asarray(value, np.float64)
        except (TypeError, ValueError):
            raise self._fault(method, _describe(value), "an array") from None
        expected = (self.task.obs_dim,)
        if array.shape != expected:
            what = f"an observation of shape {array.shape}"
            raise self._fault(method, what, str(expected))
        if not np.isfinite(array).all():
            at = int(np.flatnonzero(~np.isfinite(array))[0])
            what = f"an observation with {array[at]} at index {at}"
            raise self._fault(method, what, "finite numbers")
        return array

    def _number(self, value, name) -> float:
        array = np.asarray(value)
        if array.shape != () or array.dtype.kind not in "fiub":
            raise self._fault("step", f"a {name} of {_describe(value)}", "one number")
        if not np.isfinite(array):
            raise self._fault("step", f"a {name} of {value}", "a finite number")
        return float(array)

    def _flag(self, value, name) -> bool:
        if not isinstance(value, (bool, np.bool_)):
            raise self._fault("step", f"{name} of {_describe(value)}", "a bool")
        return bool(value)

    def _fault(self, method, returned, expected) -> UserError:
        return UserError(
            f"task {self.task.name}: {method} returned {returned}; expected {expected}"
        )


def _describe(value) -> str:
    """A value's kind, for a line of text."""
    if isinstance(value, np.ndarray):
        return f"shape {value.shape}"
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__
