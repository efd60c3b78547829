"""A suite from outside: a point on a line that actions push. No simulator."""

import numpy as np

from sas_jax.envs.tasks import Task

ENTRY = "tests.helpers.toy_suite:make"


def task(name="ToyLine", **changes) -> Task:
    fields = {
        "name": name,
        "suite": "toys",
        "env_id": f"{name}-v0",
        "obs_dim": 3,
        "action_dim": 1,
        "episode_steps": 5,
        "cost_limits": (1.0, 2.0),
        "obs_groups": {"place": slice(0, 2), "time": slice(2, 3)},
    }
    return Task(**fields | changes)


def long_task() -> Task:
    """Episodes of a thousand steps; the second of two actions does nothing."""
    return task("ToyLong", episode_steps=1000, action_dim=2)


class ToyEnv:
    """Observation: place, speed, time. Cost where the place is beyond 1."""

    def __init__(self, episode_steps=5):
        self.episode_steps = episode_steps

    def reset(self, seed):
        self.place = float(np.random.default_rng(seed).normal())
        self.speed, self.time = 0.0, 0
        return self._look()

    def step(self, action):
        self.speed += float(action[0])
        self.place += self.speed
        self.time += 1
        cost = float(abs(self.place) > 1)
        return self._look(), self.speed, cost, False, self.time >= self.episode_steps

    def close(self):
        pass

    def _look(self):
        return np.array([self.place, self.speed, self.time])


class SpoiltEnv(ToyEnv):
    """Returns the speed as nan after the second step."""

    def _look(self):
        seen = super()._look()
        if self.time >= 2:
            seen[1] = np.nan
        return seen


def make(task, lean):
    del lean
    kind = SpoiltEnv if task.name == "ToySpoilt" else ToyEnv
    return kind(task.episode_steps)
