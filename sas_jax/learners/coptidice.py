"""COptiDICE: a policy's stationary distribution, corrected (Lee et al. 2022).

w(s, a) is how much oftener the policy sought is at (s, a) than the data D are.

    max_w  E_D[w r] - alpha E_D[f(w)]   subject to   E_D[w c] <= c_hat = kappa / T,
           and w D being the discounted distribution of some policy

    e(s, a)  = r - lambda c + gamma nu(s') - nu(s)
    w(s, a)  = (f')^-1(e / alpha)                  f: chi-square above 1, KL below
    nu       min (1 - gamma) E nu(s_0) + alpha E_D f*(e / alpha)
    lambda   min lambda (c_hat - C),   lambda >= 0
    actor    max E_D[w log pi(a | s)]

C is the cost E_D[w c] or, where epsilon > 0, the most that it may be for weights v of
the samples with KL(v) <= epsilon, against what few data make it look like:

    l    = (1 - gamma) chi(s_0) + w (c + gamma chi(s') - chi(s))
    v    ~ exp(l / tau),   chi: min E[v l],   tau: min tau (epsilon - KL(v))
    C    = E[v w c]

nu, chi, lambda and tau move together, each with the others as they were. e takes one
next state for its mean, as the published method does; in a world that is not
deterministic that biases w upwards.

The reference code (`reference="osrl"`, see `components.osrl`) fits a Gaussian to the
action and executes tanh of its mean, compares C, which is per step, with the discounted
sum theta (a hundred times as large where gamma is 0.99), and adds noise to what the
actor is fitted to. It also takes s_0 from the same batch as the steps; here initial
states have draws of their own, as in the authors' code. That code has mixtures for a
policy and a penalty on the gradients of nu and chi besides.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from sas_jax.config import Number
from sas_jax.data import transitions
from sas_jax.data.spec import DataSpec
from sas_jax.experiment import ExperimentConfig
from sas_jax.gaussian import gaussian_log_prob
from sas_jax.learners.components import actor_critic as ac
from sas_jax.learners.components import limits, multipliers, osrl
from sas_jax.learners.components.squashed_gaussian import SquashedActor
from sas_jax.models.networks import MLP
from sas_jax.types import Learner, TransitionBatch

# Standard deviation of the reference code's noise, in those of the data.
_NOISE = 0.1


@dataclasses.dataclass(frozen=True)
class COptiDICEConfig(osrl.ConstrainedConfig):
    """alpha: how much the correction costs. epsilon: KL of the weights that the cost is
    bounded over, nats; 0 takes the cost as it looks. scalar_rate: learning rate of
    lambda and tau.
    """

    alpha: float = 0.5
    epsilon: float = 0.01
    scalar_rate: float = 1e-4

    def rules(self) -> dict[str, Any]:
        """One rule a field."""
        return super().rules() | {
            "alpha": Number(above=0),
            "epsilon": Number(least=0),
            "scalar_rate": Number(above=0),
        }


@struct.dataclass
class DICEBatch:
    """steps: single steps. initial_obs: `[B, O]` where episodes begin, drawn alike."""

    steps: TransitionBatch
    initial_obs: jax.Array


def default_config(task: str) -> ExperimentConfig:
    """OSRL's settings."""
    train = ac.train_config(task, learning_rate=1e-4)
    model = COptiDICEConfig()
    return ExperimentConfig(task=task, algo="coptidice", model=model, train=train)


def correction(y: jax.Array) -> jax.Array:
    """w = (f')^-1(y): exp(y) below 0, y + 1 above; elementwise."""
    return jnp.where(y < 0, jnp.exp(jnp.minimum(y, 0.0)), y + 1.0)


def conjugate(y: jax.Array) -> jax.Array:
    """f*(y) = max_w (w y - f(w)), elementwise; its slope is `correction`.

    f(x) = x (ln x - 1) + 1 below 1 and (x - 1)^2 / 2 above, so that f* is exp(y) - 1
    below 0 and y^2 / 2 + y above.
    """
    return jnp.where(y < 0, jnp.expm1(jnp.minimum(y, 0.0)), 0.5 * y * y + y)


