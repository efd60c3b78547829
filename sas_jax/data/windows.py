"""Offline data on the device, and rows of it drawn inside jit.

One upload, then no input pipeline: a training step draws its rows by index. Each
episode keeps one extra entry at its end, the observation after its last step, so that
every step has a next state.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from sas_jax.data.episodes import Episodes
from sas_jax.losses import Batch
from sas_jax.spec import DataSpec
from sas_jax.types import Key


@struct.dataclass
class DeviceData:
    """Episodes end to end, `S + E` entries, in the model's units.

    obs: `[S+E, O]` standardised. action: `[S+E, A]` clipped to [-1, 1], as executed.
    return_to_go, cost_to_go: `[S+E]` scaled, 0 at the extra entries.
    cost: `[S+E]` 1 where the step cost something.
    starts: `[E]` int32 first entry. lengths: `[E]` int32 steps.
    ends: `[E]` int32 cumulative lengths.
    """

    obs: jax.Array
    action: jax.Array
    return_to_go: jax.Array
    cost_to_go: jax.Array
    cost: jax.Array
    starts: jax.Array
    lengths: jax.Array
    ends: jax.Array


def _to_go(values: np.ndarray, episodes: Episodes) -> np.ndarray:
    """Undiscounted sum `[S+E]` from each step to its episode's end; 0 at the end."""
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    index = np.arange(len(values) + episodes.num_episodes)
    episode = np.repeat(np.arange(episodes.num_episodes), episodes.lengths + 1)
    return total[episodes.offsets[episode + 1]] - total[index - episode]


def to_device(episodes: Episodes, spec: DataSpec) -> DeviceData:
    """Uploads `episodes` in the units of `spec` (float32)."""
    entries = episodes.num_steps + episodes.num_episodes
    episode = np.repeat(np.arange(episodes.num_episodes), episodes.lengths)
    where = np.arange(episodes.num_steps) + episode
    last = episodes.offsets[1:] + np.arange(episodes.num_episodes)
    obs = np.empty((entries, episodes.obs_dim), np.float32)
    obs[where] = episodes.observations
    obs[last] = episodes.final_observations
    obs -= spec.obs_mean
    obs /= spec.obs_std
    action = np.zeros((entries, episodes.action_dim), np.float32)
    action[where] = np.clip(episodes.actions, -1.0, 1.0)
    cost = np.zeros(entries, np.float32)
    cost[where] = episodes.costs > 0
    return DeviceData(
        obs=jnp.asarray(obs),
        action=jnp.asarray(action),
        return_to_go=jnp.asarray(
            _to_go(episodes.rewards, episodes) / spec.return_scale, jnp.float32
        ),
        cost_to_go=jnp.asarray(
            _to_go(episodes.costs, episodes) / spec.cost_scale, jnp.float32
        ),
        cost=jnp.asarray(cost),
        starts=jnp.asarray(
            episodes.offsets[:-1] + np.arange(episodes.num_episodes), jnp.int32
        ),
        lengths=jnp.asarray(episodes.lengths, jnp.int32),
        ends=jnp.asarray(episodes.offsets[1:], jnp.int32),
    )


def rows_at(
    data: DeviceData, episode: jax.Array, start: jax.Array, *, row_length: int
) -> Batch:
    """The rows `[B, row_length]` that begin at step `start` `[B]` of `episode` `[B]`.

    Steps past an episode's end are padding: is_valid False, the last entry repeated.
    """
    offset = start[:, None] + jnp.arange(row_length + 1)[None, :]
    length = data.lengths[episode][:, None]
    index = data.starts[episode][:, None] + jnp.minimum(offset, length)
    return Batch(
        obs=data.obs[index],
        action=data.action[index[:, :-1]],
        return_to_go=data.return_to_go[index],
        cost_to_go=data.cost_to_go[index],
        cost=data.cost[index[:, :-1]],
        timestep=jnp.minimum(offset, length)[:, :-1],
        is_valid=(offset < length)[:, :-1],
    )


def sample(data: DeviceData, key: Key, *, batch_rows: int, row_length: int) -> Batch:
    """Draws rows around uniformly chosen steps; key is consumed.

    A row is moved inside its episode, so rows are padded only when the episode is
    shorter than the row. The move gives an episode's first and last steps, which fewer
    rows can contain, their share.
    """
    step = jax.random.randint(key, (batch_rows,), 0, data.ends[-1])
    episode = jnp.searchsorted(data.ends, step, side="right")
    length = data.lengths[episode]
    inside = step - (data.ends[episode] - length)
    start = jnp.clip(inside - row_length // 2, 0, jnp.maximum(length - row_length, 0))
    return rows_at(data, episode, start, row_length=row_length)
