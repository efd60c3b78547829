"""The eight bullet-safety-gym tasks of DSRL, behind the interface of `PlainEnv`.

An extra: pybullet has wheels up to Python 3.11 only. The suite ignores seeds, and its
episodes depend on those that came before in the same process (joint motors and
controllers outlive a reset). Here every episode gets a simulation of its own, made
under a seeded generator, so that task, seed and actions decide everything.
"""

import contextlib
import random
import sys

import numpy as np

from sas_jax.envs.interface import POSE_SIZE, check_action, check_seed
from sas_jax.errors import UserError


def _import_suite():
    """Imports the suite, which registers its environments.

    Raises:
      UserError: it is not installed.
    """
    try:
        import bullet_safety_gym  # noqa: F401
        import gymnasium
    except ModuleNotFoundError as error:
        version = ".".join(map(str, sys.version_info[:2]))
        raise UserError(
            f"bullet-safety-gym cannot be imported ({error}; Python {version}); "
            "expected Python 3.11 with bullet-safety-gym and pybullet installed"
        ) from error
    return gymnasium


@contextlib.contextmanager
def _global_generators_seeded(seed: int):
    """The suite draws from the global generators: seeds them, then puts them back."""
    states = np.random.get_state(), random.getstate()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(states[0])  # noqa: NPY002
        random.setstate(states[1])


def make(task, lean: bool) -> "BulletEnv":
    """Makes an environment; there is one path only."""
    del lean
    return BulletEnv(task)


class BulletEnv:
    """One environment of bullet-safety-gym; see `PlainEnv` for the methods."""

    def __init__(self, task):
        self.task = task
        self._gymnasium = _import_suite()
        self._env = None
        self._ended = True

    @property
    def unwrapped(self):
        """The suite's own environment object of the running episode."""
        return self._env.unwrapped

    def reset(self, seed: int) -> np.ndarray:
        """Starts the episode that `seed` names. Returns `[O]` float64."""
        seed = check_seed(seed)
        self.close()
        with _global_generators_seeded(seed):
            self._env = self._gymnasium.make(self.task.env_id, disable_env_checker=True)
            # The very first episode of a simulation starts differently from all later
            # ones (a drone's rotors from full power). Start it like the later ones.
            self._env.reset()
            self._env.step(np.zeros(self.task.action_dim))
            np.random.seed(seed)  # noqa: NPY002
            observation, _ = self._env.reset()
        self._ended = False
        return np.asarray(observation, dtype=np.float64)

    def step(self, action):
        """One step; see `PlainEnv.step`."""
        if self._ended:
            raise RuntimeError("the episode has ended; call reset(seed) first")
        action = check_action(action, self.task)
        observation, reward, terminated, truncated, info = self._env.step(action)
        self._ended = bool(terminated or truncated)
        return (
            np.asarray(observation, dtype=np.float64),
            float(reward),
            float(info.get("cost", 0.0)),
            bool(terminated),
            bool(truncated),
        )

    def pose(self) -> np.ndarray:
        """Returns `[6]`: agent x, y, yaw, NaN, NaN, 0; these tasks have no goal."""
        pose = np.full(POSE_SIZE, np.nan)
        pose[5] = 0.0
        agent = self.unwrapped.agent
        pose[:2] = agent.get_position()[:2]
        x, y, z, w = agent.get_quaternion()
        pose[2] = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
        return pose

    def layout(self) -> dict[str, np.ndarray]:
        """The circle of Circle tasks as `[1, 3]` x, y, radius; nothing for Run."""
        circle = getattr(self.unwrapped.task, "circle", None)
        return {} if circle is None else {"circle": np.array([[0, 0, circle.radius]])}

    def close(self) -> None:
        """Releases the simulation."""
        if self._env is not None:
            self._env.close()
            self._env = None
        self._ended = True
