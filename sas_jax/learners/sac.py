"""CQL and SAC-N: offline learners that know of no cost, for the unconstrained tables.

Both are soft actor-critics (Haarnoja et al. 2018) on recorded steps; pi is a squashed
Gaussian, eta = e^l the price of its entropy.

    actor        min  E [ eta log pi(a | s) - min Q(s, a) ],   a ~ pi(s)
    entropy      l: min  -l E [ log pi(a | s) + target ],   target -A

SAC-N (An et al. 2021) has N critics and takes the least of them:

    critics      y = r + gamma [ min_N Q'(s', a') - eta log pi(a' | s') ]

CQL (Kumar et al. 2020, its variant H) has two, without the entropy in y, and presses
down what is not recorded; a_i are draws alike from the box and from pi at s and at s',
p their densities:

    critics      sum_j [ 1/2 E (Q_j - y)^2
                         + alpha E ( log sum_i exp(Q_j(s, a_i)) / p(a_i) - Q_j(s, a) ) ]

Public code of CQL first clones for a while, and some of it takes the logarithm over the
critics as well as over the draws, which mixes them; here each critic has its own.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from sas_jax.config import Number
from sas_jax.data.spec import DataSpec
from sas_jax.experiment import ExperimentConfig
from sas_jax.learners import memoryless
from sas_jax.learners.algorithm import Algorithm
from sas_jax.learners.components import actor_critic as ac
from sas_jax.learners.components.critics import Ensemble, td_loss
from sas_jax.learners.components.squashed_gaussian import SquashedActor
from sas_jax.types import Learner


@dataclasses.dataclass(frozen=True)
class SACNConfig(ac.ActorCriticConfig):
    """critics: N."""

    hidden: tuple[int, ...] = (256, 256, 256)
    actor_rate: float = 3e-4
    reward_scale: float = 1.0
    critics: int = 10

    def rules(self) -> dict[str, Any]:
        """One rule a field."""
        return super().rules() | {"critics": Number(least=1, whole=True)}


@dataclasses.dataclass(frozen=True)
class CQLConfig(SACNConfig):
    """alpha: weight of the pressure. num_draws: actions of each of the three kinds."""

    actor_rate: float = 3e-5
    critics: int = 2
    alpha: float = 10.0
    num_draws: int = 10

    def rules(self) -> dict[str, Any]:
        """One rule a field."""
        return super().rules() | {
            "alpha": Number(least=0),
            "num_draws": Number(least=1, whole=True),
        }


def default_config(task: str, algo: str) -> ExperimentConfig:
    """CORL's settings; SAC-N's number of critics depends on the task there."""
    model = CQLConfig() if algo == "cql" else SACNConfig()
    train = ac.train_config(learning_rate=3e-4, batch_rows=256, num_steps=1_000_000)
    return ExperimentConfig(task=task, algo=algo, model=model, train=train)


def pressure(q, obs, action, drawn, log_density) -> jax.Array:
    """Per critic `[members]`: mean of log sum exp(Q) / p over draws, minus Q of data.

    q: (obs, action) -> `[members, ...]`. drawn: `[n, B, A]`. log_density: `[n, B]`.
    """
    every = jnp.broadcast_to(obs[None], (*drawn.shape[:2], obs.shape[-1]))
    up = jax.nn.logsumexp(q(every, drawn) - log_density[None], axis=1)
    return jnp.mean(up - q(obs, action), axis=-1)


def make_learner(config: ExperimentConfig, spec: DataSpec) -> Learner:
    """The learner of one training seed."""
    model, size = config.model, spec.action_dim
    actor = SquashedActor(model.hidden, size)
    critic = Ensemble(model.hidden, model.critics)
    see, is_cql = ac.blindfold(config, spec), isinstance(model, CQLConfig)

    def init(key, cost_limit):
        del cost_limit
        params = ac.fresh(
            key, spec, critic=(critic, "obs", "action"), actor=(actor, "obs")
        )
        params["entropy"] = {"log_price": jnp.zeros(())}
        return params, {"targets": {"critic": params["critic"]}}

    def draw(params, obs, key, count):
        """The policy's actions `[count, B, A]`, their log-densities `[count, B]`."""
        pi = actor.apply({"params": params}, see(obs))
        action, u = pi.sample(key, count)
        return action, pi.log_prob(u)

    def off_data(groups, batch, key):
        """CQL's draws `[3 n, B, A]` and their log-densities; both are constants."""
        keys, count = jax.random.split(key, 3), model.num_draws
        shape = (count, *batch.action.shape)
        alike = jax.random.uniform(keys[0], shape, minval=-1.0, maxval=1.0)
        flat = jnp.full(shape[:2], -size * math.log(2.0))
        here = draw(groups["actor"], batch.obs, keys[1], count)
        there = draw(groups["actor"], batch.next_obs, keys[2], count)
        found = zip((alike, flat), here, there, strict=True)
        return jax.lax.stop_gradient(tuple(map(jnp.concatenate, found)))

    def losses(groups, extra, batch, key):
        keys = jax.random.split(key, 3)
        obs, target_q = batch.obs, extra["targets"]["critic"]
        price = jnp.exp(groups["entropy"]["log_price"])
        after, density = draw(groups["actor"], batch.next_obs, keys[0], 1)
        value = critic.apply({"params": target_q}, batch.next_obs, after[0])
        value = value.min(axis=0) - (0.0 if is_cql else price * density[0])
        goes_on = model.discount * batch.bootstrap
        target = model.reward_scale * batch.reward + goes_on * value
        drawn = off_data(groups, batch, keys[1]) if is_cql else None

        def critic_loss(params):
            def q(*given):
                return critic.apply({"params": params}, *given)

            fit = td_loss(q(obs, batch.action), target)
            if drawn is None:
                return fit
            press = pressure(q, obs, batch.action, *drawn)
            return 0.5 * fit + model.alpha * jnp.sum(press)

        groups.descend("critic", critic_loss)

        def actor_loss(params):
            action, density = draw(params, obs, keys[2], 1)
            q = critic.apply({"params": groups["critic"]}, obs, action[0]).min(axis=0)
            return jnp.mean(price * density[0] - q)

        _, density = draw(groups["actor"], obs, keys[2], 1)
        short = jax.lax.stop_gradient(jnp.mean(density)) - size
        groups.descend("actor", actor_loss)
        groups.descend("entropy", lambda p: -p["log_price"] * short)
        targets = ac.follow(extra["targets"], groups, model.target_rate)
        found = {"entropy": -jnp.mean(density), "price": price}
        return {"targets": targets}, found

    return ac.make_learner(config, init, losses)


_SAC_N = Algorithm(
    name="sac_n",
    config_class=SACNConfig,
    default_config=lambda task: default_config(task, "sac_n"),
    make_learner=make_learner,
    make_policy=ac.make_mean_policy,
    variables_of=ac.variables_of,
    to_device=ac.to_device,
    check=memoryless.check,
)
_CQL = dataclasses.replace(
    _SAC_N,
    name="cql",
    config_class=CQLConfig,
    default_config=lambda task: default_config(task, "cql"),
)
ALGORITHMS = (_SAC_N, _CQL)
