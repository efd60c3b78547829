"""APE-V: a policy told which of several critics to believe, and a belief that moves.

Offline data leave open what their world is like. APE-V (Ghosh et al. 2022) takes that
for a problem of partial information. N members of an ensemble are N worlds that the
data allow, a belief b says how likely each of them is, and the policy is trained for
every belief. While it acts, the belief follows how well each member foretold the reward
and the value that came. Nothing is trained at test time.

Its paper was to be had as an abstract only. Chosen here, on SAC-N (see `sac`): a member
is the least of K critics, so that it stays careful under any belief; one member is
SAC-N with K critics. pi and Q see b; b ~ Dirichlet(1) anew for each step.

    delta_i     r + gamma V_i(s', b) - Q_i(s, a, b),   V_i(s', b) = Q_i(s', mode pi, b)
    b+          b_i exp(-delta_i^2 / (2 sigma^2)), made to sum to 1, then
                (1 - epsilon) of it and epsilon / N
    critics     y_i = r + gamma [ min_K Q'_i(s', a', b+) - eta log pi(a' | s', b+) ]
    actor       min  E [ eta log pi(a | s, b) - sum_i b_i Q_i(s, a, b) ]

sigma^2 is the running mean of delta^2 over the data. The paper's critics say a
distribution and weigh members by its likelihood; a Gaussian of one width stands for it.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from sas_jax.config import Number
from sas_jax.data.spec import DataSpec
from sas_jax.experiment import ExperimentConfig
from sas_jax.learners import memoryless, sac
from sas_jax.learners.algorithm import Algorithm, only_none
from sas_jax.learners.components import actor_critic as ac
from sas_jax.learners.components.critics import Ensemble
from sas_jax.learners.components.squashed_gaussian import SquashedActor
from sas_jax.types import Learner, Policy


@dataclasses.dataclass(frozen=True)
class APEVConfig(sac.SACNConfig):
    """members: N. critics: K of each. forgetting: epsilon. error_rate: pace of sigma^2.

    A member that was ruled out comes back by epsilon alone.
    """

    members: int = 5
    critics: int = 2
    forgetting: float = 0.01
    error_rate: float = 0.005

    def rules(self) -> dict[str, Any]:
        """One rule a field."""
        return super().rules() | {
            "members": Number(least=1, whole=True),
            "forgetting": Number(least=0, most=1),
            "error_rate": Number(above=0, most=1),
        }


def default_config(task: str) -> ExperimentConfig:
    """SAC-N's settings."""
    train = ac.train_config(learning_rate=3e-4, batch_rows=256, num_steps=1_000_000)
    return ExperimentConfig(task=task, algo="ape_v", model=APEVConfig(), train=train)


def updated(
    belief: jax.Array, error: jax.Array, variance: jax.Array, forgetting: float
) -> jax.Array:
    """b+ `[B, N]` of beliefs and TD errors `[B, N]`; see the module. variance: `[]`."""
    log_weight = -0.5 * jnp.square(error) / variance
    found = jax.nn.softmax(jnp.log(belief) + log_weight, axis=-1)
    return (1.0 - forgetting) * found + forgetting / belief.shape[-1]


class _Networks:
    """What actor and critics say under a belief."""

    def __init__(self, config: ExperimentConfig, spec: DataSpec):
        model = self.model = config.model
        self.spec, self.see = spec, ac.blindfold(config, spec)
        self.actor = SquashedActor(model.hidden, spec.action_dim)
        self.critic = Ensemble(model.hidden, model.members * model.critics)

    def fresh(self, key) -> dict[str, Any]:
        """First parameters, group by group."""
        members = self.model.members
        params = ac.fresh(
            key,
            self.spec,
            critic=(self.critic, "obs", "action", members),
            actor=(self.actor, self.spec.obs_dim + members),
        )
        return params | {"entropy": {"log_price": jnp.zeros(())}}

    def pi(self, params, obs, belief):
        """The policy's distribution for `[B, O]` and `[B, N]`."""
        told = jnp.concatenate([self.see(obs), belief], axis=-1)
        return self.actor.apply({"params": params}, told)

    def every_q(self, params, obs, action, belief):
        """All critics `[N, K, B]`."""
        found = self.critic.apply({"params": params}, obs, action, belief)
        return found.reshape(self.model.members, self.model.critics, -1)

    def q(self, params, obs, action, belief):
        """Q_i `[B, N]`: the least of each member's critics."""
        return self.every_q(params, obs, action, belief).min(axis=1).T

    def error(self, params, obs, action, belief, reward, goes_on, after):
        """delta `[B, N]`. goes_on: `[B]`, gamma or 0. after: `[B, O]` next states."""
        mode = self.pi(params["actor"], after, belief).mode()
        value = self.q(params["critic"], after, mode, belief)
        foretold = self.q(params["critic"], obs, action, belief)
        return reward[:, None] + goes_on[:, None] * value - foretold


