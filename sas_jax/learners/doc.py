"""Dichotomy of Control: a policy told what it is to decide, and nothing about its luck.

A policy that is asked for the best recorded return copies what lucky episodes did. In
DoC (Yang et al. 2022) it is told a latent z instead, which a network reads off F
recorded steps from here on, and which is kept from knowing what chance decided. From
the present state s, with R the recorded return to go:

    min  E [ |a - pi(s, z)|^2 + (V(s, z) - R)^2 + w_p KL( q(z | tau) | p(z | s) )
             + w_e max(I, 0) ],        z ~ q(z | s, a, r, s', ..., F steps)

I is what z knows of a reward and next state beyond their state and action, at a step j
of the F drawn at random. By the chain rule it is a difference of two informations,

    I = I(z; s_j, a_j, r_j, s_j' | s) - I(z; s_j, a_j | s),

and each is bounded by telling z from n draws z_i of the prior (InfoNCE):

    I_f = max_f  E log [ (n + 1) exp f(z, x) / (exp f(z, x) + sum_i exp f(z_i, x)) ].

Acting, m draws of p(z | s) are judged, and pi(s, z) of the one with the largest V is
done: the best of what the agent itself can decide.

Departures. z is of the state and what follows it, not of a whole episode with its
history, as all learners on single steps see one observation. Public code contrasts
whole tuples with other tuples of a batch, which lets the dynamics count as luck, and
takes candidates' values from z of the recorded future; here both are as in the paper.
"""

import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from sas_jax.config import Many, Number, check
from sas_jax.data import device_rows
from sas_jax.data.spec import DataSpec
from sas_jax.experiment import ExperimentConfig
from sas_jax.learners import memoryless
from sas_jax.learners.algorithm import Algorithm, only_none
from sas_jax.learners.components import actor_critic as ac
from sas_jax.models.networks import MLP
from sas_jax.types import Batch, Learner, Policy


@dataclasses.dataclass(frozen=True)
class DoCConfig:
    """hidden: widths of every network's layers. latent_dim: of z. future: F, steps.
    prior_weight: w_p. energy_weight: w_e. contrast_rate, contrast_steps: learning rate
    of f, and its steps an update: an encoder that f lags behind hides its luck.
    negatives: n. candidates: m. policy_blind: groups of observations that policy, value
    and prior do not see.
    """

    hidden: tuple[int, ...] = (256, 256)
    latent_dim: int = 8
    future: int = 20
    prior_weight: float = 0.5
    energy_weight: float = 1.0
    contrast_rate: float = 3e-3
    contrast_steps: int = 2
    negatives: int = 16
    candidates: int = 100
    policy_blind: tuple[str, ...] = ()

    def __post_init__(self):
        count = Number(least=1, whole=True)
        weight = Number(least=0)
        rules = {
            "hidden": Many(count),
            "latent_dim": count,
            "future": count,
            "prior_weight": weight,
            "energy_weight": weight,
            "contrast_rate": Number(above=0),
            "contrast_steps": count,
            "negatives": count,
            "candidates": count,
        }
        check(self, "model", rules)


def default_config(task: str) -> ExperimentConfig:
    """The reference's window and rate."""
    train = ac.train_config(learning_rate=1e-3, batch_rows=64)
    return ExperimentConfig(task=task, algo="doc", model=DoCConfig(), train=train)


class Gaussian(NamedTuple):
    """mean, log_std: `[..., Z]`."""

    mean: jax.Array
    log_std: jax.Array

    def sample(self, noise: jax.Array) -> jax.Array:
        """noise: standard normal `[..., Z]`; may have further axes in front."""
        wide = (1,) * (noise.ndim - self.mean.ndim) + self.mean.shape
        mean, std = self.mean.reshape(wide), jnp.exp(self.log_std).reshape(wide)
        return mean + std * noise

    def divergence(self, other: "Gaussian") -> jax.Array:
        """KL(self | other) `[...]`, nats."""
        ratio = 2.0 * (self.log_std - other.log_std)
        away = jnp.square((self.mean - other.mean) * jnp.exp(-other.log_std))
        return 0.5 * jnp.sum(jnp.exp(ratio) + away - 1.0 - ratio, axis=-1)


