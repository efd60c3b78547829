"""Small networks and the Gaussian arithmetic that the models share."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class MLP(nn.Module):
    """ReLU layers of the given widths, then a linear layer of `features` outputs.

    The output layer starts small, so that every head begins near zero.
    """

    hidden: tuple[int, ...]
    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        for width in self.hidden:
            x = nn.relu(nn.Dense(width, dtype=self.dtype)(x))
        init = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")
        return nn.Dense(self.features, kernel_init=init, dtype=jnp.float32)(x)


def gaussian_log_prob(x: jax.Array, mean: jax.Array, log_std: jax.Array) -> jax.Array:
    """Elementwise log N(x; mean, exp(log_std)^2); the caller sums the dimensions."""
    scaled = (x - mean) * jnp.exp(-log_std)
    return -0.5 * jnp.square(scaled) - log_std - _HALF_LOG_TWO_PI


def standard_normal_kl(mean: jax.Array, log_std: jax.Array) -> jax.Array:
    """Elementwise KL( N(mean, exp(log_std)^2) || N(0, 1) ) in nats."""
    return 0.5 * (jnp.square(mean) + jnp.exp(2.0 * log_std) - 1.0) - log_std


def masked_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of `x` over the entries where `mask` is True; 0 if there are none."""
    if x.shape != mask.shape:
        raise ValueError(f"x {x.shape} and mask {mask.shape} must have one shape")
    # `where`, not a product: NaN in the padding must not reach the mean.
    total = jnp.sum(jnp.where(mask, x, 0.0))
    return total / jnp.maximum(jnp.sum(mask), 1)
