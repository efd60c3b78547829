"""BCQ-Lag: actions that a VAE of the data proposes, a little moved, under a price.

BCQ (Fujimoto, Meger and Precup 2019) with a Lagrangian, as in DSRL's benchmark:

    vae          mean |a - dec(s, z)|^2 + beta mean KL
    a(s, z)      = clip(d + phi tanh(xi(s, d)), -1, 1),   d = dec(s, z),
                   z normal, cut at 0.5
    critics      squared error of y and y_c of `components.lagrangian`, over a(s', z_i)
    xi           min  -E min Q(s, a(s, z)) + lambda E [Q_c(s, a(s, z)) - theta]

It acts by the candidate with the largest mix Q - lambda mix Q_c, as BCQ does with its
Q. The latents of acting are fixed, so that the policy is a function of the state. The
reference code acts by one random latent; what it does otherwise in training stands in
`components.osrl` and `components.lagrangian`.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from sas_jax.config import Number
from sas_jax.data.spec import DataSpec
from sas_jax.experiment import ExperimentConfig
from sas_jax.learners import memoryless
from sas_jax.learners.algorithm import only_none
from sas_jax.learners.components import action_vae, lagrangian, osrl
from sas_jax.learners.components import actor_critic as ac
from sas_jax.learners.components.critics import Ensemble, best_action, td_loss
from sas_jax.models.networks import MLP
from sas_jax.types import Learner, Policy


@dataclasses.dataclass(frozen=True)
class BCQLagConfig(lagrangian.LagrangianConfig):
    """perturbation: phi, how far an action may be moved."""

    perturbation: float = 0.05

    def rules(self) -> dict[str, Any]:
        """One rule a field."""
        return super().rules() | {"perturbation": Number(least=0, most=1)}


def default_config(task: str) -> ExperimentConfig:
    """OSRL's settings."""
    return ExperimentConfig(
        task=task, algo="bcq_lag", model=BCQLagConfig(), train=ac.train_config(task)
    )


def make_networks(config: ExperimentConfig, spec: DataSpec):
    """xi, the ensemble of critics, the VAE, and a(s, z)."""
    model, size = config.model, spec.action_dim
    xi, critic = MLP(model.hidden, size), Ensemble(model.hidden)
    vae = action_vae.ActionVAE(model.vae_hidden, size)
    see = ac.blindfold(config, spec)

    def propose(actor_params, vae_params, obs, latent):
        """Actions `[..., A]` of observations `[..., O]` and latents."""
        obs = see(obs)
        given = {"params": vae_params}
        action = jnp.tanh(vae.apply(given, obs, latent, method="decode"))
        inputs = jnp.concatenate([obs, action], axis=-1)
        moved = jnp.tanh(xi.apply({"params": actor_params}, inputs))
        return jnp.clip(action + model.perturbation * moved, -1.0, 1.0)

    return xi, critic, vae, propose


def make_learner(config: ExperimentConfig, spec: DataSpec) -> Learner:
    """The learner of one lane: a seed and a threshold."""
    model = config.model
    xi, critic, vae, propose = make_networks(config, spec)
    see = ac.blindfold(config, spec)

    def init(key, cost_limit):
        del cost_limit
        params = ac.fresh(
            key,
            spec,
            vae=(vae, "obs", "action"),
            critic=(critic, "obs", "action"),
            cost_critic=(critic, "obs", "action"),
            actor=(xi, spec.obs_dim + spec.action_dim),
        )
        targets = {k: params[k] for k in ("actor", "critic", "cost_critic")}
        return params, {"targets": targets} | lagrangian.initial()

    def q(params, obs, action):
        return critic.apply({"params": params}, obs, action)

    def losses(groups, extra, batch, key):
        keys = jax.random.split(key, 3)
        theta = osrl.critic_limit(config, spec, extra["cost_limit"])
        obs, targets = batch.obs, extra["targets"]

        groups.descend(
            "vae",
            lambda p: action_vae.loss(
                vae, p, see(obs), batch.action, keys[0], model.vae_beta
            ),
        )
        after = lagrangian.repeat(model.num_candidates, batch.next_obs)
        latent = action_vae.draw_latent(keys[1], (*after.shape[:2], vae.latent_dim))
        action = propose(targets["actor"], groups["vae"], after, latent)
        target, cost_target = lagrangian.backup(
            config,
            batch,
            extra["multiplier"],
            q(targets["critic"], after, action),
            q(targets["cost_critic"], after, action),
        )
        groups.descend("critic", lambda p: td_loss(q(p, obs, batch.action), target))
        groups.descend(
            "cost_critic", lambda p: td_loss(q(p, obs, batch.action), cost_target)
        )

        latent = action_vae.draw_latent(keys[2], (len(obs), vae.latent_dim))

        def excess(params):
            action = propose(params, groups["vae"], obs, latent)
            cost = osrl.careful(config, q(groups["cost_critic"], obs, action))
            return action, jnp.mean(cost) - theta

        violation = excess(groups["actor"])[1]
        priced, multiplier = lagrangian.price(extra, violation)

        def actor_loss(params):
            action, over = excess(params)
            value = q(groups["critic"], obs, action).min(axis=0)
            return -jnp.mean(value) + multiplier * over

        groups.descend("actor", actor_loss)
        targets = ac.follow(targets, groups, model.target_rate)
        found = {"multiplier": multiplier, "cost_excess": violation}
        return priced | {"targets": targets}, found

    return ac.make_learner(config, init, losses)


def make_policy(
    config: ExperimentConfig, spec: DataSpec, *, variants=("none",), report_limits=None
) -> Policy:
    """The best of fixed candidates; see `Algorithm.make_policy`."""
    del report_limits
    only_none(variants)
    _, critic, vae, propose = make_networks(config, spec)
    count = config.model.num_candidates
    latents = action_vae.draw_latent(jax.random.key(0), (count, vae.latent_dim))
    latents = latents.at[0].set(0.0)

    def act(known, obs):
        params = known["params"]
        every = lagrangian.repeat(count, obs)
        latent = jnp.broadcast_to(latents[:, None], (*every.shape[:2], vae.latent_dim))
        action = propose(params["actor"], params["vae"], every, latent)
        score = lagrangian.lagrangian(
            config,
            lambda *given: critic.apply({"params": params["critic"]}, *given),
            lambda *given: critic.apply({"params": params["cost_critic"]}, *given),
            known["extra"]["multiplier"],
        )(every, action)
        return best_action(score, action)

    return memoryless.make_policy(spec, act)


ALGORITHMS = (
    ac.algorithm(
        "bcq_lag",
        BCQLagConfig,
        default_config,
        make_learner,
        make_policy=make_policy,
        make_risk=ac.make_risk,
        by_threshold=True,
    ),
)
