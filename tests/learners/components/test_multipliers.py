"""Multipliers: their steps by hand, and that a kept limit moves none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.learners.components import limits, multipliers


def test_the_controller_against_its_formula():
    """m = 2, then -1, then 1, with gains 0.5, 0.1, 0.25.

    I = 2: 1 + 0.2 + 0.5 = 1.7; I = 1: 0 + 0.1 + 0; I = 2: 0.5 + 0.2 + 0.25 * 2 = 1.2.
    """
    state, found = multipliers.pid_init(), []
    for violation in (2.0, -1.0, 1.0):
        state, value = multipliers.pid_step(
            state, jnp.float32(violation), (0.5, 0.1, 0.25)
        )
        found.append(float(value))
    np.testing.assert_allclose(found, [1.7, 0.1, 1.2], rtol=1e-6)
    for _ in range(9):
        state, value = multipliers.pid_step(state, jnp.float32(-3.0))
    assert value == 0 and state.integral == 0  # nothing is owed for the past


def test_dual_ascent_against_its_formula():
    # 0.5 + 0.1 e^0.5 2 = 0.8297; and never beyond the bound.
    found = multipliers.log_dual_step(jnp.float32(0.5), jnp.float32(2.0), 0.1)
    assert found == pytest.approx(0.5 + 0.2 * np.exp(0.5))
    assert multipliers.log_dual_step(jnp.float32(4.9), jnp.float32(9.0), 1.0) == 5.0
    assert multipliers.log_dual_step(jnp.float32(-5.0), jnp.float32(-9.0), 1.0) == -5.0
    slope = jax.grad(multipliers.softplus_dual_loss)
    # d softplus / d raw = 1 / 2 at 0: descent of -lambda m raises lambda.
    assert slope(0.0, 3.0) == pytest.approx(-1.5)
    raw = multipliers.softplus_inverse(0.7)
    assert jax.nn.softplus(raw) == pytest.approx(0.7)


def test_a_constant_cost_at_the_limit_leaves_every_multiplier_where_it_is():
    """kappa / T at every step: a critic says theta, and nothing moves."""
    kappa, steps, discount = 20.0, 1000, 0.99
    step = limits.per_step_limit(kappa, steps)
    q = step / (1 - discount)  # the critic of a cost that never ends
    violation = jnp.float32(q - limits.discounted_limit(step, discount))
    state = multipliers.PID(jnp.float32(30.0), jnp.float32(0.0))
    values = []
    for _ in range(5):
        state, value = multipliers.pid_step(state, violation)
        values.append(float(value))
    np.testing.assert_allclose(values, 30 * 0.003, rtol=1e-5)
    assert multipliers.log_dual_step(jnp.float32(1.0), violation, 1.0) == (
        pytest.approx(1.0)
    )
    assert jax.grad(multipliers.softplus_dual_loss)(1.0, violation) == (
        pytest.approx(0, abs=1e-5)
    )
