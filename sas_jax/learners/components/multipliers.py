"""Lagrange multipliers: the price of a constraint, as it is violated or kept.

`violation` is what exceeds the limit; it is 0 where the constraint holds with equality,
and there every multiplier stands still.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp


class PID(NamedTuple):
    """A multiplier by a controller (Stooke et al. 2020); all `[]`.

    integral: of the violation, never below 0. previous: the last violation.
    """

    integral: jax.Array
    previous: jax.Array


# Gains of the controller in OSRL, whose published columns have them.
GAINS = (0.1, 0.003, 0.001)


def pid_init() -> PID:
    """Before the first violation."""
    return PID(jnp.zeros(()), jnp.zeros(()))


def pid_step(
    state: PID, violation: jax.Array, gains: tuple[float, float, float] = GAINS
) -> tuple[PID, jax.Array]:
    """The state after a violation `[]`, and the multiplier `[]`, which is never < 0.

    I <- relu(I + m); lambda = relu(kp relu(m) + ki I + kd relu(m - m_before))
    """
    proportional, integrating, differential = gains
    integral = jax.nn.relu(state.integral + violation)
    rise = jax.nn.relu(violation - state.previous)
    multiplier = (
        proportional * jax.nn.relu(violation)
        + integrating * integral
        + differential * rise
    )
    return PID(integral, violation), jax.nn.relu(multiplier)


def log_dual_step(
    log_value: jax.Array, violation: jax.Array, rate: float, bound: float = 5.0
) -> jax.Array:
    """Dual ascent on l of lambda = e^l: l <- clip(l + rate e^l m, -bound, bound)."""
    step = rate * jnp.exp(log_value) * violation
    return jnp.clip(log_value + step, -bound, bound)


def softplus_dual_loss(raw: jax.Array, violation: jax.Array) -> jax.Array:
    """A loss whose descent is dual ascent on lambda = softplus(raw): -lambda m."""
    return -jax.nn.softplus(raw) * jax.lax.stop_gradient(violation)


def softplus_inverse(value: float) -> float:
    """raw of a multiplier > 0."""
    return value + math.log(-math.expm1(-value))
