"""Parts of the training loss on literals."""

import dataclasses
import math
import types

import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.models import losses
from tests.helpers.model_fixtures import make_config

CONFIG = make_config()


def test_negative_elbo_on_literals():
    """One of two dimensions varies, variance 4, residuals 2 and 4 (and 9 in padding):
    likelihoods -ln 2 - c - 1/2 and -ln 2 - c - 2; KL 1.0 and 0.1 with 0.5 free bits.
    """
    model = types.SimpleNamespace(
        config=dataclasses.replace(CONFIG.model, free_bits=0.5), active=(True, False)
    )
    residual = jnp.array([[[2.0, 9.0], [4.0, 9.0], [9.0, 9.0]]])
    kl = jnp.array([[[0.5, 0.1], [1.5, 0.1], [7.0, 7.0]]])
    loss, elbo, per_latent = losses._negative_elbo(
        model,
        residual,
        0.5 * jnp.log(jnp.array([4.0, 1.0]))[None, None],
        kl,
        jnp.array([[True, True, False]]),
        250,
    )
    likelihood = -math.log(2) - 0.5 * math.log(2 * math.pi) - 1.25
    np.testing.assert_allclose(per_latent, [1.0, 0.1], rtol=1e-6)
    np.testing.assert_allclose(loss, 0.25 * 1.5 - likelihood, rtol=1e-6)
    np.testing.assert_allclose(elbo, likelihood - 1.1, rtol=1e-6)


def test_masked_mean_ignores_nan_and_counts_what_is_left():
    x = jnp.array([[1.0, jnp.nan], [4.0, 100.0]])
    mask = jnp.array([[True, False], [True, False]])
    assert float(losses.masked_mean(x, mask)) == 2.5
    assert float(losses.masked_mean(x, jnp.zeros_like(mask))) == 0.0
    with pytest.raises(ValueError, match="one shape"):
        losses.masked_mean(x, mask[0])
