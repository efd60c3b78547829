"""Offline data on the device, and rows of it drawn inside jit.

One upload, then no input pipeline: a training step draws its rows by index. Each
episode keeps one extra entry at its end, the observation after its last step, so that
every step has a next state.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from sas_jax.data import checks
from sas_jax.data.augment import relabel
from sas_jax.data.episodes import Episodes
from sas_jax.data.sampling import DataConfig, cost_weights, cumulative, episode_shares
from sas_jax.data.spec import DataSpec
from sas_jax.types import Batch, Key, LoneSteps, PromptRows

# Streams of a step's key beside the one that draws rows by itself.
_EPISODE, _RELABEL, _PROMPT, _LONE = 1, 2, 3, 4
# Lone steps of a batch, about.
_LONE_STEPS = 1024


class Prompting(NamedTuple):
    """Prompts in training.

    probability: of a row to have one. length: L, steps of a fragment. window: steps in
    sight of rows with a prompt. fragments: segments that a prompt consists of.
    """

    probability: float
    length: int
    window: int
    fragments: int = 1


@struct.dataclass
class Relabelled:
    """Entries of `augment.relabel` on the device, `n` of them.

    episode: `[n]` int32. return_offset, cost_offset: `[n]` scaled. ends: `[n]`
      cumulative probabilities. probability: static, of a row to be one of these.
    """

    episode: jax.Array
    return_offset: jax.Array
    cost_offset: jax.Array
    ends: jax.Array
    probability: float = struct.field(pytree_node=False)


@struct.dataclass
class DeviceData:
    """Episodes end to end, `S + E` entries, in the model's units.

    obs: `[S+E, O]` standardised. action: `[S+E, A]` clipped to [-1, 1], as executed.
    return_to_go, cost_to_go: `[S+E]` scaled, 0 at the extra entries.
    cost: `[S+E]` 1 where the step cost something.
    starts: `[E]` int32 first entry. lengths: `[E]` int32 steps.
    ends: `[E]` int32 cumulative lengths.
    shares: `[E]` cumulative probabilities of the episodes; None draws steps alike.
    relabelled: copies with other tokens, or None.
    prompting: static, prompts that the rows of training have in sight, or None.
    """

    obs: jax.Array
    action: jax.Array
    return_to_go: jax.Array
    cost_to_go: jax.Array
    cost: jax.Array
    starts: jax.Array
    lengths: jax.Array
    ends: jax.Array
    shares: jax.Array | None = None
    relabelled: Relabelled | None = None
    prompting: Prompting | None = struct.field(pytree_node=False, default=None)


def _to_go(values: np.ndarray, episodes: Episodes) -> np.ndarray:
    """Undiscounted sum `[S+E]` from each step to its episode's end; 0 at the end."""
    return np.insert(episodes.to_go(values), episodes.offsets[1:], 0.0)


def _relabelled(
    returns, costs, lengths, spec, config: DataConfig, seed
) -> Relabelled | None:
    """The augmentation's entries in the units of `spec`, or None without any.

    Entries and episodes are one pool, from which steps are drawn by their weight; that
    of an entry goes by the cost that it asks for.
    """
    if config.augment.augment_percent == 0:
        return None
    entries = relabel(returns, costs, config.augment, np.random.default_rng([11, seed]))
    if not len(entries.episode):
        return None
    weights = cost_weights(entries.target_cost, config) * lengths[entries.episode]
    total = weights.sum() + (cost_weights(costs, config) * lengths).sum()
    if not weights.any():
        return None
    return Relabelled(
        episode=jnp.asarray(entries.episode, jnp.int32),
        return_offset=jnp.asarray(entries.return_offset / spec.return_scale, "f4"),
        cost_offset=jnp.asarray(entries.cost_offset / spec.cost_scale, "f4"),
        ends=jnp.asarray(cumulative(weights)),
        probability=float(weights.sum() / total),
    )


def to_device(
    episodes: Episodes,
    spec: DataSpec,
    config: DataConfig | None = None,
    seed: int = 0,
) -> DeviceData:
    """Uploads `episodes` in the units of `spec` (float32).

    Args:
      config: which rows `sample` is to draw; None draws all steps alike.
      seed: of the augmentation's targets.

    Raises:
      UserError: data of other sizes, or settings that leave no episode to draw.
    """
    checks.check_sizes(episodes, spec.obs_dim, spec.action_dim, owner="the model")
    config = DataConfig() if config is None else config
    returns, costs = episodes.returns(), episodes.cost_returns()
    shares = episode_shares(costs, episodes.lengths, config)
    relabelled = _relabelled(returns, costs, episodes.lengths, spec, config, seed)
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
        shares=None if shares is None else jnp.asarray(shares),
        relabelled=relabelled,
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


def _draw_steps(data: DeviceData, key: Key, count: int):
    """Episodes `[count]` and steps `[count]` in them, all steps of the data alike."""
    step = jax.random.randint(key, (count,), 0, data.ends[-1])
    episode = jnp.searchsorted(data.ends, step, side="right")
    return episode, step - (data.ends[episode] - data.lengths[episode])