def make_learner(config: ExperimentConfig, spec: DataSpec) -> Learner:
    """The learner of one training seed."""
    net, model = _Networks(config, spec), config.model

    def init(key, cost_limit):
        del cost_limit
        params = net.fresh(key)
        targets = {"critic": params["critic"]}
        return params, {"targets": targets, "variance": jnp.ones(())}

    def losses(groups, extra, batch, key):
        keys = jax.random.split(key, 3)
        obs, action, after = batch.obs, batch.action, batch.next_obs
        price = jnp.exp(groups["entropy"]["log_price"])
        reward = model.reward_scale * batch.reward
        goes_on = model.discount * batch.bootstrap
        belief = jax.random.dirichlet(
            keys[1], jnp.ones(model.members), batch.reward.shape
        )
        error = net.error(groups.params, obs, action, belief, reward, goes_on, after)
        pace = model.error_rate
        variance = (1 - pace) * extra["variance"] + pace * jnp.mean(jnp.square(error))
        new = updated(belief, error, variance, model.forgetting)
        pi = net.pi(groups["actor"], after, new)
        drawn, u = pi.sample(keys[0], 1)
        value = net.q(extra["targets"]["critic"], after, drawn[0], new)
        value -= price * pi.log_prob(u)[0][:, None]
        target = jax.lax.stop_gradient(reward[:, None] + goes_on[:, None] * value)

        def critic_loss(params):
            miss = net.every_q(params, obs, action, belief) - target.T[:, None]
            return jnp.sum(jnp.mean(jnp.square(miss), axis=-1))

        groups.descend("critic", critic_loss)

        def actor_loss(params):
            pi = net.pi(params, obs, belief)
            action, u = pi.sample(keys[2], 1)
            worth = net.q(groups["critic"], obs, action[0], belief)
            worth = jnp.sum(belief * worth, axis=-1)
            return jnp.mean(price * pi.log_prob(u)[0] - worth)

        pi = net.pi(groups["actor"], obs, belief)
        density = pi.log_prob(pi.sample(keys[2], 1)[1])
        short = jax.lax.stop_gradient(jnp.mean(density)) - spec.action_dim
        groups.descend("actor", actor_loss)
        groups.descend("entropy", lambda p: -p["log_price"] * short)
        targets = ac.follow(extra["targets"], groups, model.target_rate)
        found = {
            "entropy": -jnp.mean(density),
            "price": price,
            "error": jnp.sqrt(variance),
            "belief_moved": jnp.mean(jnp.abs(new - belief).sum(axis=-1)),
        }
        return {"targets": targets, "variance": variance}, found

    return ac.make_learner(config, init, losses)


def make_policy(
    config: ExperimentConfig, spec: DataSpec, *, variants=("none",), report_limits=None
) -> Policy:
    """The mode under the belief; see `Algorithm.make_policy`.

    Its memory: the belief `[B, N]`, alike at the start, and the step before.
    """
    del report_limits
    only_none(variants)
    net, model = _Networks(config, spec), config.model

    def initial_carry(variables, rows, key):
        del variables, key
        count = rows.cost_limit.shape[0]
        return {
            "belief": jnp.full((count, model.members), 1.0 / model.members),
            "obs": jnp.zeros((count, spec.obs_dim)),
            "action": jnp.zeros((count, spec.action_dim)),
        }

    def act(variables, carry, ts, key):
        del key
        params, obs = variables["params"], spec.standardised(ts.obs)
        error = net.error(
            params,
            carry["obs"],
            carry["action"],
            carry["belief"],
            model.reward_scale * ts.reward,
            jnp.full(ts.reward.shape, model.discount),
            obs,
        )
        moved = updated(
            carry["belief"], error, variables["extra"]["variance"], model.forgetting
        )
        belief = jnp.where(ts.is_first[:, None], carry["belief"], moved)
        action = net.pi(params["actor"], obs, belief).mode()
        return action, {"belief": belief, "obs": obs, "action": action}

    return Policy(
        initial_carry=initial_carry,
        begin=lambda variables, carry, ts, key: carry,
        act=act,
    )


ALGORITHMS = (
    Algorithm(
        name="ape_v",
        config_class=APEVConfig,
        default_config=default_config,
        make_learner=make_learner,
        make_policy=make_policy,
        variables_of=ac.variables_of,
        to_device=ac.to_device,
        check=memoryless.check,
    ),
)
