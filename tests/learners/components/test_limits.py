"""Both conversions of a threshold, against sums of a constant cost."""

import jax
import numpy as np
import pytest

from sas_jax.learners.components import limits


@pytest.mark.parametrize("discount, steps", [(0.99, 1000), (0.99, 100), (1.0, 100)])
def test_a_constant_cost_keeps_the_threshold_exactly(discount, steps):
    """kappa = 20 over T steps: the sum as it is, and the discounted one."""
    step = limits.per_step_limit(20.0, steps)
    assert steps * step == pytest.approx(20)
    expected = sum(step * discount**t for t in range(steps))
    found = limits.discounted_limit(step, discount, steps)
    assert found == pytest.approx(expected)


def test_without_an_end_it_is_what_a_critic_says():
    """Q = c + gamma Q; and the published limit of 100 steps is 0.634 of it."""
    endless = limits.discounted_limit(0.2, 0.99)
    assert endless == pytest.approx(0.2 + 0.99 * endless)
    share = limits.discounted_limit(0.2, 0.99, 100) / endless
    assert share == pytest.approx(1 - 0.99**100)


def test_both_are_traced():
    """CAPS counts the steps that are left, one number a row."""
    left = np.array([1.0, 10.0, 100.0])
    found = jax.jit(lambda n: limits.discounted_limit(n, 0.9, n))(left)
    np.testing.assert_allclose(found, left * (1 - 0.9**left) / 0.1, rtol=1e-5)
