"""The squashed Gaussian: its density, its edge, its mode."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import integrate, stats

from sas_jax.learners.components import squashed_gaussian
from sas_jax.learners.components.squashed_gaussian import SquashedGaussian


def test_the_density_integrates_to_one():
    pi = SquashedGaussian(jnp.array([0.7]), jnp.array([-0.4]))

    def density(a):
        return float(jnp.exp(pi.log_prob(jnp.arctanh(jnp.array([a])))))

    total, _ = integrate.quad(density, -0.99999, 0.99999, limit=60, epsabs=1e-4)
    np.testing.assert_allclose(total, 1, atol=1e-3)


def test_the_density_is_that_of_scipy():
    rng = np.random.default_rng(0)
    mean, log_std = rng.normal(size=(2, 5, 3)).astype(np.float32)
    u = rng.normal(size=(5, 3))
    expected = stats.norm.logpdf(u, mean, np.exp(log_std)) - np.log1p(
        -(np.tanh(u) ** 2)
    )
    pi = SquashedGaussian(jnp.asarray(mean), jnp.asarray(log_std))
    np.testing.assert_allclose(pi.log_prob(u), expected.sum(-1), rtol=1e-4)
    np.testing.assert_allclose(pi.log_prob_of(np.tanh(u)), expected.sum(-1), rtol=1e-3)
    # Draws in front: one density each.
    np.testing.assert_allclose(
        pi.log_prob(jnp.stack([u, u]))[1], expected.sum(-1), rtol=1e-4
    )


def test_the_correction_holds_far_out_and_at_the_edge():
    """log(1 - tanh(u)^2) -> log 4 - 2 |u|, long after 1 - tanh^2 is 0 in float32."""
    u = jnp.array([-50.0, -20.0, 20.0, 50.0])
    found = squashed_gaussian.log_slope(u)
    np.testing.assert_allclose(found, np.log(4) - 2 * np.abs(u), rtol=1e-6)
    slope = jax.grad(lambda u: squashed_gaussian.log_slope(u).sum())(u)
    np.testing.assert_allclose(slope, -2 * np.sign(u), atol=1e-6)
    pi = SquashedGaussian(jnp.zeros(2), jnp.zeros(2))
    gradient = jax.grad(lambda m: pi._replace(mean=m).log_prob_of(jnp.array([1.0, -1])))
    assert np.isfinite(gradient(pi.mean)).all()


def test_the_executed_action_is_the_middle_of_the_density_that_is_fitted():
    """Actions of 0.9: the likeliest mean executes 0.9, not tanh(0.9) = 0.716."""
    action = jnp.full((1, 1), 0.9)
    means = jnp.linspace(-3, 3, 6001)
    pi = SquashedGaussian(means[:, None], jnp.zeros((6001, 1)))
    best = means[pi.log_prob_of(jnp.broadcast_to(action, (6001, 1))).argmax()]
    found = SquashedGaussian(best[None], jnp.zeros(1)).mode()
    np.testing.assert_allclose(found, 0.9, atol=1e-3)


def test_half_of_the_draws_lie_below_the_mode():
    pi = SquashedGaussian(jnp.array([1.2, -0.3]), jnp.array([0.0, 0.5]))
    action, u = pi.sample(jax.random.key(0), 4000)
    np.testing.assert_allclose(action, np.tanh(u), atol=1e-6)
    assert np.abs(action).max() <= 1
    share = (action < pi.mode()[None]).mean(0)
    np.testing.assert_allclose(share, 0.5, atol=0.03)
