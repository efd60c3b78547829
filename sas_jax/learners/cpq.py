"""CPQ, constraints-penalised Q-learning (Xu, Zhan and Zhu 2022).

    critic       y = r + gamma 1[ Q_c(s', a') <= theta ] min Q(s', a'),  a' ~ pi(s')
    cost critic  E (Q_c - (c + gamma Q_c(s', a')))^2 + alpha (1.5 theta - E_nu Q_c)
    alpha        >= 0, by dual ascent: E_nu Q_c >= 1.5 theta
    actor        max E 1[ Q_c(s, a) <= theta ] min Q(s, a),  a ~ pi(s)

theta is the threshold as a critic sees it. nu are actions off the data: of the policy's
draws the quarter whose latent in a VAE of the data's actions lies farthest from the
prior. They are taught to be unsafe, so that the indicator keeps the policy from them.
The indicator is a constant to the actor's gradient. It supposes that Q is not negative:
below zero an unsafe action's 0 is the better one.

In the reference code (`reference="osrl"`, see `components.osrl`) the term of nu is
computed from the target network and without gradient, so that Q_c knows nothing of it,
and on actions before their tanh, outside the box.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from sas_jax.config import Many, Number
from sas_jax.data.spec import DataSpec
from sas_jax.experiment import ExperimentConfig
from sas_jax.learners.components import action_vae, multipliers, osrl
from sas_jax.learners.components import actor_critic as ac
from sas_jax.learners.components.critics import Ensemble, td_loss
from sas_jax.learners.components.squashed_gaussian import SquashedActor
from sas_jax.types import Learner


@dataclasses.dataclass(frozen=True)
class CPQConfig(osrl.ConstrainedConfig):
    """vae_hidden: widths of the VAE. vae_beta: weight of its divergence.
    num_draws: actions of the policy at a state, some of which are off the data.
    ood_share: how many of them. ood_factor: of theta, what they cost at least.
    alpha_rate: learning rate of log alpha.
    """

    vae_hidden: tuple[int, ...] = (400, 400)
    vae_beta: float = 0.5
    num_draws: int = 10
    ood_share: float = 0.25
    ood_factor: float = 1.5
    alpha_rate: float = 1e-4

    def rules(self) -> dict[str, Any]:
        """One rule a field."""
        return super().rules() | {
            "vae_hidden": Many(Number(least=1, whole=True)),
            "vae_beta": Number(above=0),
            "num_draws": Number(least=1, whole=True),
            "ood_share": Number(above=0, below=1),
            "ood_factor": Number(above=0),
            "alpha_rate": Number(above=0),
        }


def default_config(task: str) -> ExperimentConfig:
    """OSRL's settings."""
    train = ac.train_config(task)
    return ExperimentConfig(task=task, algo="cpq", model=CPQConfig(), train=train)


def make_networks(config: ExperimentConfig, spec: DataSpec):
    """Actor, ensemble of critics (of rewards and of costs alike), and VAE."""
    model, size = config.model, spec.action_dim
    vae = action_vae.ActionVAE(model.vae_hidden, size)
    return SquashedActor(model.hidden, size), Ensemble(model.hidden), vae


def make_learner(config: ExperimentConfig, spec: DataSpec) -> Learner:
    """The learner of one lane: a seed and a threshold."""
    model = config.model
    actor, critic, vae = make_networks(config, spec)
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
        targets = {name: params[name] for name in ("critic", "cost_critic")}
        return params, {"targets": targets, "log_alpha": jnp.zeros(())}

    def pi(params, obs):
        return actor.apply({"params": params}, see(obs))

    def off_data(groups, obs, key):
        """Those of the policy's draws that are off the data: `[k, O]` and `[k, A]`."""
        action, u = pi(groups["actor"], obs).sample(key, model.num_draws)
        action = jax.lax.stop_gradient(action if model.is_paper else u)
        action = action.reshape(-1, spec.action_dim)
        every = jnp.tile(obs, (model.num_draws, 1))
        far = action_vae.divergence(vae, groups["vae"], every, action)
        # A fixed number of the farthest ones: the critics need not see the others.
        _, farthest = jax.lax.top_k(far, max(int(model.ood_share * far.size), 1))
        return every[farthest], action[farthest]

    def losses(groups, extra, batch, key):
        keys = jax.random.split(key, 4)
        theta = osrl.critic_limit(config, spec, extra["cost_limit"])
        goes_on, costs_on = osrl.bootstraps(config, batch)
        obs, targets = batch.obs, extra["targets"]

        def q(params, obs, action):
            return critic.apply({"params": params}, obs, action)

        def q_cost(params, obs, action):
            return osrl.careful(config, q(params, obs, action))

        groups.descend(
            "vae",
            lambda p: action_vae.loss(
                vae, p, obs, batch.action, keys[0], model.vae_beta
            ),
        )
        after = pi(groups["actor"], batch.next_obs).sample(keys[1], 1)[0][0]
        cost_after = q_cost(targets["cost_critic"], batch.next_obs, after)
        value = q(targets["critic"], batch.next_obs, after).min(axis=0)
        value = value * (cost_after <= theta)
        target = model.reward_scale * batch.reward + model.discount * goes_on * value
        groups.descend("critic", lambda p: td_loss(q(p, obs, batch.action), target))

        off = off_data(groups, obs, keys[2])
        least = model.ood_factor * theta
        cost_target = batch.cost + model.discount * costs_on * cost_after
        alpha = jnp.exp(extra["log_alpha"])

        def cost_off(params):
            if not model.is_paper:
                params = jax.lax.stop_gradient(targets["cost_critic"])
            return jnp.mean(q(params, *off))

        def cost_loss(params):
            fit = td_loss(q(params, obs, batch.action), cost_target)
            return fit + alpha * (least - cost_off(params))

        short = least - cost_off(groups["cost_critic"])
        groups.descend("cost_critic", cost_loss)
        log_alpha = multipliers.log_dual_step(
            extra["log_alpha"], short, model.alpha_rate
        )

        def actor_loss(params):
            action = pi(params, obs).sample(keys[3], 1)[0][0]
            is_safe = q_cost(groups["cost_critic"], obs, action) <= theta
            return -jnp.mean(is_safe * q(groups["critic"], obs, action).min(axis=0))

        groups.descend("actor", actor_loss)
        targets = ac.follow(targets, groups, model.target_rate)
        new = {"targets": targets, "log_alpha": log_alpha}
        return new, {"alpha": alpha, "cost_off_data": least - short}

    return ac.make_learner(config, init, losses)


ALGORITHMS = (
    ac.algorithm(
        "cpq",
        CPQConfig,
        default_config,
        make_learner,
        make_risk=ac.make_risk,
        by_threshold=True,
    ),
)
