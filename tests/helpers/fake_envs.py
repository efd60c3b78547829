"""An environment in numpy for what runs blocks of episodes."""

import numpy as np

from sas_jax.envs.vector.env import StepBatch


class FakeEnvs:
    """A damped system that actions push; what an episode shows depends on its seed."""

    def __init__(self, num_envs, *, steps, obs_dim=5, action_dim=2):
        self.num_envs, self.action_dim = num_envs, action_dim
        self.steps, self.obs_dim = steps, obs_dim

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def reset(self, seeds, mask=None):
        mask = np.ones(len(seeds), bool) if mask is None else mask
        self.seeds, self.t = seeds, 0
        self.x = np.stack(
            [np.random.default_rng(s).normal(size=self.obs_dim) for s in seeds]
        )
        return self._batch(np.zeros(self.num_envs), mask)

    def step(self, actions):
        self.t += 1
        self.x[:, : self.action_dim] += actions
        self.x *= 0.9
        return self._batch(self.x[:, 0], np.zeros(self.num_envs, bool))

    def _batch(self, reward, is_first):
        zeros = np.zeros(self.num_envs)
        return StepBatch(
            obs=self.x.copy(),
            reward=reward.copy(),
            cost=(reward > 0.5).astype(float),
            is_first=is_first,
            is_last=np.full(self.num_envs, self.t >= self.steps),
            terminated=zeros > 0,
            pose=np.zeros((self.num_envs, 6)),
        )

    def layout(self, slot):
        return {"start": self.x[slot : slot + 1, :3]}