def tilt(values: jax.Array, tau: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Weights v `[B]`, of mean 1, that favour large values `[B]`, and their KL `[]`."""
    weight = values.size * jax.nn.softmax(values / tau)
    return weight, jnp.mean(jax.scipy.special.xlogy(weight, weight) - weight + 1.0)


def _sample(size: int, data, key, state) -> DICEBatch:
    """Transitions, and as many first observations of episodes."""
    del state
    key, start_key = jax.random.split(key)
    starts = jnp.concatenate([jnp.zeros(1, data.ends.dtype), data.ends[:-1]])
    drawn = jax.random.randint(start_key, (size,), 0, starts.size)
    return DICEBatch(
        steps=transitions.sample(data, key, batch_size=size, num_steps=data.ends[-1]),
        initial_obs=data.obs[data.entry[starts[drawn]]],
    )


def _imitation(model: COptiDICEConfig, actor: SquashedActor, see):
    """The actor's loss: behaviour cloning under the weights w `[B]`."""

    def loss(params, steps, weight, key):
        obs, action = see(steps.obs), steps.action
        if model.is_paper:
            pi = actor.apply({"params": params}, obs)
            return -jnp.mean(weight * pi.log_prob_of(action))
        keys = jax.random.split(key)
        noise = [
            _NOISE * jnp.std(x, axis=0)[None] * jax.random.normal(k, x.shape)
            for k, x in zip(keys, (obs, action), strict=True)
        ]
        pi = actor.apply({"params": params}, obs + noise[0])
        density = gaussian_log_prob(action + noise[1], pi.mean, pi.log_std)
        return -jnp.mean(weight * jnp.sum(density, axis=-1))

    return loss


def make_learner(config: ExperimentConfig, spec: DataSpec) -> Learner:
    """The learner of one lane: a seed and a threshold."""
    model = config.model
    value, actor = MLP(model.hidden, 1), SquashedActor(model.hidden, spec.action_dim)
    imitate = _imitation(model, actor, ac.blindfold(config, spec))
    is_bounded = model.epsilon > 0

    def init(key, cost_limit):
        del cost_limit
        raw = {"raw": jnp.asarray(multipliers.softplus_inverse(1.0))}
        bound = {"chi": (value, "obs")} if is_bounded else {}
        networks = {"nu": (value, "obs"), "actor": (actor, "obs")} | bound
        params = ac.fresh(key, spec, **networks) | {"multiplier": raw}
        if is_bounded:
            params["tau"] = jax.tree.map(jnp.copy, raw)
        return params, {}

    def at(params, obs):
        return value.apply({"params": params}, obs)[..., 0]

    def limit_of(cost_limit):
        if model.is_paper:
            return limits.per_step_limit(cost_limit, spec.max_timestep)
        return osrl.critic_limit(config, spec, cost_limit)

    def surplus(groups, steps, nu, multiplier, goes_on):
        """e `[B]`."""
        after = model.discount * goes_on * at(nu, steps.next_obs)
        reward = model.reward_scale * steps.reward - multiplier * steps.cost
        return reward + after - at(nu, steps.obs)

    def losses(groups, extra, batch, key):
        steps, first = batch.steps, 1.0 - model.discount
        goes_on, costs_on = osrl.bootstraps(config, steps)
        multiplier = jax.nn.softplus(groups["multiplier"]["raw"])
        e = surplus(groups, steps, groups["nu"], multiplier, goes_on)
        w = correction(e / model.alpha)

        def nu_loss(params):
            e = surplus(groups, steps, params, multiplier, goes_on)
            dual = model.alpha * jnp.mean(conjugate(e / model.alpha))
            return first * jnp.mean(at(params, batch.initial_obs)) + dual

        v, found = jnp.ones_like(w), {}
        if is_bounded:

            def spread(params):
                """l `[B]`."""
                after = model.discount * costs_on * at(params, steps.next_obs)
                flow = steps.cost + after - at(params, steps.obs)
                return first * at(params, batch.initial_obs) + w * flow

            tau = jax.nn.softplus(groups["tau"]["raw"])
            v, kl = tilt(spread(groups["chi"]), tau)
            v, found = jax.lax.stop_gradient(v), {"tau": tau, "kl": kl}
            groups.descend("chi", lambda p: jnp.mean(v * spread(p)))
            groups.descend(
                "tau",
                lambda p: multipliers.softplus_dual_loss(p["raw"], kl - model.epsilon),
            )
        cost = jnp.mean(v * w * steps.cost)
        excess = cost - limit_of(extra["cost_limit"])
        groups.descend(
            "multiplier", lambda p: multipliers.softplus_dual_loss(p["raw"], excess)
        )
        groups.descend("nu", nu_loss)
        e = surplus(groups, steps, groups["nu"], multiplier, goes_on)
        w = jax.lax.stop_gradient(correction(e / model.alpha))
        groups.descend("actor", lambda p: imitate(p, steps, w, key))
        found |= {"multiplier": multiplier, "cost": cost, "weight": jnp.mean(w)}
        return {}, found

    return ac.make_learner(
        config,
        init,
        losses,
        functools.partial(_sample, config.train.batch_rows),
        rates={name: model.scalar_rate for name in ("multiplier", "tau")},
    )


ALGORITHMS = (
    ac.algorithm(
        "coptidice",
        COptiDICEConfig,
        default_config,
        make_learner,
        by_threshold=True,
    ),
)
