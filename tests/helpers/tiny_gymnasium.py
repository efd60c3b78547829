"""Gymnasium environments of our own: a point on a line, and ways to spoil it."""

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete

STEPS = 12


class Line(gymnasium.Env):
    """Observation: place and speed. Reward: speed. Cost 1 beyond 1. Ends beyond 3.

    Actions push; their box is [0, 4], so that its middle pushes by 2.
    """

    observation_space = Box(-np.inf, np.inf, (2,), np.float32)
    action_space = Box(np.zeros(1, np.float32), np.full(1, 4, np.float32))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.normal(0.0, 0.3, 2)
        self.steps = 0
        return self.look(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.steps += 1
        self.state[1] = 0.9 * self.state[1] + 0.1 * (float(action[0]) - 2.0)
        self.state[0] += self.state[1]
        place = abs(self.state[0])
        info = {"cost": float(place > 1), "far": float(place)}
        return self.look(), self.state[1], bool(place > 3), False, info

    def look(self):
        return self.state.astype(np.float32)


class Unseeded(Line):
    def look(self):
        return np.random.default_rng().normal(size=2).astype(np.float32)


class Grows(Line):
    """Shows one number more from its third step on."""

    def look(self):
        seen = super().look()
        return np.append(seen, 0.0) if self.steps >= 3 else seen


class Raises(Line):
    def step(self, action):
        if self.steps == 2:
            raise RuntimeError("the motor\nis gone")
        return super().step(action)


class Free(Line):
    """Costs nothing that it tells of."""

    def step(self, action):
        return (*super().step(action)[:4], {})


class Buttons(Line):
    action_space = Discrete(3)


class Nested(Line):
    observation_space = Dict(place=Box(-1, 1, (1,)))


class Unbounded(Line):
    action_space = Box(-np.inf, np.inf, (1,), np.float32)


def make_line():
    return Line()


def far_cost(obs, action, new, terminated, info):
    """A cost in the observation's own terms, of actions in the box [0, 4]."""
    assert 0 <= action[0] <= 4
    return float(abs(new[0]) > 0.5)


def pushing(task, rng):
    """A policy: pushes away from 0, with noise."""
    assert task.action_dim == 1
    return lambda obs: np.clip(np.sign(obs[:1]) * 0.3 + rng.normal(0, 0.5, 1), -1, 1)


def lost(task, rng):
    return lambda obs: np.array([np.nan])


for _name in "Line Unseeded Grows Raises Free Buttons Nested Unbounded".split():
    gymnasium.register(
        id=f"Tiny{_name}-v0",
        entry_point=f"tests.helpers.tiny_gymnasium:{_name}",
        max_episode_steps=STEPS,
    )
gymnasium.register(id="TinyEndless-v0", entry_point="tests.helpers.tiny_gymnasium:Line")
