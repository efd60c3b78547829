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


class ToyEnv:
    """Observation: place, speed, time. Cost where the place is beyond 1."""

    def reset(self, seed):
        self.place = float(np.random.default_rng(seed).normal())
        self.speed, self.time = 0.0, 0
        return self._look()

    def step(self, action):
        self.speed += float(action[0])
        self.place += self.speed
        self.time += 1
        cost = float(abs(self.place) > 1)
        return self._look(), self.speed, cost, False, self.time >= 5

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
    return SpoiltEnv() if task.name == "ToySpoilt" else ToyEnv()
