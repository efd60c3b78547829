"""A JAX environment as one of the suites: in worker processes, a step at a time.

So its data can be inspected and its checkpoints evaluated by every command. Loops of
whole episodes on the device are in `loop`; this is for comparing with them.
"""

import os

import numpy as np

# Workers are many and share a machine: none may take an accelerator.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax  # noqa: E402

from sas_jax.jax_envs import point_goal  # noqa: E402


class HostEnv:
    """One episode at a time; the interface that `envs.checked` asks for."""

    def __init__(self, env):
        """env: a `protocol.JaxEnv`."""
        self._env = env
        self._reset, self._step = jax.jit(env.reset), jax.jit(env.step)

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

    def pose(self):
        """Robot x, y, yaw, goal x, y, 0."""
        state = self._state
        return np.array([*state.position, state.yaw, *state.goal, 0.0], np.float64)

    def layout(self):
        """Where things stand: name -> `[k, 3]` x, y, radius."""
        state = self._state
        sizes = {
            "goal": (state.goal[None], point_goal.GOAL_SIZE),
            "hazards": (state.hazards, point_goal.HAZARD_SIZE),
            "vases": (state.vase[None], point_goal.VASE_SIZE),
        }
        return {
            name: np.concatenate(
                [np.asarray(places, np.float64), np.full((len(places), 1), size)], 1
            )
            for name, (places, size) in sizes.items()
        }

    def close(self):
        """Nothing to release."""


def make(task, lean):
    """What the suite is registered with."""
    del task, lean
    return HostEnv(point_goal.make())
