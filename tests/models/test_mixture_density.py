"""A VAE trained on a Gaussian mixture, against the density it was drawn from."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sas_jax.models.losses import masked_mean
from sas_jax.models.networks import MLP
from sas_jax.models.vae import (
    GaussianVAE,
    decoder_log_std,
    total_log_std,
    update_variance,
)
from tests.helpers.model_fixtures import random_params

WEIGHTS = np.array([0.3, 0.7])
CENTRES = {1: [[-1.5], [1.0]], 2: [[-1.5, 0.5], [1.0, -0.5]]}
STDS = np.array([0.4, 0.6])
STEPS, BATCH = 2000, 256


class Decoder(nn.Module):
    """Mean and log-scale of x, both from the latent, as the transition's decoder."""

    size: int

    @nn.compact
    def __call__(self, latent, context):
        out = MLP((64, 64), 2 * self.size)(jnp.concatenate([latent, context], -1))
        mean, scale = jnp.split(out, 2, axis=-1)
        return mean, jnp.tanh(scale)


def draw(size, count, seed):
    rng = np.random.default_rng(seed)
    kind = rng.choice(2, count, p=WEIGHTS)
    noise = STDS[kind, None] * rng.normal(size=(count, size))
    return (np.array(CENTRES[size])[kind] + noise).astype(np.float32)


def true_log_density(x):
    """`[B, X]` -> `[B]`, in float64."""
    size = x.shape[1]
    away = x[:, None] - np.array(CENTRES[size])[None]
    log = -0.5 * (away**2).sum(-1) / STDS**2 - size * np.log(STDS)
    log = log - 0.5 * size * np.log(2 * np.pi) + np.log(WEIGHTS)
    return np.logaddexp(log[:, 0], log[:, 1])


def train(size):
    """The negative ELBO by Adam, with the decoder's variance in closed form."""
    vae = GaussianVAE(
        size=size,
        latent_dim=2,
        hidden=(64, 64),
        make_decoder=functools.partial(Decoder, size),
    )
    empty, data = jnp.zeros((BATCH, 0)), jnp.asarray(draw(size, 20_000, 0))
    noise = jnp.zeros((BATCH, 2))
    params = random_params(vae, data[:BATCH], empty, noise, method="reconstruct")
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, STEPS, 0.02))

    def loss(params, variance, x, noise):
        residual, log_scale, kl = vae.apply(
            {"params": params}, x, empty, noise, method="reconstruct"
        )
        log_std = decoder_log_std(variance, floor=1e-3)
        log_std = total_log_std(log_std, log_scale, floor=1e-3)
        likelihood = -0.5 * jnp.square(residual * jnp.exp(-log_std)) - log_std
        value = masked_mean(kl.sum(-1) - likelihood.sum(-1), jnp.ones(BATCH, bool))
        return value, residual * jnp.exp(-log_scale)

    def step(carry, key):
        params, state, variance = carry
        index_key, noise_key = jax.random.split(key)
        x = data[jax.random.randint(index_key, (BATCH,), 0, len(data))]
        noise = jax.random.normal(noise_key, (BATCH, 2))
        gradient, residual = jax.grad(loss, has_aux=True)(params, variance, x, noise)
        variance = update_variance(
            variance, residual, jnp.ones(BATCH, bool), decay=0.99
        )
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, updates), state, variance), None

    @jax.jit
    def run(params):
        carry = (params, optimizer.init(params), jnp.ones(size))
        carry, _ = jax.lax.scan(step, carry, jax.random.split(jax.random.key(1), STEPS))
        return carry[0], carry[2]

    params, variance = run(params)
    log_std = decoder_log_std(variance, floor=1e-3)

    @jax.jit
    def log_density(x, noise):
        return vae.apply(
            {"params": params},
            x,
            jnp.zeros((x.shape[0], 0)),
            noise,
            log_std,
            jnp.ones(size, bool),
            method="log_density",
        )

    return log_density


@pytest.fixture(
    scope="module",
    params=[pytest.param(1, marks=pytest.mark.slow), 2],
    ids=["1-D", "2-D"],
)
def density(request):
    return request.param, train(request.param)


def samples(count, rows, seed):
    noise = np.random.default_rng(seed).normal(size=(count, rows, 2))
    return noise.astype(np.float32)


@pytest.mark.slow
def test_held_out_likelihood_is_within_five_percent_and_tightens(density):
    size, log_density = density
    x = draw(size, 4000, 1)
    truth = true_log_density(x.astype(np.float64)).mean()
    found = [float(np.mean(log_density(x, samples(n, 4000, n)))) for n in (1, 10, 100)]
    assert found[0] < found[1] < found[2]
    assert abs(found[2] - truth) < 0.05 * abs(truth)
    assert found[2] < truth + 0.01  # nothing beats the truth but by chance


@pytest.mark.slow
def test_it_integrates_to_one(density):
    size, log_density = density
    axis = np.linspace(-5, 5, 201 if size == 1 else 81, dtype=np.float32)
    grid = np.stack(np.meshgrid(*[axis] * size), -1).reshape(-1, size)
    cell = float(axis[1] - axis[0]) ** size
    values = np.asarray(log_density(grid, samples(200, len(grid), 5)), np.float64)
    np.testing.assert_allclose(np.exp(values).sum() * cell, 1.0, atol=0.02)
