"""O3SRL on TD3+BC: a bandit sets the price of cost while the policy is trained.

O3SRL (Chemingui et al. 2025) plays the Lagrangian as a game. The policy maximises, by
an offline learner; the price lambda, one of a few arms, minimises, by EXP3. The learner
is TD3+BC (Fujimoto and Gu 2021), a deterministic policy pi:

    a'           = clip(pi'(s') + noise, -1, 1),   noise normal of 0.2, cut at 0.5
    Q_lambda     = Q - lambda (Q_c - theta)
    critics      Q: r + gamma Q'(s', a'),  Q_c: c + gamma Q_c'(s', a'), both by the
                 member whose Q_lambda' is the least
    actor        min  -2.5 / mean|Q_lambda| E Q_lambda(s, pi(s)) + E |pi(s) - a|^2,
                 every second step, as the targets
    EXP3         every 10 steps: g = 1 - (E Q_lambda(s, pi(s)) - lo) / (hi - lo),
                 log w_arm += eta g / p_arm,  p = (1 - rho) softmax(log w) + rho / K

The paper trains one critic of r - lambda (c - kappa / T). A critic is linear in its
reward, so the two above say the same of the policy at hand, and do not chase a reward
that changes whenever the arm does. How the paper scales its losses into [0, 1] was not
to be had; lo and hi are the least and the most seen so far.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from sas_jax.config import Many, Number
from sas_jax.data.spec import DataSpec
from sas_jax.experiment import ExperimentConfig
from sas_jax.learners.components import actor_critic as ac
from sas_jax.learners.components import limits
from sas_jax.learners.components.critics import Ensemble, at_best, td_loss
from sas_jax.models.networks import MLP
from sas_jax.types import Learner

_NOISE, _NOISE_CUT, _ACTOR_EVERY = 0.2, 0.5, 2


@dataclasses.dataclass(frozen=True)
class O3SRLConfig(ac.ActorCriticConfig):
    """arms: prices to choose from. arm_steps: updates under one. exploration: rho, the
    share of arms drawn alike. cloning: weight of Q against the recorded action, 2.5.
    """

    actor_rate: float = 3e-4
    arms: tuple[float, ...] = (0.0, 1.25, 2.5, 3.75, 5.0)
    arm_steps: int = 10
    exploration: float = 0.1
    cloning: float = 2.5

    def rules(self) -> dict[str, Any]:
        """One rule a field."""
        return super().rules() | {
            "arms": Many(Number(least=0), least=2),
            "arm_steps": Number(least=1, whole=True),
            "exploration": Number(above=0, most=1),
            "cloning": Number(above=0),
        }


def default_config(task: str) -> ExperimentConfig:
    """TD3+BC's settings, O3SRL's arms."""
    train = ac.train_config(task, learning_rate=3e-4, batch_rows=256)
    return ExperimentConfig(task=task, algo="o3srl", model=O3SRLConfig(), train=train)


def initial_bandit(arms: int) -> dict[str, jax.Array]:
    """log_weight `[K]`; arm: the one in play; low, high: of what was seen."""
    return {
        "log_weight": jnp.zeros(arms),
        "arm": jnp.zeros((), jnp.int32),
        "low": jnp.asarray(jnp.inf),
        "high": jnp.asarray(-jnp.inf),
    }


def chances(log_weight: jax.Array, exploration: float) -> jax.Array:
    """p `[K]`: EXP3's distribution over arms."""
    share = exploration / log_weight.size
    return (1.0 - exploration) * jax.nn.softmax(log_weight) + share


def play(bandit, seen, key, *, exploration, rate):
    """One round of EXP3 for the side that minimises: what the arm gave, the next arm.

    seen: `[]` what the Lagrangian came to under the arm in play. key: consumed.
    """
    low, high = jnp.minimum(bandit["low"], seen), jnp.maximum(bandit["high"], seen)
    # The first round has nothing to compare with.
    gain = jnp.where(high > low, 1.0 - (seen - low) / (high - low + 1e-8), 0.0)
    arm = bandit["arm"]
    chance = chances(bandit["log_weight"], exploration)[arm]
    log_weight = bandit["log_weight"].at[arm].add(rate * gain / chance)
    after = chances(log_weight, exploration)
    drawn = jax.random.categorical(key, jnp.log(after)).astype(jnp.int32)
    return {"log_weight": log_weight, "arm": drawn, "low": low, "high": high}


