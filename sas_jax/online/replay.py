"""A replay buffer on the device: the last steps of every lane, in a ring.

Letters: `U` lanes, `C` rows of the ring, `B` environments of a lane. A row is what all
of them did at one time; it is overwritten C rows later. All lanes write at the same
time: their place in the ring is one number.

Rows come in blocks. A loop that both reads and writes a buffer makes XLA copy it at
every turn; so the loop over a block's steps reads it, and what was lived meanwhile is
written after it.
"""

import jax
import jax.numpy as jnp
from flax import struct

from sas_jax.types import Key, TransitionBatch


@struct.dataclass
class Replay:
    """steps: fields `[U, C, B, ...]` of a batch. written: `[]` rows so far."""

    steps: TransitionBatch
    written: jax.Array


def make(
    *, lanes: int, capacity: int, num_envs: int, obs_dim: int, action_dim: int
) -> Replay:
    """An empty buffer. capacity: transitions of a lane, a multiple of num_envs."""
    shape = lanes, capacity // num_envs, num_envs
    number, flag = jnp.zeros(shape), jnp.zeros(shape, bool)
    obs = jnp.zeros((*shape, obs_dim))
    steps = TransitionBatch(
        obs=obs,
        action=jnp.zeros((*shape, action_dim)),
        reward=number,
        cost=number,
        next_obs=obs,
        is_terminal=flag,
        is_timeout=flag,
    )
    return Replay(steps, jnp.zeros((), jnp.int32))


def insert(replay: Replay, rows: TransitionBatch) -> Replay:
    """The buffer with n more rows, `[U, n, B, ...]`, in the places of the oldest.

    n is at most C.
    """
    size, count = replay.steps.reward.shape[1], rows.reward.shape[1]
    place = (replay.written + jnp.arange(count)) % size
    steps = jax.tree.map(
        lambda ring, new: ring.at[:, place].set(new), replay.steps, rows
    )
    return Replay(steps, replay.written + count)


def sample(
    steps: TransitionBatch, written: jax.Array, key: Key, batch_size: int
) -> TransitionBatch:
    """Draws transitions of one lane alike, `[C, B, ...]` -> `[batch_size, ...]`.

    written: `[]` rows so far, at least one; key is consumed.
    """
    size, count = steps.reward.shape
    filled = jnp.minimum(written, size)
    number = jax.random.randint(key, (batch_size,), 0, filled * count)
    row, column = number // count, number % count
    return jax.tree.map(lambda x: x[row, column], steps)