def _draw_episodes(shares, lengths, key: Key, count: int):
    """Episodes `[B]` by their cumulative shares, and a step `[B]` of each alike."""
    which, where = jax.random.split(key)
    episode = jnp.searchsorted(shares, jax.random.uniform(which, (count,)), "right")
    inside = jax.random.uniform(where, (count,)) * lengths[episode]
    return episode, jnp.minimum(inside.astype(jnp.int32), lengths[episode] - 1)


def _draw_prompts(data, key, episode, start, row_length, prompting: Prompting):
    """Segments of the rows' own episodes, uniform over those outside the row.

    A prompt of several fragments has as many segments, drawn independently: in acting
    each comes from an imagination of its own.

    Prompt-DT (Xu et al. 2022) draws a segment of a demonstration at random, which may
    be the very steps to be learnt; a segment that shares steps with its row would show
    the actions that the row is trained on, so those are left out. A row without
    room for one beside itself has no prompt.
    """
    coin_key, where_key = jax.random.split(key)
    length = data.lengths[episode]
    before = jnp.maximum(start - prompting.length + 1, 0)
    after = jnp.maximum(length - prompting.length - (start + row_length) + 1, 0)
    count = before + after
    shape = (prompting.fragments, *start.shape)
    choice = jax.random.uniform(where_key, shape) * count[None]
    choice = choice.astype(jnp.int32)
    choice = jnp.minimum(choice, jnp.maximum(count - 1, 0)[None])
    behind = choice - before[None] + (start + row_length)[None]
    first = jnp.where(choice < before[None], choice, behind)
    coin = jax.random.uniform(coin_key, start.shape) < prompting.probability
    is_present = coin & (count > 0)
    first = jnp.where(is_present[None], first, 0).T
    step = first[:, :, None] + jnp.arange(prompting.length)[None, None]
    step = step.reshape(start.shape[0], -1)
    # A row without a prompt may stand in an episode shorter than one.
    index = data.starts[episode][:, None] + jnp.minimum(step, length[:, None])
    return PromptRows(
        obs=data.obs[index],
        action=data.action[index],
        return_to_go=data.return_to_go[index],
        cost_to_go=data.cost_to_go[index],
        timestep=jnp.minimum(step, length[:, None]),
        is_present=is_present,
        window=prompting.window,
    )


def _draw_lone(data: DeviceData, key: Key, count: int) -> LoneSteps:
    """`[count]` steps, all of the data alike likely."""
    episode, inside = _draw_steps(data, key, count)
    index = data.starts[episode] + inside
    return LoneSteps(next_obs=data.obs[index + 1], cost=data.cost[index])


def _shifted(rows, return_offset, cost_offset):
    """A `Batch` or `PromptRows` with `[B]` offsets added to its tokens."""
    return rows.replace(
        return_to_go=rows.return_to_go + return_offset[:, None],
        cost_to_go=rows.cost_to_go + cost_offset[:, None],
    )


def sample(
    data: DeviceData,
    key: Key,
    *,
    batch_rows: int,
    row_length: int,
    prompting: Prompting | None = None,
) -> Batch:
    """Draws rows around uniformly chosen steps; key is consumed.

    A row is moved inside its episode, so rows are padded only when the episode is
    shorter than the row. The move gives an episode's first and last steps, which fewer
    rows can contain, their share. Episodes are drawn by `data.shares` where there are
    any, and rows are relabelled with the probability of `data.relabelled`.

    Args:
      prompting: puts a segment of the same episode in sight of some rows.
    """
    if data.shares is None:
        episode, inside = _draw_steps(data, key, batch_rows)
    else:
        episode, inside = _draw_episodes(
            data.shares, data.lengths, jax.random.fold_in(key, _EPISODE), batch_rows
        )
    offsets = None
    if data.relabelled is not None:
        other = data.relabelled
        coin_key, entry_key = jax.random.split(jax.random.fold_in(key, _RELABEL))
        coin = jax.random.uniform(coin_key, (batch_rows,)) < other.probability
        entry, at = _draw_episodes(
            other.ends, data.lengths[other.episode], entry_key, batch_rows
        )
        episode = jnp.where(coin, other.episode[entry], episode)
        inside = jnp.where(coin, at, inside)
        offsets = [
            jnp.where(coin, offset[entry], 0.0)
            for offset in (other.return_offset, other.cost_offset)
        ]
    length = data.lengths[episode]
    start = jnp.clip(inside - row_length // 2, 0, jnp.maximum(length - row_length, 0))
    batch = rows_at(data, episode, start, row_length=row_length)
    if offsets is not None:
        batch = _shifted(batch, *offsets)
    if prompting is not None:
        prompt_key = jax.random.fold_in(key, _PROMPT)
        prompt = _draw_prompts(data, prompt_key, episode, start, row_length, prompting)
        if offsets is not None:
            prompt = _shifted(prompt, *offsets)
        batch = batch.replace(prompt=prompt)
    # A multiple of the rows: these may be spread over devices.
    count = batch_rows * max(_LONE_STEPS // batch_rows, 1)
    lone = _draw_lone(data, jax.random.fold_in(key, _LONE), count)
    return batch.replace(lone=lone)
