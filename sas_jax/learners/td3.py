"""TD3+BC and PRDC: a deterministic policy held to the data, by two distances.

TD3+BC (Fujimoto and Gu 2021) stays near the action that was recorded at the state:

    a'           = clip(pi'(s') + noise, -1, 1),   noise normal of 0.2, cut at 0.5
    critics      r + gamma min_i Q_i'(s', a')
    actor        min  -alpha / mean|Q| E Q(s, pi(s)) + E d(s, pi(s))^2 / A,
                 every second step, as the targets
    d            |pi(s) - a|

PRDC (Ran et al. 2023) stays near any action that was recorded in a state like this one,
the nearest row of the data in state and action together:

    d            |pi(s) - a*|,  (s*, a*) = argmin beta^2 |s - s*|^2 + |pi(s) - a*|^2

With beta so large that the nearest state is s itself, it is TD3+BC.

The paper asks a tree on the host. Here the distances are matrix products, some rows of
the data at a time, which an accelerator makes quickly and a CPU does not: there
`model.candidates` rows, drawn anew in every update, stand for all of them. Neither
knows of a cost.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sas_jax.config import Number
from sas_jax.data import transitions
from sas_jax.data.spec import DataSpec
from sas_jax.errors import UserError
from sas_jax.experiment import ExperimentConfig
from sas_jax.learners import memoryless
from sas_jax.learners.components import actor_critic as ac
from sas_jax.learners.components.critics import Ensemble, td_loss
from sas_jax.models.networks import MLP
from sas_jax.types import Learner, TransitionBatch

_NOISE, _NOISE_CUT, _ACTOR_EVERY = 0.2, 0.5, 2
# Rows whose distances are in memory at a time.
_CHUNK = 4096


@dataclasses.dataclass(frozen=True)
class TD3Config(ac.ActorCriticConfig):
    """greed: alpha, weight of Q against the distance. state_weight: beta of PRDC.
    candidates: rows that PRDC looks for the nearest one in, drawn anew in every update;
    0 is all of the data.
    """

    actor_rate: float = 3e-4
    greed: float = 2.5
    state_weight: float = 2.0
    candidates: int = 4096

    def rules(self) -> dict[str, Any]:
        """One rule a field."""
        return super().rules() | {
            "greed": Number(above=0),
            "state_weight": Number(least=0),
            "candidates": Number(least=0, whole=True),
        }


def check(config: ExperimentConfig) -> None:
    """Raises UserError for rows that do not spread over the devices."""
    memoryless.check(config)
    count, devices = config.model.candidates, config.train.devices
    if config.algo == "prdc" and devices != 1 and (count == 0 or count % devices):
        raise UserError(
            f"model.candidates: {count}; expected a multiple of train.devices {devices}"
        )


class Drawn(NamedTuple):
    """batch: steps to learn from. obs, action: `[n, ...]` rows to look for the nearest
    one in; of no rows where nobody looks.
    """

    batch: TransitionBatch
    obs: jax.Array
    action: jax.Array


def default_config(task: str, algo: str) -> ExperimentConfig:
    """TD3+BC's settings; PRDC's beta is that of its paper."""
    train = ac.train_config(learning_rate=3e-4, batch_rows=256)
    return ExperimentConfig(task=task, algo=algo, model=TD3Config(), train=train)


def nearest(
    obs: jax.Array,
    action: jax.Array,
    known_obs: jax.Array,
    known_action: jax.Array,
    state_weight: float,
) -> jax.Array:
    """The actions `[B, A]` of the nearest rows; see the module. No gradient.

    Args:
      obs, action: `[B, O]`, `[B, A]`. known_obs, known_action: `[n, ...]`, at least one
        row.
    """
    query = jnp.concatenate([state_weight * obs, action], axis=1)
    query = jax.lax.stop_gradient(query)
    count = known_obs.shape[0]
    size = min(_CHUNK, count)
    # The last chunk begins earlier, so that all are of one size.
    starts = jnp.minimum(jnp.arange(0, count, size), count - size)

    def look(best, start):
        def cut(x):
            return jax.lax.dynamic_slice_in_dim(x, start, size)

        acted = cut(known_action)
        rows = jnp.concatenate([state_weight * cut(known_obs), acted], axis=1)
        # |q - r|^2 less |q|^2, which is the same for all rows.
        # Differences of large numbers: an accelerator's quick product would err.
        both = jnp.matmul(query, rows.T, precision=jax.lax.Precision.HIGHEST)
        away = jnp.sum(rows * rows, axis=1)[None, :] - 2.0 * both
        found = jnp.argmin(away, axis=1)
        least = jnp.take_along_axis(away, found[:, None], axis=1)[:, 0]
        is_nearer = least < best[0]
        chosen = jnp.where(is_nearer[:, None], acted[found], best[1])
        return (jnp.where(is_nearer, least, best[0]), chosen), None

    first = jnp.full(query.shape[0], jnp.inf), jnp.zeros_like(action)
    (_, chosen), _ = jax.lax.scan(look, first, starts)
    return jax.lax.stop_gradient(chosen)


def make_learner(config: ExperimentConfig, spec: DataSpec) -> Learner:
    """The learner of one training seed."""
    model, size = config.model, config.train.batch_rows
    actor, critic = MLP(model.hidden, spec.action_dim), Ensemble(model.hidden)
    see, is_prdc = ac.blindfold(config, spec), config.algo == "prdc"

    def init(key, cost_limit):
        del cost_limit
        params = ac.fresh(
            key, spec, critic=(critic, "obs", "action"), actor=(actor, "obs")
        )
        return params, {"targets": dict(params), "updates": jnp.zeros((), jnp.int32)}

    def sample(data, key, state):
        del state
        keys, steps = jax.random.split(key), data.ends[-1]
        batch = transitions.sample(data, keys[0], batch_size=size, num_steps=steps)
        if not is_prdc:
            return Drawn(batch, batch.obs[:0], batch.action[:0])
        if model.candidates == 0:
            return Drawn(batch, data.obs[data.entry], data.action)
        rows = jax.random.randint(keys[1], (model.candidates,), 0, steps)
        return Drawn(batch, data.obs[data.entry[rows]], data.action[rows])

    def pi(params, obs):
        return jnp.tanh(actor.apply({"params": params}, see(obs)))

    def losses(groups, extra, drawn, key):
        batch, targets = drawn.batch, extra["targets"]
        noise = _NOISE * jax.random.normal(key, batch.action.shape)
        after = pi(targets["actor"], batch.next_obs)
        after = after + jnp.clip(noise, -_NOISE_CUT, _NOISE_CUT)
        after = jnp.clip(after, -1.0, 1.0)
        value = critic.apply({"params": targets["critic"]}, batch.next_obs, after)
        target = model.reward_scale * batch.reward
        target += model.discount * batch.bootstrap * value.min(axis=0)

        def q(params, action):
            return critic.apply({"params": params}, batch.obs, action)

        groups.descend("critic", lambda p: td_loss(q(p, batch.action), target))

        def actor_loss(params):
            action = pi(params, batch.obs)
            near = batch.action
            if is_prdc:
                known = drawn.obs, drawn.action
                near = nearest(batch.obs, action, *known, model.state_weight)
            worth = q(groups["critic"], action)[0]
            size = jax.lax.stop_gradient(jnp.mean(jnp.abs(worth))) + 1e-8
            distance = jnp.mean(jnp.square(action - near))
            return distance - model.greed / size * jnp.mean(worth)

        updates = extra["updates"] + 1
        is_due = updates % _ACTOR_EVERY == 0
        groups.descend("actor", actor_loss, when=is_due)
        # A share of nothing leaves the targets where they are.
        targets = ac.follow(targets, groups, jnp.where(is_due, model.target_rate, 0.0))
        return {"targets": targets, "updates": updates}, {}

    return ac.make_learner(config, init, losses, sample)


ALGORITHMS = tuple(
    ac.algorithm(
        name,
        TD3Config,
        lambda task, name=name: default_config(task, name),
        make_learner,
        make_policy=ac.make_deterministic_policy,
        check=check,
        check_data=lambda config, episodes: None,
    )
    for name in ("td3_bc", "prdc")
)
