"""Arithmetic of diagonal Gaussians, and draws of each row's own."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from sas_jax.gaussian import (
    gaussian_entropy,
    gaussian_log_prob,
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
