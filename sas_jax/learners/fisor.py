"""FISOR: no cost at all, by a signed constraint and a diffusion policy.

Zheng et al. 2024. h is -1 at a safe step and 25 at one with a cost; m is 0 at an end.
V_h(s) > 0 says that a violation cannot be avoided from s on.

    V_h    min E L_{1 - tau}(max Q_h'(s, a) - V_h(s))        (L_tau: expectile loss)
    Q_h    m [(1 - gamma) h + gamma max(h, V_h(s'))] + (1 - m) h
    V      min E L_tau(min Q'(s, a) - V(s)),     Q   r + gamma m V(s')
    w      V_h > 0:               min(exp(5 (V_h - Q_h)), 150)    the least unsafe way
           V_h <= 0, Q_h <= 0:    min(exp(3 (Q - V)), 100)        the best of the safe
           otherwise:             0
    actor  min E w |eps - eps_hat(s, sqrt(abar_k) a + sqrt(1 - abar_k) eps, k)|^2

eps_hat is a residual network, k one of 5 steps of diffusion. It acts by its moving
average: of 16 samples the one with the least Q_h. The samples' noise is fixed, so that
the policy is a function of the state. One policy serves all thresholds.

The public code gives its critics batches of 256 and its actor two of 1024; here all
groups see one batch. Its learning rate follows a cosine over three times the steps.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from sas_jax.alignment.gate import RiskModel
from sas_jax.config import Number
from sas_jax.data.spec import DataSpec
from sas_jax.experiment import ExperimentConfig
from sas_jax.learners import memoryless
from sas_jax.learners.algorithm import only_none
from sas_jax.learners.components import actor_critic as ac
from sas_jax.learners.components import diffusion
from sas_jax.learners.components.critics import Ensemble, best_action, td_loss
from sas_jax.learners.components.regression import advantage_weight, expectile_loss
from sas_jax.models.networks import MLP
from sas_jax.types import Learner, Policy

# h of a step with a cost. What lies k steps before a violation that cannot be avoided
# has V_h = 26 gamma^k - 1: above zero, and so seen, up to 324 steps ahead at 0.99.
_UNSAFE = 25.0
_SAFE_BOUND, _REWARD_BOUND = 150.0, 100.0


@dataclasses.dataclass(frozen=True)
class FISORConfig(ac.ActorCriticConfig):
    """width, blocks: of the actor. dropout: in its blocks. num_diffusion: steps.
    num_candidates: samples to choose from. expectile: tau. average_rate: of the moving
    average. cost_temperature, reward_temperature: 5 and 3 of the weights.
    reward_scale: of rewards whose range over the data's episodes is their length.
    """

    actor_rate: float = 3e-4
    reward_scale: float = 1.0
    width: int = 256
    blocks: int = 3
    dropout: float = 0.1
    num_diffusion: int = 5
    num_candidates: int = 16
    expectile: float = 0.9
    average_rate: float = 0.001
    cost_temperature: float = 5.0
    reward_temperature: float = 3.0

    def rules(self) -> dict[str, Any]:
        """One rule a field."""
        count = Number(least=1, whole=True)
        whole = dict.fromkeys(
            ("width", "blocks", "num_diffusion", "num_candidates"), count
        )
        return (
            super().rules()
            | whole
            | {
                "dropout": Number(least=0, below=1),
                "expectile": Number(above=0, below=1),
                "average_rate": Number(above=0, most=1),
                "cost_temperature": Number(above=0),
                "reward_temperature": Number(above=0),
            }
        )


def default_config(task: str) -> ExperimentConfig:
    """The paper's settings; no lane for each threshold."""
    train = ac.train_config(learning_rate=3e-4, batch_rows=1024, num_steps=1_000_000)
    return ExperimentConfig(task=task, algo="fisor", model=FISORConfig(), train=train)


def make_actor(config: ExperimentConfig, spec: DataSpec) -> diffusion.Denoiser:
    """eps_hat."""
    model = config.model
    return diffusion.Denoiser(model.width, model.blocks, model.dropout, spec.action_dim)


def signed(cost: jax.Array) -> jax.Array:
    """h: below zero where a step has no cost."""
    return jnp.where(cost > 0, _UNSAFE, -1.0)


def actor_weight(config, q, v, unsafe_q, unsafe_v):
    """w `[B]` of Q, V, Q_h and V_h `[B]`."""
    model = config.model
    away = advantage_weight(unsafe_v - unsafe_q, model.cost_temperature, _SAFE_BOUND)
    best = advantage_weight(q - v, model.reward_temperature, _REWARD_BOUND)
    return jnp.where(unsafe_v > 0, away, jnp.where(unsafe_q <= 0, best, 0.0))


