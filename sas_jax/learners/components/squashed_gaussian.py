"""A Gaussian squashed into the box of actions: a = tanh(u), u ~ N(mean, std^2).

    log p(a) = sum_d [ log N(u_d; mean_d, std_d) - log(1 - tanh(u_d)^2) ]
    log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2 u))

The second line holds where the first one has long been rounded to log 0 (Haarnoja et
al. 2018, appendix C, is the source of the density).
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from sas_jax.gaussian import gaussian_log_prob
from sas_jax.models.networks import MLP
from sas_jax.types import Key

# Recorded actions at the edge of the box count as if they lay here: their u is 3.8 and
# not infinite.
EDGE = 0.999
LOG_STD_RANGE = (-20.0, 2.0)


class SquashedGaussian(NamedTuple):
    """mean, log_std: `[..., A]` of u."""

    mean: jax.Array
    log_std: jax.Array

    def mode(self) -> jax.Array:
        """tanh of the mode of u: the median of every dimension of the action."""
        return jnp.tanh(self.mean)

    def sample(self, key: Key, count: int) -> tuple[jax.Array, jax.Array]:
        """`count` draws of the action `[count, ..., A]`, and their u."""
        noise = jax.random.normal(key, (count, *self.mean.shape))
        u = self.mean[None] + jnp.exp(self.log_std)[None] * noise
        return jnp.tanh(u), u

    def log_prob(self, u: jax.Array) -> jax.Array:
        """log p(tanh u) `[...]` of `u` `[..., A]`; leading axes may be added."""
        extra = (1,) * (u.ndim - self.mean.ndim)
        mean, log_std = (x.reshape(extra + x.shape) for x in self)
        density = gaussian_log_prob(u, mean, log_std)
        return jnp.sum(density - log_slope(u), axis=-1)

    def log_prob_of(self, action: jax.Array) -> jax.Array:
        """log p `[...]` of actions `[..., A]` in the box, its edge included."""
        return self.log_prob(unsquash(action))


def log_slope(u: jax.Array) -> jax.Array:
    """log d tanh(u) / du, elementwise, for any u."""
    return 2.0 * (math.log(2.0) - u - jax.nn.softplus(-2.0 * u))


def unsquash(action: jax.Array) -> jax.Array:
    """The u of an action, elementwise; see `EDGE`."""
    return jnp.arctanh(jnp.clip(action, -EDGE, EDGE))


class SquashedActor(nn.Module):
    """Observation `[..., O]` -> the distribution of the action."""

    hidden: tuple[int, ...]
    action_dim: int

    @nn.compact
    def __call__(self, obs: jax.Array) -> SquashedGaussian:
        """See the class."""
        out = MLP(self.hidden, 2 * self.action_dim)(obs)
        mean, log_std = jnp.split(out, 2, axis=-1)
        return SquashedGaussian(mean, jnp.clip(log_std, *LOG_STD_RANGE))
