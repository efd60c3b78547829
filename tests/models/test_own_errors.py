"""Inputs with the model's own errors."""

import dataclasses

import jax
import numpy as np
import pytest

from sas_jax.experiment import make_model
from sas_jax.models import losses
from sas_jax.models.own_errors import own_errors
from sas_jax.models.vae import decoder_log_std
from tests.helpers.model_fixtures import make_config, make_spec, make_variables
from tests.models.test_losses import draw_batch


@pytest.fixture(scope="module")
def problem():
    config = make_config(
        decoder={"depth": 1, "dropout": 0.0}, model={"self_noise": 1e-6}
    )
    spec = make_spec()
    model, variables = make_model(config, spec), make_variables(config, spec)
    batch = draw_batch(spec)
    noise = jax.jit(lambda key: losses.draw_noise(model, batch, key))(jax.random.key(3))
    return model, variables, batch, noise


def errors_of(model, variables, batch, noise, key):
    run = jax.jit(
        lambda v, key: own_errors(model, v["params"], batch, v["variances"], noise, key)
    )
    return np.asarray(run(variables, key))


def test_errors_are_samples_less_the_truth_on_noisy_rows(problem):
    """Without carry, input t is in error by a sample of s_t from the real past."""
    model, variables, batch, noise = problem
    key = jax.random.key(8)
    errors = errors_of(model, variables, batch, noise, key)
    assert not errors[0::2].any() and not errors[:, 0].any()
    assert not errors[..., 4].any()  # the constant column is copied
    draw_key, _ = jax.random.split(key)
    half = jax.tree.map(lambda x: x[1::2], batch)
    draws = {
        "transition": noise["transition"][:1],
        "resample": jax.random.normal(draw_key, half.obs[:, 1:].shape),
    }
    log_std = decoder_log_std(variables["variances"]["transition"], floor=0.01)
    sampled = jax.jit(
        lambda v: model.apply(
            {"params": v["params"]}, half, draws, log_std, method="resample"
        )
    )(variables)
    expected = np.asarray(sampled - half.obs[:, 1:])[0, :-1]
    np.testing.assert_allclose(errors[1, 1:], expected, atol=1e-4)
    assert np.abs(expected[:, :4]).mean() > 0.05


def test_errors_carry_over(problem):
    """A share of the error at t is in the input at t + 1, the same for a whole row."""
    model, variables, batch, noise = problem
    key = jax.random.key(8)
    alone = errors_of(model, variables, batch, noise, key)[1]
    carrying = dataclasses.replace(
        model, config=dataclasses.replace(model.config, self_noise=0.9)
    )
    added = errors_of(carrying, variables, batch, noise, key)[1]
    share = (added[2] - alone[2])[:4] / added[1, :4]
    assert 0 < share[0] < 0.9
    np.testing.assert_allclose(share, share[0], rtol=1e-3)
    expected = share[0] * added[2:-1] + alone[3:]
    np.testing.assert_allclose(added[3:, :4], expected[:, :4], rtol=1e-3, atol=1e-4)
