"""CAPS on IQL: one policy, several heads; the cost already spent says which one acts.

CAPS (Chemingui et al. 2025) trains heads from careless to careful on implicit
Q-learning (IQL, Kostrikov et al. 2022), once for all thresholds. L_tau is the expectile
loss.

    V      min  E L_tau(min Q'(s, a) - V(s))             Q    r + gamma V(s')
    V_c    min  E L_{1 - tau}(max Q_c'(s, a) - V_c(s))   Q_c  c + gamma V_c(s')
    A      = min Q' - V,   A_c = V_c - max Q_c'     (for costs the lower is the better)
    head k min  -E w_k log N(a; tanh(mu_k(s)), sigma_k^2),   w = min(exp(beta A), 100):
           first w(A), last w(A_c), between them w(A) + 2 k / (K - 1) w(A_c)

It acts by the mean of a head. With t steps made and s spent of kappa, n = T - t left:

    budget = (kappa - s) / n (1 - gamma^n) / (1 - gamma)
    of the heads with Q_c(s, mu_k) < budget the one of the largest Q; if none, of the
    least Q_c

The public code keeps each head's sigma in a list where its optimiser does not see it,
so that it stays 1; here it is trained. Its learning rate falls over ten times the
steps that it trains for, which leaves it about constant; here it is.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from sas_jax.config import Number
from sas_jax.data.spec import DataSpec
from sas_jax.experiment import ExperimentConfig
from sas_jax.gaussian import gaussian_log_prob
from sas_jax.learners.algorithm import only_none
from sas_jax.learners.components import actor_critic as ac
from sas_jax.learners.components import limits
from sas_jax.learners.components.critics import Ensemble, best_action, td_loss
from sas_jax.learners.components.regression import advantage_weight, expectile_loss
from sas_jax.models.networks import MLP
from sas_jax.types import Learner, Policy

# Largest weight of a step.
_WEIGHT = 100.0
_LOG_STD_RANGE = (-5.0, 2.0)


@dataclasses.dataclass(frozen=True)
class CAPSConfig(ac.ActorCriticConfig):
    """heads: K. expectile: tau. temperature: beta."""

    hidden: tuple[int, ...] = (512, 512)
    actor_rate: float = 3e-4
    heads: int = 2
    expectile: float = 0.7
    temperature: float = 3.0

    def rules(self) -> dict[str, Any]:
        """One rule a field."""
        return super().rules() | {
            "heads": Number(least=2, whole=True),
            "expectile": Number(above=0, below=1),
            "temperature": Number(above=0),
        }


def default_config(task: str) -> ExperimentConfig:
    """The paper's settings; no lane for each threshold."""
    train = ac.train_config(learning_rate=3e-4)
    return ExperimentConfig(task=task, algo="caps", model=CAPSConfig(), train=train)


