"""Expectiles and weights of advantages, by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.learners.components import regression


def test_expectile_loss_by_hand():
    found = regression.expectile_loss(jnp.array([-2.0, 0.0, 3.0]), 0.7)
    np.testing.assert_allclose(found, [0.3 * 4, 0, 0.7 * 9], rtol=1e-6)


def test_its_minimum_is_the_expectile():
    """Of {0, 1} at tau: tau (1 - v) = (1 - tau) v, so v = tau."""
    x = jnp.array([0.0, 1.0])

    def loss(v):
        return regression.expectile_loss(x - v, 0.8).sum()

    assert abs(float(jax.grad(loss)(0.8))) < 1e-6


def test_weights_are_bounded_and_constant():
    advantage = jnp.array([-1.0, 0.0, 1.0, 1e4])
    found = regression.advantage_weight(advantage, 3.0, 100.0)
    np.testing.assert_allclose(found, [np.exp(-3), 1, np.exp(3), 100], rtol=1e-5)
    slope = jax.grad(lambda a: regression.advantage_weight(a, 3.0, 100.0).sum())
    np.testing.assert_array_equal(slope(advantage), 0)