class Networks(nn.Module):
    """Encoder, prior, policy and value; `future` is the only one that sees it."""

    hidden: tuple[int, ...]
    latent_dim: int
    action_dim: int

    def setup(self):
        self.step = MLP(self.hidden, self.hidden[-1])
        self.encoder = MLP(self.hidden, 2 * self.latent_dim)
        self.prior_net = MLP(self.hidden, 2 * self.latent_dim)
        self.policy = MLP(self.hidden, self.action_dim)
        self.worth = MLP(self.hidden, 1)

    def future(self, steps: jax.Array, is_valid: jax.Array) -> Gaussian:
        """q(z | tau): steps `[B, F, n]` in order, of which some are padding."""
        place = jnp.arange(steps.shape[1]) / steps.shape[1]
        place = jnp.broadcast_to(place[None, :, None], (*steps.shape[:2], 1))
        read = nn.relu(self.step(jnp.concatenate([steps, place], axis=-1)))
        weight = is_valid[..., None] / is_valid.sum(axis=1)[:, None, None]
        return _gaussian(self.encoder(jnp.sum(weight * read, axis=1)))

    def prior(self, obs: jax.Array) -> Gaussian:
        """p(z | s)."""
        return _gaussian(self.prior_net(obs))

    def act(self, obs: jax.Array, z: jax.Array) -> jax.Array:
        """pi(s, z) `[..., A]`."""
        return jnp.tanh(self.policy(jnp.concatenate([obs, z], axis=-1)))

    def value(self, obs: jax.Array, z: jax.Array) -> jax.Array:
        """V(s, z) `[...]`, scaled return to go."""
        return self.worth(jnp.concatenate([obs, z], axis=-1))[..., 0]

    def __call__(self, obs, steps):
        """All of them, to make their parameters."""
        q = self.future(steps, jnp.ones(steps.shape[:2]))
        z = q.mean
        return q, self.prior(obs), self.act(obs, z), self.value(obs, z)


def _gaussian(found: jax.Array) -> Gaussian:
    mean, log_std = jnp.split(found, 2, axis=-1)
    return Gaussian(mean, jnp.clip(log_std, -5.0, 2.0))


def told_apart(score: jax.Array, others: jax.Array) -> jax.Array:
    """I_f, nats: the mean log-odds of z among the negatives, plus log(n + 1).

    score: `[B]` f of z. others: `[n, B]` f of the negatives.
    """
    every = jnp.concatenate([score[None], others])
    count = jnp.log(jnp.float32(every.shape[0]))
    return jnp.mean(score - jax.nn.logsumexp(every, axis=0)) + count


def rewards_of(batch: Batch) -> jax.Array:
    """`[B, W]` scaled rewards: what the return to go loses at each step."""
    return batch.return_to_go[:, :-1] - batch.return_to_go[:, 1:]


def make_networks(config: ExperimentConfig, spec: DataSpec) -> Networks:
    """The networks of the settings."""
    model = config.model
    return Networks(model.hidden, model.latent_dim, spec.action_dim)


