"""State-wise prices: their formulas beside literals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.learners.components import statewise

LAMBDA = jnp.array([0.0, 1.0, 2.0, 0.5])
EXCESS = jnp.array([0.25, -0.75, 0.5, -0.1])


def test_the_probability_of_a_cost_counts_the_first_one_only():
    cost, on = jnp.array([0.0, 2.0, 0.0, 0.0]), jnp.array([1.0, 1.0, 0.0, 1.0])
    after = jnp.array([0.5, 0.5, 0.5, 1.5])
    found = statewise.hitting_target(cost, 0.9, on, after)
    np.testing.assert_allclose(found, [0.45, 1.0, 0.0, 0.9], rtol=1e-6)


def test_the_share_of_steps_that_cost_counts_all_of_them():
    cost, on = jnp.array([0.0, 2.0, 0.0, 0.0]), jnp.array([1.0, 1.0, 0.0, 1.0])
    after = jnp.array([0.5, 0.5, 0.5, 1.5])
    found = statewise.share_target(cost, 0.9, on, after)
    np.testing.assert_allclose(found, [0.45, 0.55, 0.0, 0.9], rtol=1e-6)
    # A place where every step costs: the share is 1.
    one = jnp.ones(1)
    assert float(statewise.share_target(one, 0.9, one, one)[0]) == pytest.approx(1.0)


def test_the_penalty_beside_literals():
    # [0 + .5]^2 = .25; [1 - 1.5]_+ = 0; [2 + 1]^2 = 9; [.5 - .2]^2 = .09
    expected = [0.25 / 4, -1.0 / 4, (9 - 4) / 4, (0.09 - 0.25) / 4]
    found = statewise.augmented(LAMBDA, EXCESS, 2.0)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_array_equal(
        statewise.augmented(LAMBDA, EXCESS, 0.0), LAMBDA * EXCESS
    )


def test_its_slope_is_the_effective_price_and_without_penalty_the_price():
    def slope(penalty):
        def paid(x):
            return statewise.augmented(LAMBDA, x, penalty).sum()

        return jax.grad(paid)(EXCESS)

    np.testing.assert_allclose(slope(2.0), [0.5, 0.0, 3.0, 0.3], rtol=1e-6)
    np.testing.assert_allclose(
        slope(2.0), statewise.effective(LAMBDA, EXCESS, 2.0), rtol=1e-6
    )
    np.testing.assert_allclose(slope(1e-4), LAMBDA, atol=1e-4)


def test_regression_and_ascent_beside_literals():
    value = jnp.array([1.0, 1.0, 1.0, 1.0])
    # y = .5, 0, min(3, 2.5), .3
    loss = statewise.regression_loss(value, LAMBDA, EXCESS, 2.0, 2.5)
    assert float(loss) == pytest.approx((0.25 + 1 + 2.25 + 0.49) / 4)
    # The third price is as high as it may be, and does not rise.
    rise = -jax.grad(lambda x: statewise.ascent_loss(x, EXCESS, 2.0))(LAMBDA)
    np.testing.assert_allclose(rise, [0.0625, -0.1875, 0.0, -0.025], rtol=1e-6)


def test_a_pair_of_kkt_is_where_the_target_stands_still():
    frozen, excess = jnp.array([1.5, 0.0]), jnp.array([0.0, -0.3])
    found = statewise.effective(frozen, excess, 4.0)
    np.testing.assert_array_equal(found, frozen)


def test_the_linearised_loop_does_not_oscillate_while_prices_are_the_slower_ones():
    """docs/concepts/state_wise.md: eta <= a is enough for every mu and k."""
    rng = np.random.default_rng(2)
    count = {"plain": 0, "alam": 0}
    for _ in range(400):
        a, k, mu = rng.uniform(0.01, 1), rng.uniform(0.1, 20), rng.uniform(0.01, 5)
        step = rng.uniform(0, a) * mu
        if a * (1 + k * mu) > 1:
            continue
        for name, penalty in (("plain", 0.0), ("alam", mu)):
            loop = [[1 - a - a * k * penalty, -a * k], [step, 1]]
            count[name] += np.abs(np.linalg.eigvals(loop).imag).max() > 1e-9
    assert count["alam"] == 0 and count["plain"] > 10