class Heads(nn.Module):
    """`heads` Gaussians of the action on one trunk; their spread is the state's not."""

    hidden: tuple[int, ...]
    action_dim: int
    heads: int

    @nn.compact
    def __call__(self, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Means `[heads, ..., A]` in the box, and log-std `[heads, A]`."""
        out = MLP(self.hidden, self.heads * self.action_dim)(obs)
        mean = jnp.tanh(out.reshape(*obs.shape[:-1], self.heads, self.action_dim))
        shape = (self.heads, self.action_dim)
        log_std = self.param("log_std", nn.initializers.zeros, shape)
        return jnp.moveaxis(mean, -2, 0), jnp.clip(log_std, *_LOG_STD_RANGE)


def head_weights(gain: jax.Array, care: jax.Array, heads: int) -> jax.Array:
    """w_k `[heads, B]` of the weights for reward and for cost, `[B]` each."""
    between = [gain + 2.0 * k / (heads - 1) * care for k in range(1, heads - 1)]
    return jnp.stack([gain, *between, care])


def make_learner(config: ExperimentConfig, spec: DataSpec) -> Learner:
    """The learner of one training seed."""
    model = config.model
    heads = Heads(model.hidden, spec.action_dim, model.heads)
    critic, value = Ensemble(model.hidden), MLP(model.hidden, 1)
    see = ac.blindfold(config, spec)

    def init(key, cost_limit):
        del cost_limit
        params = ac.fresh(
            key,
            spec,
            value=(value, "obs"),
            cost_value=(value, "obs"),
            critic=(critic, "obs", "action"),
            cost_critic=(critic, "obs", "action"),
            actor=(heads, "obs"),
        )
        targets = {name: params[name] for name in ("critic", "cost_critic")}
        return params, {"targets": targets}

    def v(params, obs):
        return value.apply({"params": params}, obs)[..., 0]

    def losses(groups, extra, batch, key):
        del key
        obs, action, targets = batch.obs, batch.action, extra["targets"]
        given, tau = (obs, action), model.expectile
        q = critic.apply({"params": targets["critic"]}, *given).min(axis=0)
        cost = critic.apply({"params": targets["cost_critic"]}, *given).max(axis=0)
        groups.descend("value", lambda p: jnp.mean(expectile_loss(q - v(p, obs), tau)))
        groups.descend(
            "cost_value", lambda p: jnp.mean(expectile_loss(cost - v(p, obs), 1 - tau))
        )
        goes_on = model.discount * batch.bootstrap
        for name, signal, after in (
            ("critic", model.reward_scale * batch.reward, "value"),
            ("cost_critic", batch.cost, "cost_value"),
        ):
            target = signal + goes_on * v(groups[after], batch.next_obs)
            groups.descend(
                name,
                lambda p, target=target: td_loss(
                    critic.apply({"params": p}, *given), target
                ),
            )
        gains = q - v(groups["value"], obs), v(groups["cost_value"], obs) - cost
        weights = head_weights(
            *(advantage_weight(a, model.temperature, _WEIGHT) for a in gains),
            model.heads,
        )

        def actor_loss(params):
            mean, log_std = heads.apply({"params": params}, see(obs))
            density = gaussian_log_prob(action[None], mean, log_std[:, None])
            return -jnp.mean(weights * jnp.sum(density, axis=-1))

        groups.descend("actor", actor_loss)
        found = {"advantage": jnp.mean(gains[0]), "care": jnp.mean(gains[1])}
        return {"targets": ac.follow(targets, groups, model.target_rate)}, found

    return ac.make_learner(config, init, losses)


def choose_head(value: jax.Array, cost: jax.Array, budget: jax.Array) -> jax.Array:
    """Scores `[heads, B]` whose largest is the head that acts.

    value, cost: Q and Q_c `[heads, B]` of each head's action. budget: `[B]`.
    """
    fits = cost < budget[None]
    scores = jnp.where(fits, value, -jnp.inf)
    return jnp.where(fits.any(axis=0)[None], scores, -cost)


def make_policy(
    config: ExperimentConfig, spec: DataSpec, *, variants=("none",), report_limits=None
) -> Policy:
    """The head that the budget allows; see `Algorithm.make_policy`.

    Its memory: the threshold, the cost so far and the number of steps, `[B]` each.
    """
    del report_limits
    only_none(variants)
    model = config.model
    heads = Heads(model.hidden, spec.action_dim, model.heads)
    critic, see = Ensemble(model.hidden), ac.blindfold(config, spec)

    def initial_carry(variables, rows, key):
        del variables, key
        limit = jnp.asarray(rows.cost_limit, jnp.float32)
        return {
            "cost_limit": limit,
            "spent": jnp.zeros_like(limit),
            "timestep": jnp.zeros(limit.shape, jnp.int32),
        }

    def act(variables, carry, ts, key):
        del key
        params = variables["params"]
        spent = carry["spent"] + ts.cost
        left = jnp.maximum(spec.max_timestep - carry["timestep"], 1)
        step_limit = (carry["cost_limit"] - spent) / left
        budget = limits.discounted_limit(step_limit, model.discount, left)
        obs = spec.standardised(ts.obs)
        action, _ = heads.apply({"params": params["actor"]}, see(obs))
        every = jnp.broadcast_to(obs[None], (*action.shape[:2], spec.obs_dim))
        value = critic.apply({"params": params["critic"]}, every, action).min(axis=0)
        cost = critic.apply({"params": params["cost_critic"]}, every, action)
        score = choose_head(value, cost.max(axis=0), budget)
        carry = carry | {"spent": spent, "timestep": carry["timestep"] + 1}
        return best_action(score, action), carry

    return Policy(
        initial_carry=initial_carry,
        begin=lambda variables, carry, ts, key: carry,
        act=act,
    )


ALGORITHMS = (
    ac.algorithm(
        "caps",
        CAPSConfig,
        default_config,
        make_learner,
        make_policy=make_policy,
        make_risk=ac.make_risk,
        sees_cost_limit=True,
    ),
)