def make_learner(config: ExperimentConfig, spec: DataSpec) -> Learner:
    """The learner of one training seed."""
    model, net = config.model, make_networks(config, spec)
    see, contrast = ac.blindfold(config, spec), MLP(model.hidden, 1)

    def init(key, cost_limit):
        del cost_limit
        keys = jax.random.split(key, 3)
        obs = jnp.zeros((1, spec.obs_dim))
        before = 2 * spec.obs_dim + spec.action_dim
        sizes = {"outcome": before + 1 + spec.obs_dim, "choice": before}
        steps = jnp.zeros((1, model.future, 2 * spec.obs_dim + spec.action_dim + 1))
        params = {"actor": net.init(keys[0], obs, steps)["params"]}
        params["contrast"] = {
            name: contrast.init(own, jnp.zeros((1, size + model.latent_dim)))["params"]
            for own, (name, size) in zip(keys[1:], sizes.items(), strict=True)
        }
        return params, {}

    def sample(data, key, state) -> Batch:
        del state
        size = config.train.batch_rows
        return device_rows.sample(
            data, key, batch_rows=size, row_length=model.future
        ).replace(lone=None)

    def apply(params, method, *given):
        return net.apply({"params": params}, *given, method=method)

    def losses(groups, extra, batch, key):
        keys = jax.random.split(key, 3)
        obs, reward = batch.obs[:, 0], rewards_of(batch)[..., None]
        steps = [batch.obs[:, :-1], batch.action, reward, batch.obs[:, 1:]]
        future = jnp.concatenate(steps, axis=-1)
        count, size = obs.shape[0], model.latent_dim
        noise = jax.random.normal(keys[0], (count, size))
        apart = jax.random.normal(keys[1], (model.negatives, count, size))
        # A step that counts, the first of which always does.
        last = jnp.maximum(batch.is_valid.sum(axis=1), 1)
        at = (jax.random.uniform(keys[2], (count,)) * last).astype(jnp.int32)
        there = [x[jnp.arange(count), at] for x in steps]
        choice = jnp.concatenate([obs, *there[:2]], axis=-1)
        seen = {"choice": choice}
        seen["outcome"] = jnp.concatenate([choice, *there[2:]], axis=-1)

        def drawn(params):
            q = apply(params, Networks.future, future, batch.is_valid)
            p = apply(params, Networks.prior, see(obs))
            return q, p, q.sample(noise), p.sample(apart)

        def information(critics, name, z, others):
            def f(z, x):
                x = jnp.broadcast_to(x, (*z.shape[:-1], x.shape[-1]))
                both = jnp.concatenate([z, x], axis=-1)
                return contrast.apply({"params": critics[name]}, both)[..., 0]

            return told_apart(f(z, seen[name]), f(others, seen[name][None]))

        *_, z, others = jax.lax.stop_gradient(drawn(groups["actor"]))

        def contrast_loss(critics):
            names = ("choice", "outcome")
            return -sum(information(critics, name, z, others) for name in names)

        for _ in range(model.contrast_steps):
            groups.descend("contrast", contrast_loss)

        def terms(params):
            """The loss, and what there is to show of it."""
            q, p, z, others = drawn(params)
            acted = apply(params, Networks.act, see(obs), z)
            cloned = jnp.square(acted - batch.action[:, 0])
            value = apply(params, Networks.value, see(obs), z)
            missed = jnp.square(value - batch.return_to_go[:, 0])
            critics = groups["contrast"]
            luck = information(critics, "outcome", z, others)
            luck -= information(critics, "choice", z, others)
            divergence = jnp.mean(q.divergence(p))
            shown = {"luck": luck, "divergence": divergence}
            shown["value_error"] = jnp.mean(missed)
            loss = jnp.mean(jnp.sum(cloned, axis=-1)) + jnp.mean(missed)
            loss += model.prior_weight * divergence
            return loss + model.energy_weight * jnp.maximum(luck, 0.0), shown

        _, shown = terms(groups["actor"])
        groups.descend("actor", lambda params: terms(params)[0])
        return {}, shown

    rates = {"contrast": model.contrast_rate}
    return ac.make_learner(config, init, losses, sample, rates)


def make_policy(
    config: ExperimentConfig, spec: DataSpec, *, variants=("none",), report_limits=None
) -> Policy:
    """The best of m draws of the prior, the same ones at every step."""
    del report_limits
    only_none(variants)
    model, net = config.model, make_networks(config, spec)
    see = ac.blindfold(config, spec)
    shape = (model.candidates, 1, model.latent_dim)

    def act(known, obs):
        params, obs = known["params"]["actor"], see(obs)

        def apply(method, *given):
            return net.apply({"params": params}, *given, method=method)

        noise = jax.random.normal(jax.random.key(0), shape)
        z = apply(Networks.prior, obs).sample(noise)
        every = jnp.broadcast_to(obs[None], (*z.shape[:-1], obs.shape[-1]))
        best = jnp.argmax(apply(Networks.value, every, z), axis=0)
        chosen = jnp.take_along_axis(z, best[None, :, None], axis=0)[0]
        return apply(Networks.act, obs, chosen)

    return memoryless.make_policy(spec, act)


ALGORITHMS = (
    Algorithm(
        name="doc",
        config_class=DoCConfig,
        default_config=default_config,
        make_learner=make_learner,
        make_policy=make_policy,
        variables_of=ac.variables_of,
        to_device=lambda config, spec, episodes, *, is_training: device_rows.to_device(
            episodes, spec
        ),
        check=memoryless.check,
    ),
)
