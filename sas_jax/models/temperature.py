"""The weight of the policy's entropy, learnt so that the entropy keeps a target.

The policy minimises -log pi(a) - temperature * entropy with the temperature held fixed,
and the temperature minimises temperature * (entropy - target) with the entropy held
fixed: it grows while the entropy is below its target and decays to nothing above it
(Online Decision Transformer, Zheng et al. 2022, eq. 9 to 11; Constrained Decision
Transformer, Liu et al. 2023).

Entropies are those of the Gaussian before clipping to the action box, in nats, summed
over action dimensions; the usual target, -action_dim, is in the same units. CDT's
reference code averages over the dimensions instead, which makes its target of
-action_dim a sum of -action_dim ** 2.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct


@struct.dataclass
class Temperature:
    """log_value: scalar, its logarithm. moments: Adam's state for it."""

    log_value: jax.Array
    moments: Any

    @property
    def value(self) -> jax.Array:
        """The temperature itself, always positive."""
        return jnp.exp(self.log_value)


def initial(value: float) -> Temperature:
    """A temperature of `value` > 0."""
    log_value = jnp.log(jnp.asarray(value, jnp.float32))
    return Temperature(log_value, optax.adam(1.0).init(log_value))


def update(
    temperature: Temperature, entropy: jax.Array, *, target: float, rate: float
) -> Temperature:
    """One step of Adam (no weight decay) on the logarithm of the temperature.

    The loss is temperature * (entropy - target).

    Args:
      entropy: scalar, the batch's mean. target: wanted entropy. rate: of Adam.
    """
    gradient = temperature.value * (jax.lax.stop_gradient(entropy) - target)
    change, moments = optax.adam(rate).update(gradient, temperature.moments)
    return Temperature(temperature.log_value + change, moments)