def make_learner(config: ExperimentConfig, spec: DataSpec) -> Learner:
    """The learner of one lane: a seed and a threshold."""
    model = config.model
    actor, critic = MLP(model.hidden, spec.action_dim), Ensemble(model.hidden)
    see, arms = ac.blindfold(config, spec), jnp.asarray(model.arms, jnp.float32)
    rounds = max(config.train.num_steps // model.arm_steps, 1)
    rate = math.sqrt(math.log(arms.size) / (arms.size * rounds))

    def init(key, cost_limit):
        del cost_limit
        params = ac.fresh(
            key,
            spec,
            critic=(critic, "obs", "action"),
            cost_critic=(critic, "obs", "action"),
            actor=(actor, "obs"),
        )
        extra = {"targets": dict(params), "updates": jnp.zeros((), jnp.int32)}
        return params, extra | {"bandit": initial_bandit(arms.size)}

    def pi(params, obs):
        return jnp.tanh(actor.apply({"params": params}, see(obs)))

    def both(params, obs, action):
        """Members' Q and Q_c `[2, B]` by the groups, or the targets."""
        names = ("critic", "cost_critic")
        return (critic.apply({"params": params[k]}, obs, action) for k in names)

    def losses(groups, extra, batch, key):
        keys = jax.random.split(key)
        obs, targets, bandit = batch.obs, extra["targets"], extra["bandit"]
        step = limits.per_step_limit(extra["cost_limit"], spec.max_timestep)
        theta = limits.discounted_limit(step, model.discount)
        price = arms[bandit["arm"]]

        noise = _NOISE * jax.random.normal(keys[0], batch.action.shape)
        after = pi(targets["actor"], batch.next_obs)
        after = after + jnp.clip(noise, -_NOISE_CUT, _NOISE_CUT)
        value, cost = both(targets, batch.next_obs, jnp.clip(after, -1.0, 1.0))
        value, cost = at_best(price * cost - value, value, cost)
        goes_on = model.discount * batch.bootstrap
        for name, target in (
            ("critic", model.reward_scale * batch.reward + goes_on * value),
            ("cost_critic", batch.cost + goes_on * cost),
        ):
            groups.descend(
                name,
                lambda p, target=target: td_loss(
                    critic.apply({"params": p}, obs, batch.action), target
                ),
            )

        def worth(action):
            value, cost = both(groups, obs, action)
            return value[0] - price * (cost[0] - theta)

        def actor_loss(params):
            action = pi(params, obs)
            q = worth(action)
            scale = model.cloning / (jax.lax.stop_gradient(jnp.mean(jnp.abs(q))) + 1e-8)
            cloned = jnp.mean(jnp.square(action - batch.action))
            return cloned - scale * jnp.mean(q)

        updates = extra["updates"] + 1
        is_due = updates % _ACTOR_EVERY == 0
        groups.descend("actor", actor_loss, when=is_due)
        # A share of nothing leaves the targets where they are.
        targets = ac.follow(targets, groups, jnp.where(is_due, model.target_rate, 0.0))
        seen = jnp.mean(worth(pi(groups["actor"], obs)))
        played = play(bandit, seen, keys[1], exploration=model.exploration, rate=rate)
        is_round = updates % model.arm_steps == 0
        bandit = jax.tree.map(
            lambda new, old: jnp.where(is_round, new, old), played, bandit
        )
        new = {"targets": targets, "updates": updates, "bandit": bandit}
        expected = jnp.sum(chances(bandit["log_weight"], model.exploration) * arms)
        return new, {"lagrangian": seen, "multiplier": expected}

    return ac.make_learner(config, init, losses)


ALGORITHMS = (
    ac.algorithm(
        "o3srl",
        O3SRLConfig,
        default_config,
        make_learner,
        make_policy=ac.make_deterministic_policy,
        make_risk=ac.make_risk,
        by_threshold=True,
        is_extensible=False,
    ),
)
