"""Arithmetic of diagonal Gaussians, and draws of each row's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from sas_jax.gaussian import (
    action_log_prob,
    censored_log_prob,
    gaussian_entropy,
    gaussian_log_prob,
    log_normal_cdf,
    normal_rows,
    split_keys,
    standard_normal_kl,
)


def test_gaussian_arithmetic_against_literals():
    """log N(1; 0, 4) = -1/8 - ln 2 - 0.918939; KL(N(1, 4)) = (1 + 4 - 1)/2 - ln 2."""
    log_prob = gaussian_log_prob(jnp.float32(1), jnp.float32(0), jnp.log(2.0))
    np.testing.assert_allclose(log_prob, -0.125 - 0.693147 - 0.918939, rtol=1e-5)
    kl = standard_normal_kl(jnp.float32(1), jnp.log(2.0))
    np.testing.assert_allclose(kl, 2 - 0.693147, rtol=1e-5)


def test_entropy_is_that_of_the_joint_gaussian():
    log_std = np.random.default_rng(0).normal(size=(4, 3))
    expected = [
        stats.multivariate_normal(cov=np.diag(np.exp(2 * row))).entropy()
        for row in log_std
    ]
    found = gaussian_entropy(jnp.asarray(log_std))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_rows_of_noise_do_not_depend_on_their_companions():
    keys = jax.random.split(jax.random.key(0), 4)
    all_rows = normal_rows(keys, (3,))
    np.testing.assert_array_equal(normal_rows(keys[2:3], (3,))[0], all_rows[2])
    assert len(np.unique(np.asarray(all_rows))) == 12


def test_more_keys_leave_the_first_ones_as_they_are():
    key = jax.random.key(3)
    five, three = (jax.random.key_data(split_keys(key, n)) for n in (5, 3))
    np.testing.assert_array_equal(five[:3], three)
    assert len(np.unique(np.asarray(five), axis=0)) == 5


@pytest.mark.slow
def test_log_cdf_against_scipy_far_into_both_tails():
    """Value and slope; the slope of log Phi is the inverse Mills ratio."""
    x = np.concatenate([np.linspace(-60, 8, 400), [-1e3, -1e4, 40.0]])
    found, slope = jax.vmap(jax.value_and_grad(log_normal_cdf))(jnp.float32(x))
    np.testing.assert_allclose(found, stats.norm.logcdf(x), rtol=3e-6, atol=1e-7)
    expected = np.exp(stats.norm.logpdf(x) - stats.norm.logcdf(x))
    expected[-3:-1] = [1e3, 1e4]  # -x + 1 / x + ..., which float64 cannot subtract
    np.testing.assert_allclose(slope, expected, rtol=2e-4, atol=1e-30)


def test_a_censored_action_counts_as_all_that_is_clipped_to_it():
    action = np.float32([-1, 1, 0.3, -1, 1])
    mean = np.float32([-0.9, 2.5, 0.1, 0.8, -5.0])
    std = np.float32([0.5, 0.3, 0.7, 0.1, 0.05])
    normal = stats.norm(mean, std)
    expected = [
        normal.logcdf(-1.0)[0],
        normal.logsf(1.0)[1],
        normal.logpdf(0.3)[2],
        normal.logcdf(-1.0)[3],
        normal.logsf(1.0)[4],
    ]
    found = censored_log_prob(action, mean, jnp.log(std))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    # Summed over the components; the plain density where nothing is censored.
    for is_censored, score in (True, censored_log_prob), (False, gaussian_log_prob):
        total = action_log_prob(action, mean, jnp.log(std), is_censored=is_censored)
        np.testing.assert_allclose(total, score(action, mean, jnp.log(std)).sum())


def test_a_censored_likelihood_is_a_distribution():
    """Both masses and the density in between add up to 1."""
    mean, log_std = np.float32(0.4), np.float32(np.log(0.8))
    inside = np.linspace(-1, 1, 20001, dtype=np.float32)[1:-1]
    density = np.exp(censored_log_prob(inside, mean, log_std)).mean() * 2
    mass = sum(float(jnp.exp(censored_log_prob(a, mean, log_std))) for a in (-1.0, 1.0))
    assert mass > 0.2
    np.testing.assert_allclose(density + mass, 1.0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("bound", [-1.0, 1.0])
def test_gradients_of_a_censored_action_are_finite_far_out(bound):
    """And point back to the bound; past it, where all mass is clipped, they vanish."""
    mean = jnp.float32([-300.0, -20.0, 20.0, 300.0]) * bound
    log_std = jnp.full(4, -4.0)
    to_mean, to_std = jax.vmap(
        jax.grad(lambda m, s: censored_log_prob(bound, m, s), (0, 1))
    )(mean, log_std)
    assert np.isfinite(to_mean).all() and np.isfinite(to_std).all()
    assert (bound * to_mean[:2] > 1e4).all()
    np.testing.assert_array_equal([to_mean[2:], to_std[2:]], 0.0)
