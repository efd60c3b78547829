"""A JAX environment as one of the suites: in worker processes, a step at a time.

So its data can be inspected and its checkpoints evaluated by every command. Loops of
whole episodes on the device are in `loop`; this is for comparing with them.
"""

import jax
import numpy as np

from sas_jax.jax_envs import named


class HostEnv:
    """One episode at a time; the interface that `envs.checked` asks for."""

    def __init__(self, env):
        """env: a `protocol.JaxEnv`."""
        self._env = env
        self._reset, self._step = jax.jit(env.reset), jax.jit(env.step)
        # Whoever asks for a map looks whether there are such methods.
        if env.pose is not None:
            self.pose = lambda: np.asarray(env.pose(self._state), np.float64)
        if env.layout is not None:
            self.layout = lambda: {
                name: np.asarray(places, np.float64)
                for name, places in env.layout(self._state).items()
            }

    def reset(self, seed):
        """Starts the episode that `seed` names. Returns `[O]`."""
        self._state, obs = self._reset(jax.random.key(np.uint32(seed)))
        self._steps = 0
        return np.asarray(obs)

    def step(self, action):
        """Returns observation, reward, cost, terminated, truncated."""
        out = self._step(self._state, np.asarray(action, np.float32))
        self._state, self._steps = out.state, self._steps + 1
        truncated = self._steps >= self._env.episode_steps
        numbers = float(out.reward), float(out.cost), bool(out.terminated)
        return np.asarray(out.obs), *numbers, truncated

    def close(self):
        """Nothing to release."""


def make(task, lean):
    """What the suite is registered with."""
    del lean
    return HostEnv(named.env_of(task))
