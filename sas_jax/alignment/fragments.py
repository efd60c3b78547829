"""Fragments: what several runs of Algorithm 1 choose, one prompt after the other."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from sas_jax.alignment.diagnostics import Diagnostics, mean_found
from sas_jax.types import Key, Trajectory


class Fragment(NamedTuple):
    """What one run of Algorithm 1 chose: `L` steps, whether it found any, and why."""

    segment: Trajectory
    found: jax.Array
    diagnostics: Diagnostics


def fragment_keys(key: Key, count: int) -> Key:
    """Keys `[count]` of independent runs; the first is `key` itself."""
    later = jax.vmap(lambda i: jax.random.fold_in(key, 100 + i))(jnp.arange(1, count))
    return jnp.concatenate([key[None], later])


def joined(fragments: Fragment) -> Fragment:
    """The fragments `[F]` of several runs -> one of F x L steps (see `align_batch`)."""
    found, first = fragments.found, jnp.argmax(fragments.found)

    def spread(x):
        wide = found.reshape(-1, *(1,) * (x.ndim - 1))
        x = jnp.where(wide, x, x[first][None])
        return x.reshape(-1, *x.shape[2:])

    diagnostics = mean_found(fragments.diagnostics, found)
    return Fragment(jax.tree.map(spread, fragments.segment), found.any(), diagnostics)