def make_learner(config: ExperimentConfig, spec: DataSpec) -> Learner:
    """The learner of one training seed."""
    model = config.model
    critic, value = Ensemble(model.hidden), MLP(model.hidden, 1)
    actor, see = make_actor(config, spec), ac.blindfold(config, spec)
    low, high = spec.return_range or (0.0, spec.max_timestep)
    scale = model.reward_scale * spec.max_timestep / max(high - low, 1e-6)

    def init(key, cost_limit):
        del cost_limit
        keys = jax.random.split(key)
        params = ac.fresh(
            keys[0],
            spec,
            value=(value, "obs"),
            cost_value=(value, "obs"),
            critic=(critic, "obs", "action"),
            cost_critic=(critic, "obs", "action"),
        )
        obs, action = jnp.zeros((1, spec.obs_dim)), jnp.zeros((1, spec.action_dim))
        params["actor"] = actor.init(keys[1], action, jnp.zeros(1), obs)["params"]
        targets = {name: params[name] for name in ("critic", "cost_critic")}
        return params, {"targets": targets, "average": {"actor": params["actor"]}}

    def v(params, obs):
        return value.apply({"params": params}, obs)[..., 0]

    def losses(groups, extra, batch, key):
        obs, action, targets = batch.obs, batch.action, extra["targets"]
        given, tau, discount = (obs, action), model.expectile, model.discount
        q = critic.apply({"params": targets["critic"]}, *given).min(axis=0)
        unsafe = critic.apply({"params": targets["cost_critic"]}, *given).max(axis=0)
        groups.descend("value", lambda p: jnp.mean(expectile_loss(q - v(p, obs), tau)))
        groups.descend(
            "cost_value",
            lambda p: jnp.mean(expectile_loss(unsafe - v(p, obs), 1.0 - tau)),
        )
        h, on = signed(batch.cost), batch.bootstrap
        ahead = jnp.maximum(h, v(groups["cost_value"], batch.next_obs))
        ahead = (1.0 - discount) * h + discount * ahead
        after = discount * on * v(groups["value"], batch.next_obs)
        for name, target in (
            ("critic", scale * batch.reward + after),
            ("cost_critic", on * ahead + (1.0 - on) * h),
        ):
            groups.descend(
                name,
                lambda p, target=target: td_loss(
                    critic.apply({"params": p}, *given), target
                ),
            )
        weight = actor_weight(
            config, q, v(groups["value"], obs), unsafe, v(groups["cost_value"], obs)
        )
        keys = jax.random.split(key, 3)
        count = model.num_diffusion
        step = jax.random.randint(keys[0], (len(obs),), 1, count + 1)
        noise = jax.random.normal(keys[1], action.shape)
        noisy = diffusion.mix(action, noise, step, count)

        def actor_loss(params):
            found = actor.apply(
                {"params": params},
                noisy,
                step,
                see(obs),
                True,
                rngs={"dropout": keys[2]},
            )
            return jnp.mean(weight * jnp.sum(jnp.square(found - noise), axis=-1))

        groups.descend("actor", actor_loss)
        new = {
            "targets": ac.follow(targets, groups, model.target_rate),
            "average": ac.follow(extra["average"], groups, model.average_rate),
        }
        share = jnp.mean(v(groups["cost_value"], obs) > 0)
        return new, {"weight": jnp.mean(weight), "unsafe_share": share}

    return ac.make_learner(config, init, losses)


def make_policy(
    config: ExperimentConfig, spec: DataSpec, *, variants=("none",), report_limits=None
) -> Policy:
    """The least unsafe of fixed candidates; see `Algorithm.make_policy`."""
    del report_limits
    only_none(variants)
    model = config.model
    critic, actor = Ensemble(model.hidden), make_actor(config, spec)
    see = ac.blindfold(config, spec)
    shape = (model.num_diffusion + 1, model.num_candidates, spec.action_dim)
    drawn = jax.random.normal(jax.random.key(0), shape)

    def act(known, obs):
        every = jnp.broadcast_to(obs[None], (model.num_candidates, *obs.shape))
        given = {"params": known["extra"]["average"]["actor"]}

        def predict(noisy, step):
            return actor.apply(given, noisy, step, see(every))

        wide = (*drawn.shape[:2], len(obs), spec.action_dim)
        noise = jnp.broadcast_to(drawn[:, :, None], wide)
        action = diffusion.denoise(predict, noise)
        params = {"params": known["params"]["cost_critic"]}
        unsafe = critic.apply(params, every, action).max(axis=0)
        return best_action(-unsafe, action)

    return memoryless.make_policy(spec, act)


def make_risk(config: ExperimentConfig, spec: DataSpec) -> RiskModel:
    """How far from feasible a step is; its level is 0, whatever the threshold."""
    found = ac.make_risk(config, spec)
    return found._replace(level=lambda variables, limit: jnp.zeros_like(limit))


ALGORITHMS = (
    ac.algorithm(
        "fisor",
        FISORConfig,
        default_config,
        make_learner,
        make_risk=make_risk,
        make_policy=make_policy,
    ),
)
