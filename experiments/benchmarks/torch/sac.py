"""A step of SAC in PyTorch, written for the comparison: the networks of ours.

Eager, one update a call, the twin critics in one batched product. Its losses are those
of `learners.sac_alam` under "sac", which `differences` looks at.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import torch

from experiments.benchmarks.torch import actor_critic
from experiments.benchmarks.torch.actor_critic import TorchActorCritic, tensors
from sas_jax import learners
from sas_jax.data.spec import DataSpec
from sas_jax.experiment import ExperimentConfig
from sas_jax.types import TransitionBatch

_FIELDS = ("obs", "action", "reward", "next_obs", "is_terminal")


class TorchSAC(TorchActorCritic):
    """Parameters, target and optimisers; `losses` in order, `update` one step."""

    def __init__(self, config: ExperimentConfig, params, target):
        """params, target: groups and target critic of our state."""
        super().__init__(config, params)
        self.target = jax.tree.map(lambda x: x.detach(), tensors(target))

    def draw(self, obs, noise):
        """Actions `[B, A]` and their log-densities `[B]` with that noise."""
        mean, log_std = self.gaussian(obs)
        u = mean + log_std.exp() * noise
        slope = 2 * (math.log(2) - u - torch.nn.functional.softplus(-2 * u))
        density = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
        return torch.tanh(u), (density - slope).sum(-1)

    def losses(self, batch, noise, step=lambda name, loss: None):
        """Each group's loss; `step` is called with each as soon as it is known."""
        obs, action, reward, after, is_end = (batch[k] for k in _FIELDS)
        found = {}

        def note(name, loss):
            found[f"{name}_loss"] = loss.detach()
            step(name, loss)

        eta = self.params["entropy"]["log_price"].exp().detach()
        with torch.no_grad():
            chosen, density = self.draw(after, noise["after"])
            value = self.q(self.target, after, chosen).amin(0) - eta * density
            target = self.model.reward_scale * reward
            target += self.model.discount * (1.0 - is_end) * value
        error = self.q(self.params["critic"], obs, action) - target
        note("critic", error.square().mean(1).sum())
        chosen, density = self.draw(obs, noise["actor"])
        value = self.q(self.params["critic"], obs, chosen).amin(0)
        note("actor", (eta * density - value).mean())
        spare = -density.mean().detach() - self.model.entropy_target * action.shape[-1]
        note("entropy", self.params["entropy"]["log_price"] * spare)
        return found

    def update(self, batch, noise):
        """One step of all groups, and of the target."""
        self.losses(batch, noise, self.descend)
        self.follow(self.target, self.params["critic"])


def make_batch(spec: DataSpec, size: int) -> TransitionBatch:
    """Made-up transitions."""
    rng = np.random.default_rng(4)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=(size, *shape)), jnp.float32)

    end = jnp.asarray(rng.uniform(size=size) < 0.1)
    return TransitionBatch(
        obs=draw(spec.obs_dim),
        action=jnp.tanh(draw(spec.action_dim)),
        reward=draw(),
        cost=jnp.zeros(size),
        next_obs=draw(spec.obs_dim),
        is_terminal=end,
        is_timeout=jnp.zeros_like(end),
    )


def as_tensors(batch: TransitionBatch) -> dict[str, torch.Tensor]:
    """The fields that the losses read."""
    return actor_critic.as_tensors(batch, _FIELDS)


def differences(config: ExperimentConfig, spec: DataSpec) -> dict[str, float]:
    """Largest differences of the losses, relative to 1 + |loss|, on the same draws."""
    learner = learners.get("sac").make_learner(config, spec)
    state = learner.init(jax.random.key(0), jnp.nan)
    rng = np.random.default_rng(3)
    params, target = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32) / 4,
        (state.params, state.extra["targets"]["critic"]),
    )
    extra = state.extra | {"targets": {"critic": target}}
    batch, key = make_batch(spec, config.train.batch_rows), jax.random.key(5)
    ours = jax.jit(learner.validate)(
        state.replace(params=params, extra=extra), batch, key
    )
    shape = 1, config.train.batch_rows, spec.action_dim
    noise = {
        name: torch.from_numpy(np.array(jax.random.normal(own, shape))[0])
        for name, own in zip(("after", "actor"), jax.random.split(key), strict=True)
    }
    theirs = TorchSAC(config, params, target).losses(as_tensors(batch), noise)
    return actor_critic.difference(ours, theirs)
