"""Ensembles of critics and their regression, against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.learners.components import critics
from sas_jax.models.networks import MLP


@pytest.mark.slow
def test_members_are_networks_of_their_own():
    """Member i of the ensemble is the MLP with the i-th parameters, all different."""
    net = critics.Ensemble((8,), members=3)
    rng = np.random.default_rng(0)
    obs, action = rng.normal(size=(7, 4)), rng.normal(size=(7, 2))
    params = net.init(jax.random.key(0), obs, action)["params"]
    found = net.apply({"params": params}, obs, action)
    assert found.shape == (3, 7)
    (stacked,) = params.values()
    inputs = np.concatenate([obs, action], axis=-1)
    for i in range(3):
        own = jax.tree.map(lambda x, i=i: x[i], stacked)
        alone = MLP((8,), 1).apply({"params": own}, inputs)[:, 0]
        np.testing.assert_allclose(found[i], alone, atol=1e-6)
    assert len({k.tobytes() for k in np.asarray(stacked["Dense_0"]["kernel"])}) == 3


def test_td_loss_sums_members_and_takes_the_target_as_given():
    values = np.array([[1.0, 2.0], [0.0, 4.0]])
    target = jnp.array([1.0, 3.0])
    # ((0 + 1) + (1 + 1)) / 2
    assert critics.td_loss(values, target) == pytest.approx(1.5)
    slope = jax.grad(lambda t: critics.td_loss(values, t))(target)
    np.testing.assert_array_equal(slope, 0)


def test_the_soft_minimum_lies_between_the_ends():
    values = jnp.array([[1.0, 5.0], [3.0, 1.0]])
    np.testing.assert_allclose(critics.least_and_most(values, 0.75), [1.5, 2.0])


def test_a_spread_is_fitted_where_the_loss_is_least():
    """Of targets 1, 3, 3, 5 the mean is 3 and the deviation 2 ** 0.5; beside numpy."""
    target = jnp.array([1.0, 3.0, 3.0, 5.0])

    def loss(mean, std):
        return critics.spread_loss(jnp.full(4, mean), jnp.full(4, std), target)

    for mean, std in ((3.0, 2**0.5), (2.0, 1.0)):
        error = (mean - np.asarray(target)) / std
        expected = std * np.mean(0.5 * error**2 + np.log(std))
        assert float(loss(mean, std)) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    slope = jax.grad(loss, (0, 1))
    np.testing.assert_allclose(slope(3.0, 2**0.5), (0.0, 0.0), atol=1e-6)
    # Its own std takes its size out of the mean's slope: (2 - 3) / 1.
    assert float(slope(2.0, 1.0)[0]) == pytest.approx(-1.0)
    assert float(slope(2.0, 10.0)[0]) == pytest.approx(-0.1)


def test_a_spread_is_positive():
    critic = critics.SpreadCritic((8,))
    obs = 50.0 * jax.random.normal(jax.random.key(0), (32, 3))
    params = critic.init(jax.random.key(1), obs)
    mean, std = critic.apply(params, obs)
    assert mean.shape == std.shape == (32,) and float(std.min()) >= 1e-3
