"""Arithmetic of diagonal Gaussians, and random draws that each row makes for itself."""

import math

import jax
import jax.numpy as jnp

from sas_jax.types import Key

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


def gaussian_log_prob(x: jax.Array, mean: jax.Array, log_std: jax.Array) -> jax.Array:
    """Elementwise log N(x; mean, exp(log_std)^2); the caller sums the dimensions."""
    scaled = (x - mean) * jnp.exp(-log_std)
    return -0.5 * jnp.square(scaled) - log_std - _HALF_LOG_TWO_PI


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
