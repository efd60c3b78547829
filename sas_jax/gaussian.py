"""Arithmetic of diagonal Gaussians, and random draws that each row makes for itself."""

import math

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr

from sas_jax.types import Key

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
# Standard deviations below which the tail's series is exact in float32.
_TAIL = -20.0


def gaussian_log_prob(x: jax.Array, mean: jax.Array, log_std: jax.Array) -> jax.Array:
    """Elementwise log N(x; mean, exp(log_std)^2); the caller sums the dimensions."""
    scaled = (x - mean) * jnp.exp(-log_std)
    return -0.5 * jnp.square(scaled) - log_std - _HALF_LOG_TWO_PI


def log_normal_cdf(x: jax.Array) -> jax.Array:
    """Elementwise log P(X <= x) of a standard normal X.

    Far below 0 by the asymptotic series (Abramowitz and Stegun 1964, 26.2.12), written
    out: JAX takes the derivative of its `log_ndtr` as exp of a difference of two large
    numbers, which float32 rounds away.
    """
    near, far = jnp.maximum(x, _TAIL), jnp.minimum(x, _TAIL)
    squared = jnp.square(far)
    series = jnp.log1p(-1.0 / squared + 3.0 / jnp.square(squared))
    tail = -0.5 * squared - jnp.log(-far) - _HALF_LOG_TWO_PI + series
    return jnp.where(x > _TAIL, log_ndtr(near), tail)


def censored_log_prob(
    action: jax.Array, mean: jax.Array, log_std: jax.Array
) -> jax.Array:
    """Elementwise log-likelihood of a Gaussian sample after clipping to [-1, 1].

    Within the bounds it is the Gaussian's density; at a bound, the probability of all
    that lies beyond (Tobin 1958).
    """
    to_std = jnp.exp(-log_std)
    above = log_normal_cdf((mean - 1.0) * to_std)
    below = log_normal_cdf((-1.0 - mean) * to_std)
    inside = gaussian_log_prob(action, mean, log_std)
    return jnp.where(action >= 1.0, above, jnp.where(action <= -1.0, below, inside))


def action_log_prob(
    action: jax.Array, mean: jax.Array, log_std: jax.Array, *, is_censored: bool
) -> jax.Array:
    """log pi `[...]` of executed actions `[..., A]`, in nats, summed.

    is_censored: an action at a bound counts as all that is clipped to it
      (`censored_log_prob`), and not as one point of the density.
    """
    score = censored_log_prob if is_censored else gaussian_log_prob
    return score(action, mean, log_std).sum(-1)


def gaussian_entropy(log_std: jax.Array) -> jax.Array:
    """Entropy `[...]` of a diagonal Gaussian, log_std `[..., A]`: nats, summed."""
    return jnp.sum(log_std + (0.5 + _HALF_LOG_TWO_PI), axis=-1)


def standard_normal_kl(mean: jax.Array, log_std: jax.Array) -> jax.Array:
    """Elementwise KL( N(mean, exp(log_std)^2) || N(0, 1) ) in nats."""
    return 0.5 * (jnp.square(mean) + jnp.exp(2.0 * log_std) - 1.0) - log_std


def split_keys(key: Key, count: int) -> Key:
    """Returns `count` keys, the i-th from i alone: more leave the first ones as is."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(count))


def normal_rows(keys: Key, shape: tuple[int, ...]) -> jax.Array:
    """Standard normal draws `[P, *shape]`, row p from its own key `keys[p]`.

    Row by row, so that a trajectory's draws do not depend on its companions.
    """
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
