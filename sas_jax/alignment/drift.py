"""The real episode's own energy against the level that its prompt was chosen at.

While an episode runs, the model scores what really happens as it scored what it
imagined: l_t = log rho(s_t) + log pi(a_t | s_t, z_t), a_t before it is clipped, and E_t
over windows of w steps (algorithm, section 3). E_t is known once step t + w - 1 has
been acted on; the last w - 1 steps of an episode have no whole window and do not count.

An energy sums the densities of its window, so one unlikely step among likely ones
raises none: the real episode has left the set when all steps of a window have.

The drift of a step is E_t less E-hat, the level of the latest alignment. The alarm
belongs to the first step, at the time it is known, whose drift exceeds the margin. A
density that is not a number counts as infinitely far.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from sas_jax.alignment import lyapunov
from sas_jax.alignment.config import SASConfig


@struct.dataclass
class Drift:
    """One row per episode.

    log_density: `[B, w]` the last l_t, the newest last. prediction: the model's, of the
    observation to come. first: `[B]` log rho of the first observation.
    largest: `[B]` largest drift so far. num_seen: `[B]` steps with a whole window under
    a level; num_outside: `[B, C]` how many of them lie outside the invariant set R
    (Eq. 7) at each threshold. alarm: `[B]` int32 step of the alarm, -1 without one.
    """

    log_density: jax.Array
    prediction: Any
    first: jax.Array
    largest: jax.Array
    num_seen: jax.Array
    num_outside: jax.Array
    alarm: jax.Array


def begin(first: jax.Array, prediction: Any, num_limits: int, window: int) -> Drift:
    """Before the first action. first: `[B]` log rho of the first observation.

    prediction: any value of the right shape; the first step does not look at it.
    """
    count = first.shape[0]
    return Drift(
        log_density=jnp.zeros((count, window)),
        prediction=prediction,
        first=first,
        largest=jnp.full(count, -jnp.inf, first.dtype),
        num_seen=jnp.zeros(count, jnp.int32),
        num_outside=jnp.zeros((count, num_limits), jnp.int32),
        alarm=jnp.full(count, -1, jnp.int32),
    )


def update(
    drift: Drift,
    *,
    log_density: jax.Array,
    prediction: Any,
    timestep: jax.Array,
    level: jax.Array,
    limits: jax.Array,
    is_running: jax.Array,
    config: SASConfig,
    max_cost: float,
) -> Drift:
    """After a step was acted on.

    Args:
      log_density: `[B]` its l_t. prediction: the model's, of the next observation.
      timestep, level: `[B]` t and E-hat (NaN where there is none, which counts never).
      limits: `[B, C]` thresholds. is_running: `[B]` bool, the others stay as they are.
    """
    window = drift.log_density.shape[1]
    held = jnp.concatenate([drift.log_density[:, 1:], log_density[:, None]], axis=1)
    energies = jax.vmap(
        lambda row: lyapunov.energy(row, discount=config.discount, window=window)[0]
    )(held)
    counts = is_running & (timestep >= window - 1) & jnp.isfinite(level)
    gap = jnp.where(jnp.isnan(energies), jnp.inf, energies) - level
    alarmed = counts & (gap > config.drift_margin) & (drift.alarm < 0)

    def inside(gap, limits):
        return jax.vmap(
            lambda limit: lyapunov.in_invariant_set(
                -gap,
                cost_limit=limit,
                max_cost=max_cost,
                concentrability=config.concentrability,
            )
        )(limits)

    def like(new, held):
        # A weakly typed prediction would have the next step compiled once more.
        return jnp.asarray(new, held.dtype)

    outside = counts[:, None] & ~jax.vmap(inside)(gap, limits)
    return drift.replace(
        log_density=held,
        prediction=jax.tree.map(like, prediction, drift.prediction),
        largest=jnp.where(counts, jnp.maximum(drift.largest, gap), drift.largest),
        num_seen=drift.num_seen + counts,
        num_outside=drift.num_outside + outside,
        alarm=jnp.where(alarmed, timestep, drift.alarm),
    )


def summary(drift: Drift) -> dict[str, jax.Array]:
    """drift `[B]` and drift_outside `[B, C]` (NaN before there is any), drift_alarm."""
    some = drift.num_seen > 0
    shares = drift.num_outside / jnp.maximum(drift.num_seen, 1)[..., None]
    return {
        "drift": jnp.where(some, drift.largest, jnp.nan),
        "drift_outside": jnp.where(some[..., None], shares, jnp.nan),
        "drift_alarm": drift.alarm,
    }
