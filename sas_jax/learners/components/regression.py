"""Regressions that lean: expectiles, and imitation weighted by advantage."""

import jax
import jax.numpy as jnp


def expectile_loss(error: jax.Array, expectile: float) -> jax.Array:
    """|tau - 1[error < 0]| error^2, elementwise (Kostrikov et al. 2022, Eq. 4).

    error: target minus prediction. Above 1/2 the prediction leans to high targets.
    """
    weight = jnp.where(error < 0, 1.0 - expectile, expectile)
    return weight * jnp.square(error)


def advantage_weight(
    advantage: jax.Array, temperature: float, bound: float
) -> jax.Array:
    """min(exp(beta A), bound), elementwise; a constant to differentiation."""
    # The exponent is bounded first: an infinity would be bounded too, its slope not.
    most = jnp.log(bound)
    weight = jnp.exp(jnp.minimum(temperature * advantage, most))
    return jax.lax.stop_gradient(weight)
