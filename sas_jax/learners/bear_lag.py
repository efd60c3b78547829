"""BEAR-Lag: a policy kept near the data's support by a kernel, under a price on cost.

BEAR (Kumar et al. 2019) with a Lagrangian, as in DSRL's benchmark. pi is a squashed
Gaussian, u its draws before tanh, v those of a VAE of the data's actions.

    vae          mean |a - dec(s, z)|^2 + beta mean KL
    critics      squared error of y and y_c of `components.lagrangian`, over a_i of the
                 target policy at s'
    MMD^2(u, v)  = mean k(u, u') + mean k(v, v') - 2 mean k(u, v),
                   k = exp(-|.|^2 / (2 sigma)), 10 draws of each at a state
    actor        min  -E min Q(s, a) + eta (E MMD - 0.05) + lambda E [Q_c(s, a) - theta]
    eta          = e^l >= 0, by dual ascent on E MMD - 0.05

It acts by tanh of the mean, as the reference code does; BEAR's own paper takes the best
of several draws. What the reference code does otherwise in training stands in
`components.osrl` and `components.lagrangian`.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from sas_jax.config import Number
from sas_jax.data.spec import DataSpec
from sas_jax.experiment import ExperimentConfig
from sas_jax.learners.components import action_vae, lagrangian, multipliers, osrl
from sas_jax.learners.components import actor_critic as ac
from sas_jax.learners.components.critics import Ensemble, td_loss
from sas_jax.learners.components.squashed_gaussian import SquashedActor
from sas_jax.types import Learner


@dataclasses.dataclass(frozen=True)
class BEARLagConfig(lagrangian.LagrangianConfig):
    """sigma: width of the kernel. mmd_target: what the MMD may be. eta_rate: learning
    rate of log eta. num_matched: draws that are compared.
    """

    sigma: float = 50.0
    mmd_target: float = 0.05
    eta_rate: float = 1e-3
    num_matched: int = 10

    def rules(self) -> dict[str, Any]:
        """One rule a field."""
        return super().rules() | {
            "sigma": Number(above=0),
            "mmd_target": Number(above=0),
            "eta_rate": Number(above=0),
            "num_matched": Number(least=1, whole=True),
        }


def default_config(task: str) -> ExperimentConfig:
    """OSRL's settings."""
    train = ac.train_config(task, num_steps=300_000)
    return ExperimentConfig(
        task=task, algo="bear_lag", model=BEARLagConfig(), train=train
    )


def discrepancy(x: jax.Array, y: jax.Array, sigma: float) -> jax.Array:
    """MMD `[B]` of draws `[n, B, A]` and `[m, B, A]`."""

    def kernel(x, y):
        far = jnp.sum(jnp.square(x[:, None] - y[None]), axis=-1)
        return jnp.mean(jnp.exp(-far / (2.0 * sigma)), axis=(0, 1))

    square = kernel(x, x) + kernel(y, y) - 2.0 * kernel(x, y)
    # Rounding takes it below zero; the root has no slope at zero.
    return jnp.sqrt(jnp.maximum(square, 0.0) + 1e-6)


def make_learner(config: ExperimentConfig, spec: DataSpec) -> Learner:
    """The learner of one lane: a seed and a threshold."""
    model = config.model
    actor = SquashedActor(model.hidden, spec.action_dim)
    critic = Ensemble(model.hidden)
    vae = action_vae.ActionVAE(model.vae_hidden, spec.action_dim)
    see = ac.blindfold(config, spec)

    def init(key, cost_limit):
        del cost_limit
        params = ac.fresh(
            key,
            spec,
            vae=(vae, "obs", "action"),
            critic=(critic, "obs", "action"),
            cost_critic=(critic, "obs", "action"),
            actor=(actor, "obs"),
        )
        targets = {k: params[k] for k in ("actor", "critic", "cost_critic")}
        extra = {"targets": targets, "log_eta": jnp.zeros(())}
        return params, extra | lagrangian.initial()

    def q(params, obs, action):
        return critic.apply({"params": params}, obs, action)

    def pi(params, obs):
        return actor.apply({"params": params}, see(obs))

    def losses(groups, extra, batch, key):
        keys = jax.random.split(key, 4)
        theta = osrl.critic_limit(config, spec, extra["cost_limit"])
        obs, targets = batch.obs, extra["targets"]

        groups.descend(
            "vae",
            lambda p: action_vae.loss(
                vae, p, see(obs), batch.action, keys[0], model.vae_beta
            ),
        )
        count = model.num_candidates
        action, _ = pi(targets["actor"], batch.next_obs).sample(keys[1], count)
        after = lagrangian.repeat(count, batch.next_obs)
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

        every = lagrangian.repeat(model.num_matched, see(obs))
        latent = action_vae.draw_latent(keys[2], (*every.shape[:2], vae.latent_dim))
        given = {"params": groups["vae"]}
        proposed = vae.apply(given, every, latent, method="decode")

        def look(params):
            """Actions `[B, A]`, mean MMD `[]`, mean excess of their cost `[]`."""
            actions, u = pi(params, obs).sample(keys[3], model.num_matched)
            apart = jnp.mean(discrepancy(u, proposed, model.sigma))
            cost = osrl.careful(config, q(groups["cost_critic"], obs, actions[0]))
            return actions[0], apart, jnp.mean(cost) - theta

        _, apart, violation = look(groups["actor"])
        priced, multiplier = lagrangian.price(extra, violation)
        eta = jnp.exp(extra["log_eta"])

        def actor_loss(params):
            action, apart, over = look(params)
            value = jnp.mean(q(groups["critic"], obs, action).min(axis=0))
            return -value + eta * (apart - model.mmd_target) + multiplier * over

        groups.descend("actor", actor_loss)
        new = {
            "targets": ac.follow(targets, groups, model.target_rate),
            "log_eta": multipliers.log_dual_step(
                extra["log_eta"], apart - model.mmd_target, model.eta_rate
            ),
        }
        found = {"multiplier": multiplier, "cost_excess": violation}
        return priced | new, found | {"mmd": apart, "eta": eta}

    return ac.make_learner(config, init, losses)


ALGORITHMS = (
    ac.algorithm(
        "bear_lag",
        BEARLagConfig,
        default_config,
        make_learner,
        make_risk=ac.make_risk,
        by_threshold=True,
    ),
)
