"""Which candidates of a plan stay where the data are, and may be believed.

By SAS's energies (`by_energy`), or by a score of states and actions that was fitted
beside the model (`by_score`). Both are relative: a candidate is out when it leaves the
data further than the references do, the candidates that follow the policy. So a row
that is outside already may go on, or back.
"""

import jax
import jax.numpy as jnp

from sas_jax.alignment import lyapunov
from sas_jax.alignment.config import SASConfig


def by_energy(
    log_density: jax.Array, is_reference: jax.Array, sas: SASConfig
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Energies of one row's candidates, and which of them stay where the data are.

    The level is the largest energy of any undisturbed candidate (SAS's E-hat, of the
    policy's own imaginations) plus `plan.margin` nats. The present step is left out:
    nothing of it can be chosen.

    Args:
      log_density: `[N, T]` log rho of the states. is_reference: `[N]`.

    Returns:
      energies `[N, T]`, counts `[T]` (see `Candidates`), and `[N]` bool.
    """
    horizon, margin = log_density.shape[1], sas.plan.margin
    energies = jax.vmap(
        lambda row: lyapunov.energy(
            row, discount=sas.discount, window=sas.energy_window
        )
    )(log_density)
    t = jnp.arange(horizon)
    first = min(1, horizon - 1)
    counts = (t >= first) & (t <= max(horizon - sas.energy_window, first))
    if margin is None:
        return energies, counts, jnp.ones(energies.shape[0], bool)
    is_fine = jnp.all(jnp.isfinite(energies), axis=1)
    peaks, _ = lyapunov.peaks(energies, counts, is_fine)
    level = jnp.max(jnp.where(is_reference & is_fine, peaks, -jnp.inf))
    return energies, counts, is_fine & (is_reference | (peaks <= level + margin))


def by_score(peak: jax.Array, level: jax.Array, is_reference: jax.Array) -> jax.Array:
    """`[N]` bool: which of one row's candidates are never further off than they may be.

    That is `level`, or as far as a reference goes. What is not a number is out.

    Args:
      peak: `[N]` the largest score of each candidate's steps. level: `[]`.
    """
    known = jnp.where(jnp.isnan(peak), jnp.inf, peak)
    worst = jnp.max(jnp.where(is_reference & jnp.isfinite(peak), peak, -jnp.inf))
    return known <= jnp.maximum(level, worst)
