"""Single steps of offline data on the device: (s, a, r, c, s', terminal, time-out).

For learners without a sequence, as `device_rows` is for those with one. Episodes lie
sorted by their cost, so that those within a threshold are the first ones: which steps a
learner draws from is one number, and may differ from lane to lane of a vmap.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from sas_jax.data import checks
from sas_jax.data.episodes import Episodes
from sas_jax.data.spec import DataSpec
from sas_jax.types import Key, TransitionBatch


@struct.dataclass
class TransitionData:
    """`S` steps of `E` episodes, the cheapest episode first.

    obs: `[S + E, O]` standardised; after an episode's last step comes the observation
      that it led to. entry: `[S]` int32, where in `obs` a step begins; the observation
      that it leads to is the next entry.
    action: `[S, A]` clipped to [-1, 1], as executed. reward, cost: `[S]`, as recorded.
    is_terminal: `[S]` bool, the environment ended the episode here. is_timeout: `[S]`
      bool, the recording did.
    episode_cost: `[E]` ascending. ends: `[E]` int32 cumulative lengths.
    """

    obs: jax.Array
    entry: jax.Array
    action: jax.Array
    reward: jax.Array
    cost: jax.Array
    is_terminal: jax.Array
    is_timeout: jax.Array
    episode_cost: jax.Array
    ends: jax.Array


def to_device(episodes: Episodes, spec: DataSpec) -> TransitionData:
    """Uploads all steps, observations in the units of `spec`.

    Raises:
      UserError: data of other sizes.
    """
    checks.check_sizes(episodes, spec.obs_dim, spec.action_dim, owner="the model")
    episodes = episodes.select(np.argsort(episodes.cost_returns(), kind="stable"))
    steps, number = episodes.num_steps, np.arange(episodes.num_episodes)
    entry = np.arange(steps) + np.repeat(number, episodes.lengths)
    last = episodes.offsets[1:] - 1
    obs = np.empty((steps + len(number), episodes.obs_dim), np.float32)
    obs[entry] = episodes.observations
    obs[entry[last] + 1] = episodes.final_observations
    obs -= spec.obs_mean
    obs /= spec.obs_std
    is_terminal, is_timeout = np.zeros((2, steps), bool)
    is_terminal[last] = episodes.terminated
    is_timeout[last] = ~episodes.terminated
    return TransitionData(
        obs=jnp.asarray(obs),
        entry=jnp.asarray(entry, jnp.int32),
        action=jnp.asarray(np.clip(episodes.actions, -1.0, 1.0), jnp.float32),
        reward=jnp.asarray(episodes.rewards, jnp.float32),
        cost=jnp.asarray(episodes.costs, jnp.float32),
        is_terminal=jnp.asarray(is_terminal),
        is_timeout=jnp.asarray(is_timeout),
        episode_cost=jnp.asarray(episodes.cost_returns(), jnp.float32),
        ends=jnp.asarray(episodes.offsets[1:], jnp.int32),
    )


def num_steps_within(data: TransitionData, cost_limit: jax.Array) -> jax.Array:
    """Steps `[]` int32 of the episodes whose cost is at most `cost_limit` `[]`.

    They are the first ones of `data`. NaN, no limit, means all.
    """
    limit = jnp.where(jnp.isnan(cost_limit), jnp.inf, cost_limit)
    count = jnp.searchsorted(data.episode_cost, limit, side="right")
    return jnp.where(count > 0, data.ends[count - 1], 0)


def at(data: TransitionData, step: jax.Array) -> TransitionBatch:
    """The steps of these numbers `[B]`."""
    entry = data.entry[step]
    return TransitionBatch(
        obs=data.obs[entry],
        action=data.action[step],
        reward=data.reward[step],
        cost=data.cost[step],
        next_obs=data.obs[entry + 1],
        is_terminal=data.is_terminal[step],
        is_timeout=data.is_timeout[step],
    )


def sample(
    data: TransitionData, key: Key, *, batch_size: int, num_steps: jax.Array
) -> TransitionBatch:
    """Draws steps alike out of the first `num_steps` `[]`; key is consumed."""
    return at(data, jax.random.randint(key, (batch_size,), 0, num_steps))
