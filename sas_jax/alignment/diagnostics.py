"""What Algorithm 1 saw, in numbers a person can read."""

import jax
import jax.numpy as jnp
from flax import struct

from sas_jax.alignment import lyapunov
from sas_jax.alignment.config import SASConfig


@struct.dataclass
class Diagnostics:
    """What Algorithm 1 saw, for one prompt. NaN where a variant has no such thing.

    With several fragments: means over the runs that found one, and the first one's
    prompt_start.

    level: E-hat. score: sum of V (or U + V) of the chosen trajectory.
    mean_u, mean_v: share of its steps that meet conditions U and V (Eq. 8).
    invariant_share: `[C]` share of its steps inside R (Eq. 7) at each threshold.
    prompt_start: first step of the segment in imagination.
    prompt_ok: 1 when a prompt was found, 0 when every candidate was disqualified.
    """

    level: jax.Array
    score: jax.Array
    mean_u: jax.Array
    mean_v: jax.Array
    invariant_share: jax.Array
    prompt_start: jax.Array
    prompt_ok: jax.Array


def empty_diagnostics(num_limits: int) -> Diagnostics:
    """The diagnostics of a variant without a prompt, at `num_limits` thresholds."""
    nan = jnp.full((), jnp.nan, jnp.float32)
    return Diagnostics(
        nan, nan, nan, nan, jnp.full(num_limits, jnp.nan, jnp.float32), nan, nan
    )


def diagnose(
    energies: jax.Array,
    selection: lyapunov.Selection,
    start: jax.Array,
    level: jax.Array,
    found: jax.Array,
    cost_limits: jax.Array,
    *,
    max_cost: float,
    config: SASConfig,
    counts: jax.Array | None = None,
) -> Diagnostics:
    """Conditions and invariant set along the trajectory the prompt was cut from.

    Args:
      energies: `[M, T]` of the loop. selection: in it. start: of its segment.
      level: `[]` E-hat. found: `[]` bool, whether there is a prompt.
      cost_limits: `[C]` thresholds. max_cost: C_max.
      counts: `[T]` bool, steps that count; None means all.
    """
    g = lyapunov.lyapunov_value(energies[selection.index], level)

    def share(cost_limit):
        inside = lyapunov.in_invariant_set(
            g,
            cost_limit=cost_limit,
            max_cost=max_cost,
            concentrability=config.concentrability,
        )
        return lyapunov.share(inside, counts)

    def known(x):
        return jnp.where(found, x.astype(jnp.float32), jnp.nan)

    pairs = None if counts is None else lyapunov.pairs(counts)
    return Diagnostics(
        level=known(level),
        score=known(selection.score),
        mean_u=known(lyapunov.share(lyapunov.condition_u(g), counts)),
        mean_v=known(lyapunov.share(lyapunov.condition_v(g), pairs)),
        invariant_share=known(jax.vmap(share)(cost_limits)),
        prompt_start=known(start),
        prompt_ok=found.astype(jnp.float32),
    )


def mean_found(runs: Diagnostics, found: jax.Array) -> Diagnostics:
    """Diagnostics `[F]` of several runs -> one, over the runs where `found` `[F]`."""

    def mean(x):
        wide = found.reshape(-1, *(1,) * (x.ndim - 1))
        return jnp.where(wide, x, 0.0).sum(0) / found.sum()  # NaN: none was found

    return jax.tree.map(mean, runs).replace(
        prompt_start=runs.prompt_start[jnp.argmax(found)],
        prompt_ok=found.any().astype(jnp.float32),
    )
