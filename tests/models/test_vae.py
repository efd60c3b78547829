"""VAE densities where the truth is known, and the closed-form decoder variance."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.models.vae import GaussianVAE, decoder_log_std, update_variance
from tests.helpers.model_fixtures import random_params

# A linear VAE of three dimensions and two latents: x = W u + sigma e.
LOADINGS = np.array([[1.0, 0.5, -0.3], [0.2, -0.8, 0.6]], np.float32)
SIGMA = np.array([0.5, 0.3, 0.7], np.float32)
# `hidden=()` leaves linear maps, so encoder and decoder can be set by hand.
LINEAR = GaussianVAE(size=3, latent_dim=2, hidden=())


def linear_params(*, offset=0.0, widen=0.0):
    """The exact posterior of the linear model, spoilt by `offset` and `widen`."""
    precision = np.eye(2) + (LOADINGS / SIGMA**2) @ LOADINGS.T
    covariance = np.linalg.inv(precision)
    gain = (covariance @ (LOADINGS / SIGMA**2)).T
    # A diagonal posterior cannot be exact here; its widths are the best diagonal's.
    log_std = -0.5 * np.log(np.diag(precision)) + widen
    encoder = {
        "kernel": np.concatenate([gain, np.zeros((3, 2))], 1).astype(np.float32),
        "bias": np.concatenate([[offset, -offset], log_std]).astype(np.float32),
    }
    decoder = {"kernel": LOADINGS, "bias": np.zeros(3, np.float32)}
    return {
        "params": {"encoder": {"Dense_0": encoder}, "decoder": {"Dense_0": decoder}}
    }


def normal_log_density(x, covariance):
    """log N(x; 0, covariance) in float64 numpy."""
    _, log_det = np.linalg.slogdet(2 * math.pi * covariance)
    return -0.5 * (np.sum(x * np.linalg.solve(covariance, x.T).T, -1) + log_det)


@jax.jit
def bound(params, x, noise, active):
    context = jnp.zeros((x.shape[0], 0))
    log_std = jnp.log(SIGMA)
    return LINEAR.apply(
        params, x, context, noise, log_std, active, method="log_density"
    )


def draw_points(count=64):
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(count, 2))
    x = latent @ LOADINGS + SIGMA * rng.normal(size=(count, 3))
    return x.astype(np.float32)


def test_the_bound_tightens_to_the_marginal_of_a_linear_gaussian_model():
    """log p(x) = log N(x; 0, W'W + diag(sigma^2)), and ELBO <= IW-n <= IW-m <= it."""
    x = draw_points()
    truth = normal_log_density(x, LOADINGS.T @ LOADINGS + np.diag(SIGMA**2)).mean()
    params, active = linear_params(offset=0.3, widen=0.4), np.ones(3, bool)
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(2000, 64, 2)).astype(np.float32)
    means = {}
    for n in (1, 10, 2000):
        groups = noise.reshape(2000 // n, n, 64, 2)[:40]
        means[n] = np.mean([bound(params, x, group, active).mean() for group in groups])
    assert means[1] < means[10] - 0.05 < means[2000] - 0.1
    assert abs(means[2000] - truth) < 0.005
    assert means[2000] <= truth + 0.005


def test_dimensions_that_do_not_count_leave_the_density_of_the_others():
    """Without dimension 1 the marginal is that of dimensions 0 and 2."""
    x = draw_points()
    active = np.array([True, False, True])
    keep = np.flatnonzero(active)
    covariance = LOADINGS.T @ LOADINGS + np.diag(SIGMA**2)
    truth = normal_log_density(x[:, keep], covariance[np.ix_(keep, keep)])
    noise = np.random.default_rng(2).normal(size=(2000, 64, 2)).astype(np.float32)
    found = np.asarray(bound(linear_params(widen=0.5), x, noise, active))
    np.testing.assert_allclose(found.mean(), truth.mean(), atol=0.03)


def test_one_sample_is_the_elbo():
    """log p(x|u) - log q(u|x) + log p(u) with u = mean + std * noise, by hand."""
    x = draw_points(4)
    params = linear_params(widen=0.2)
    noise = np.random.default_rng(3).normal(size=(1, 4, 2)).astype(np.float32)
    encoder = params["params"]["encoder"]["Dense_0"]
    mean, log_std = np.split(x @ encoder["kernel"] + encoder["bias"], 2, -1)
    latent = mean + np.exp(log_std) * noise[0]

    def log_normal(value, mean, std):
        scaled = (value - mean) / std
        return -0.5 * scaled**2 - np.log(std) - 0.5 * math.log(2 * math.pi)

    expected = (
        log_normal(x, latent @ LOADINGS, SIGMA).sum(-1)
        + log_normal(latent, 0.0, 1.0).sum(-1)
        - log_normal(latent, mean, np.exp(log_std)).sum(-1)
    )
    found = bound(params, x, noise, np.ones(3, bool))
    np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_the_density_integrates_to_one():
    """Summed over one dimension, with a non-linear decoder and a context."""
    vae = GaussianVAE(size=1, latent_dim=1, hidden=(8,))
    context = np.full((1, 2), 0.3, np.float32)
    params = random_params(
        vae,
        np.zeros((1, 1), np.float32),
        context,
        np.zeros((1, 1)),
        method="reconstruct",
    )
    grid = np.linspace(-8, 8, 801, dtype=np.float32)[:, None]

    @jax.jit
    def density(noise):
        tiled = jnp.broadcast_to(jnp.asarray(context), (801, 2))
        log_std, active = jnp.log(jnp.full(1, 0.4)), jnp.ones(1, bool)
        return vae.apply(
            {"params": params},
            grid,
            tiled,
            noise,
            log_std,
            active,
            method="log_density",
        )

    noise = np.random.default_rng(4).normal(size=(500, 801, 1)).astype(np.float32)
    total = np.exp(np.asarray(density(noise), np.float64)).sum() * 0.02
    np.testing.assert_allclose(total, 1.0, atol=0.03)


def test_reconstruction_returns_residual_and_kl():
    """One latent pass written out; KL(N(m, s) || N(0, 1)) = (m2 + s2 - 1)/2 - ln s."""
    x = draw_points(3)
    params = linear_params(offset=0.5)
    noise = np.ones((3, 2), np.float32)
    residual, log_scale, kl = LINEAR.apply(
        params, x, np.zeros((3, 0), np.float32), noise, method="reconstruct"
    )
    encoder = params["params"]["encoder"]["Dense_0"]
    mean, log_std = np.split(x @ encoder["kernel"] + encoder["bias"], 2, -1)
    std = np.exp(log_std)
    np.testing.assert_allclose(residual, x - (mean + std) @ LOADINGS, atol=1e-5)
    assert not np.any(log_scale)
    np.testing.assert_allclose(
        kl, (mean**2 + std**2 - 1) / 2 - log_std, rtol=1e-5, atol=1e-6
    )


def test_running_variance_converges_to_the_mean_square_of_valid_residuals():
    """Residuals 1, 2 | 3 in one dimension; the padded 100 does not count: 14 / 3."""
    residual = jnp.array([[[1.0, 0.0], [2.0, 0.1]], [[3.0, 0.0], [100.0, jnp.nan]]])
    mask = jnp.array([[True, True], [True, False]])
    variance = jnp.ones(2)
    once = update_variance(variance, residual, mask, decay=0.9)
    np.testing.assert_allclose(once, [0.9 + 0.1 * 14 / 3, 0.9 + 0.1 * 0.01 / 3], 1e-6)
    many = jax.lax.fori_loop(
        0, 400, lambda _, v: update_variance(v, residual, mask, decay=0.9), variance
    )
    np.testing.assert_allclose(many, [14 / 3, 0.01 / 3], rtol=1e-5)
    np.testing.assert_allclose(
        jnp.exp(decoder_log_std(many, floor=0.5)), [math.sqrt(14 / 3), 0.5], rtol=1e-5
    )


def test_gradients_do_not_flow_into_the_running_variance():
    mask = jnp.ones((2,), bool)

    def total(residual):
        return update_variance(jnp.ones(1), residual, mask, decay=0.9).sum()

    np.testing.assert_array_equal(jax.grad(total)(jnp.ones((2, 1))), 0.0)
