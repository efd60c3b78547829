"""A step of CPQ in PyTorch, written for the comparison: the networks of ours.

Eager PyTorch, one update a call, both critics of an ensemble in one batched product.
The same losses as ours for the same parameters and draws, which `differences` looks at.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import torch

from experiments.benchmarks import common, model_cases
from experiments.benchmarks.torch.actor_critic import (
    TorchActorCritic,
    as_tensors,
    difference,
    mlp,
    tensors,
)
from sas_jax.data import spec as spec_lib
from sas_jax.data import transitions
from sas_jax.experiment import ExperimentConfig
from sas_jax.learners import cpq
from sas_jax.learners.components import osrl

_FIELDS = ("obs", "action", "reward", "cost", "next_obs", "is_terminal")


class TorchCPQ(TorchActorCritic):
    """Parameters, targets and optimisers; `losses` in order, `update` one step."""

    def __init__(self, config: ExperimentConfig, theta: float, params, targets):
        """theta: the limit of the cost critic. params, targets: those of our state."""
        super().__init__(config, params)
        self.theta, self.log_alpha = theta, 0.0
        self.targets = jax.tree.map(lambda x: x.detach(), tensors(targets))

    def pi(self, obs, noise):
        """Actions of the policy `[B, A]` with that noise."""
        mean, log_std = self.gaussian(obs)
        return torch.tanh(mean + log_std.exp() * noise)

    def encode(self, obs, action):
        """Mean and log-std of the VAE's latent."""
        mean, log_std = mlp(self.params["vae"]["encoder"], obs, action).chunk(2, -1)
        return mean, log_std.clamp(-4, 15)

    def losses(self, batch, noise, step=lambda name, loss: None):
        """Each group's loss; `step` is called with each as soon as it is known."""
        obs, action, reward, cost, after, is_end = (batch[k] for k in _FIELDS)
        found = {}

        def note(name, loss):
            found[f"{name}_loss"] = loss.detach()
            step(name, loss)

        mean, log_std = self.encode(obs, action)
        made = mlp(
            self.params["vae"]["decoder"], obs, mean + log_std.exp() * noise["vae"]
        )
        kl = self.divergence(mean, log_std).mean()
        fit = (torch.tanh(made) - action).square().mean()
        note("vae", fit + self.model.vae_beta * kl)
        with torch.no_grad():
            chosen = self.pi(after, noise["after"])
            cost_after = self.q(self.targets["cost_critic"], after, chosen).amax(0)
            value = self.q(self.targets["critic"], after, chosen).amin(0)
            on = self.model.discount * (1.0 - is_end)
            kept = value * (cost_after <= self.theta)
            target = self.model.reward_scale * reward + on * kept
            cost_target = cost + on * cost_after
        error = self.q(self.params["critic"], obs, action) - target
        note("critic", error.square().mean(1).sum())
        with torch.no_grad():
            every = obs.repeat(self.model.num_draws, 1)
            drawn = self.pi(every, noise["off"].flatten(0, 1))
            far = self.divergence(*self.encode(every, drawn)).sum(-1)
            farthest = far.topk(max(int(self.model.ood_share * len(far)), 1)).indices
            every, drawn = every[farthest], drawn[farthest]
        off = self.q(self.params["cost_critic"], every, drawn).mean()
        least = self.model.ood_factor * self.theta
        error = self.q(self.params["cost_critic"], obs, action) - cost_target
        alpha = math.exp(self.log_alpha)
        note("cost_critic", error.square().mean(1).sum() + alpha * (least - off))
        self.off = off.detach()
        chosen = self.pi(obs, noise["actor"])
        is_safe = self.q(self.params["cost_critic"], obs, chosen).amax(0) <= self.theta
        value = self.q(self.params["critic"], obs, chosen).amin(0)
        note("actor", -(is_safe * value).mean())
        return found

    @staticmethod
    def divergence(mean, log_std):
        """Elementwise KL to N(0, 1)."""
        return 0.5 * (mean.square() + (2.0 * log_std).exp() - 1.0) - log_std

    def update(self, batch, noise):
        """One step of all groups, of alpha and of the targets."""
        self.losses(batch, noise, self.descend)
        short = self.model.ood_factor * self.theta - float(self.off)
        step = self.model.alpha_rate * math.exp(self.log_alpha) * short
        self.log_alpha = min(max(self.log_alpha + step, -5.0), 5.0)
        for name, tree in self.targets.items():
            self.follow(tree, self.params[name])


def _setting(config: ExperimentConfig):
    """Spec, data on the device, learner, first state and theta of one lane."""
    episodes = model_cases.make_episodes(config, 20)
    spec = spec_lib.from_episodes(episodes)
    learner = cpq.make_learner(config, spec)
    limit = config.train.cost_limits[0]
    state = learner.init(jax.random.key(0), limit)
    theta = float(osrl.critic_limit(config, spec, jnp.float32(limit)))
    return spec, transitions.to_device(episodes, spec), learner, state, theta


def _batch(data, step):
    """Steps of these numbers as tensors."""
    return as_tensors(transitions.at(data, step), _FIELDS)


def differences(config: ExperimentConfig) -> dict[str, float]:
    """Largest differences of the losses, relative to 1 + |loss|, on the same draws."""
    spec, data, learner, state, theta = _setting(config)
    rng = np.random.default_rng(3)
    # Small ones say too little; all of them, targets apart.
    lively = jax.tree.map(
        lambda x: jnp.asarray(
            rng.normal(size=x.shape) / math.sqrt(max(x.shape[-2:][0], 1)), jnp.float32
        ),
        (state.params, state.extra["targets"]),
    )
    state = state.replace(params=lively[0], extra=state.extra | {"targets": lively[1]})
    size, action = config.train.batch_rows, spec.action_dim
    step = jnp.arange(size)
    key = jax.random.key(5)
    ours = jax.jit(learner.validate)(state, transitions.at(data, step), key)
    keys = jax.random.split(key, 4)
    noise = {
        "vae": jax.random.normal(keys[0], (size, 2 * action)),
        "after": jax.random.normal(keys[1], (1, size, action))[0],
        "off": jax.random.normal(keys[2], (config.model.num_draws, size, action)),
        "actor": jax.random.normal(keys[3], (1, size, action))[0],
    }
    noise = {name: torch.from_numpy(np.array(x)) for name, x in noise.items()}
    theirs = TorchCPQ(config, theta, *lively).losses(_batch(data, step), noise)
    return difference(ours, theirs)


def case(config: ExperimentConfig, updates: int) -> common.Case:
    """`updates` updates on batches drawn anew, as ours are."""
    spec, data, _, state, theta = _setting(config)
    torch.manual_seed(0)
    model = TorchCPQ(config, theta, state.params, state.extra["targets"])
    size, action = config.train.batch_rows, spec.action_dim
    every = _batch(data, jnp.arange(int(data.ends[-1])))
    sizes = {
        "vae": (size, 2 * action),
        "after": (size, action),
        "off": (config.model.num_draws, size, action),
        "actor": (size, action),
    }

    def run():
        for _ in range(updates):
            row = torch.randint(0, len(every["reward"]), (size,))
            batch = {name: x[row] for name, x in every.items()}
            noise = {name: torch.randn(shape) for name, shape in sizes.items()}
            model.update(batch, noise)

    return common.timed(run)
