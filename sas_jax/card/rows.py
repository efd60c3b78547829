"""Held-out rows for the world-model card: real context, then the real continuation."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from sas_jax.data import device_rows
from sas_jax.types import Batch


class Rows(NamedTuple):
    """Held-out rows: real context, then the real continuation of the same length."""

    batch: Batch
    context: int
    horizon: int


def draw_rows(data, num_starts, context, horizon, seed) -> Rows:
    """`num_starts` rows of context + horizon steps, uniform over where they fit."""
    length = context + horizon
    lengths = np.asarray(data.lengths)
    room = np.maximum(lengths - length, 0)
    rng = np.random.default_rng(seed)
    fitting = np.flatnonzero(lengths >= length)
    if fitting.size == 0:
        fitting = np.arange(len(lengths))
    episode = rng.choice(fitting, num_starts, p=_shares(room[fitting] + 1))
    start = rng.integers(0, room[episode] + 1)
    batch = device_rows.rows_at(
        data, jnp.asarray(episode), jnp.asarray(start, jnp.int32), row_length=length
    )
    return Rows(batch, context, horizon)


def _shares(weights):
    return weights / weights.sum()
