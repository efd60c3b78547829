"""The VAE of actions: its loss, what it says of actions off the data."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sas_jax.learners.components import action_vae
from tests.helpers.model_fixtures import random_params

VAE = action_vae.ActionVAE((8,), 2)


def layers(params, x):
    hidden = np.maximum(x @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"], 0)
    return hidden @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"]


def test_the_loss_is_reconstruction_and_divergence():
    """Two networks of two layers in numpy, with the loss's own noise."""
    rng = np.random.default_rng(0)
    obs, action = rng.normal(size=(6, 3)), rng.uniform(-1, 1, (6, 2))
    params = random_params(VAE, np.zeros((1, 3)), np.zeros((1, 2)))
    key = jax.random.key(3)
    found = jax.jit(lambda p: action_vae.loss(VAE, p, obs, action, key, 0.5))(params)
    out = layers(params["encoder"], np.concatenate([obs, action], -1))
    mean, log_std = out[:, :4], np.clip(out[:, 4:], -4, 15)
    z = mean + np.exp(log_std) * jax.random.normal(key, (6, 4))
    made = np.tanh(layers(params["decoder"], np.concatenate([obs, z], -1)))
    kl = 0.5 * (mean**2 + np.exp(2 * log_std) - 1) - log_std
    expected = np.mean((made - action) ** 2) + 0.5 * kl.mean()
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(
        action_vae.divergence(VAE, params, obs, action), kl.sum(-1), rtol=1e-5
    )


@pytest.mark.slow
def test_actions_off_the_data_diverge_more():
    """Data: the action is a function of the state. Others lie farther off."""
    rng = np.random.default_rng(1)
    obs = rng.uniform(-1, 1, (256, 2)).astype(np.float32)
    action = 0.5 * obs + 0.05 * rng.normal(size=(256, 2))
    vae = action_vae.ActionVAE((32,), 2)
    params = jax.jit(vae.init)(jax.random.key(0), obs, action)["params"]
    adam = optax.adam(1e-2)

    def step(carry, key):
        params, state = carry
        loss = lambda p: action_vae.loss(vae, p, obs, action, key, 0.01)  # noqa: E731
        value, slope = jax.value_and_grad(loss)(params)
        update, state = adam.update(slope, state)
        return (optax.apply_updates(params, update), state), value

    keys = jax.random.split(jax.random.key(1), 300)
    (params, _), value = jax.lax.scan(step, (params, adam.init(params)), keys)
    assert value[-1] < 0.1 * value[0]
    near = action_vae.divergence(vae, params, obs, action)
    off = action_vae.divergence(vae, params, obs, -np.sign(action))
    assert np.quantile(near, 0.9) < np.quantile(off, 0.1)


def test_latents_are_cut():
    drawn = action_vae.draw_latent(jax.random.key(0), (1000,))
    assert float(jnp.abs(drawn).max()) == 0.5 and (jnp.abs(drawn) < 0.5).any()
