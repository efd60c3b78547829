"""DSRL's filters, against what their formulas give by hand."""

import numpy as np
import pytest

from sas_jax.data import density, filters
from sas_jax.data.density import Grid
from sas_jax.data.episodes import Episodes
from sas_jax.data.filters import Filters
from sas_jax.errors import UserError


def make(costs, returns, task="PointGoal1", length=60) -> Episodes:
    """Episodes of given cost (ones at the start) and return (all in the last step)."""
    count = len(costs)
    step_costs = (np.arange(length) < np.asarray(costs)[:, None]).astype(np.float32)
    rewards = np.zeros((count, length), np.float32)
    rewards[:, -1] = returns
    rng = np.random.default_rng(0)
    return Episodes(
        task=task,
        observations=rng.normal(2.0, 3.0, (count * length, 60)).astype(np.float32),
        actions=np.zeros((count * length, 2), np.float32),
        rewards=rewards.ravel(),
        costs=step_costs.ravel(),
        offsets=np.arange(count + 1) * length,
        final_observations=rng.normal(2.0, 3.0, (count, 60)).astype(np.float32),
        terminated=np.zeros(count, bool),
    )


def test_defaults_change_nothing():
    data = make([0, 5, 20], [1, 2, 3])
    result = filters.apply(data, Filters(), seed=0)
    assert result.episodes.fingerprint() == data.fingerprint()
    np.testing.assert_array_equal(result.source, [0, 1, 2])
    assert not result.is_outlier.any()


def test_thin_out_by_hand():
    """Cost 0..10 in 2 bins (width 5) and the largest value alone; returns all equal."""
    costs = np.array([0, 1, 2, 3, 4, 5, 6, 10], float)
    grid = Grid(cost_bins=2, return_bins=1, most=3, least=1)
    chosen = filters.thin_out(costs, np.ones(8), grid, np.random.default_rng(0))
    # Bin [0, 5) holds 0..4, five episodes: three remain. Bin [5, 10) holds two: both
    # remain. 10 is a bin of its own with one episode, which is not more than `least`.
    assert len(chosen) == 5 and {5, 6} <= set(chosen) and 7 not in chosen
    assert (np.diff(chosen) > 0).all()


def test_thin_out_draws_from_the_generator_only():
    rng = np.random.default_rng(1)
    costs, returns = rng.uniform(0, 50, 400), rng.uniform(0, 30, 400)
    grid = Grid(10, 10, 3, 1)

    def draw(seed):
        return filters.thin_out(costs, returns, grid, np.random.default_rng(seed))

    np.testing.assert_array_equal(draw(0), draw(0))
    assert set(draw(0)) != set(draw(1))
    # Every bin's count is min(size, most), bins of size <= least excepted.
    cells = np.stack(
        [np.floor((v - v.min()) / ((v.max() - v.min()) / 10)) for v in (costs, returns)]
    )
    _, cell, sizes = np.unique(cells, axis=1, return_inverse=True, return_counts=True)
    expected = np.where(sizes > 3, 3, np.where(sizes > 1, sizes, 0))
    kept = np.bincount(cell.reshape(-1)[draw(0)], minlength=len(sizes))
    np.testing.assert_array_equal(kept, expected)


def test_density_settings_are_dsrls():
    assert filters.grid_of("PointGoal1", 0.5) == Grid(10, 8, 16, 2)
    assert filters.grid_of("OfflinePointGoal2Gymnasium-v0", 0.25) == Grid(10, 6, 14, 2)
    assert filters.grid_of("AntCircle", 0.75) == Grid(10, 50, 20, 2)
    assert len(density.GRIDS) == 27
    with pytest.raises(UserError, match="known: 0.25, 0.5"):
        filters.grid_of("PointGoal1", 0.75)
    with pytest.raises(UserError, match="known: none"):
        filters.grid_of("AntVelocity", 0.5)


def test_density_of_a_small_data_set_says_why_nothing_remains():
    with pytest.raises(UserError, match="as large as DSRL's"):
        filters.apply(make([0, 30, 60], [1, 5, 9]), Filters(density=0.5), seed=0)


def test_outliers_are_rewarding_and_seem_safe():
    # Half of PointGoal1's largest cost and return: 50 and 15.04.
    data = make([55, 55, 49, 55], [16, 20, 20, 10])
    result = filters.apply(data, Filters(outliers=0.5, cost_limit=10), seed=1)
    np.testing.assert_array_equal(result.is_outlier, [True, True, False, False])
    made = result.episodes
    np.testing.assert_allclose(made.returns(), [24, 30, 20, 10])
    costs = made.cost_returns()
    assert (costs[:2] < 10).all() and costs[2:].tolist() == [49, 55]
    assert set(np.unique(made.costs)) == {0, 1}
    with pytest.raises(UserError, match="3 of 4 episodes wanted, but 2"):
        filters.apply(data, Filters(outliers=0.75, cost_limit=10), seed=1)


def test_inpainting_hides_rectangles_but_no_outlier():
    costs = [0, 10, 20, 30, 40]
    data = make(costs, [0, 10, 20, 30, 40])
    window = (0.2, 0.8, 0.0, 0.5)  # costs 8..32, returns 0..20
    result = filters.apply(data, Filters(inpaint=[window]), seed=0)
    np.testing.assert_array_equal(result.source, [0, 3, 4])
    both = Filters(inpaint=[window, (0.9, 1.0, 0.9, 1.0)])
    np.testing.assert_array_equal(filters.apply(data, both, seed=0).source, [0, 3])
    everything = Filters(inpaint=[(0, 1, 0, 1)])
    with pytest.raises(UserError, match="leave no episode"):
        filters.apply(data, everything, seed=0)
    poisoned = Filters(inpaint=[(0, 1, 0, 1)], outliers=0.3, cost_limit=5)
    risky = make([55, 0, 0], [16, 1, 1])
    result = filters.apply(risky, poisoned, seed=0)
    assert result.source.tolist() == [0] and result.is_outlier.tolist() == [True]


@pytest.mark.parametrize(
    ("epsilon", "expected"),
    # Safe (cost <= 20): returns 5, 9, 10; unsafe: 20, 29, 30.
    [(2.0, [0, 3, 4, 5]), (-2.0, [0, 1, 2, 3]), (0.0, [0, 1, 2, 3, 4, 5])],
)
def test_epsilon_hides_the_best_on_one_side(epsilon, expected):
    data = make([0, 10, 20, 30, 30, 30], [5, 9, 10, 20, 29, 30])
    result = filters.apply(data, Filters(epsilon=epsilon, cost_limit=20), seed=0)
    np.testing.assert_array_equal(result.source, expected)


def test_noise_is_in_units_of_the_spread():
    data = make([0] * 40, [1] * 40)
    noisy = filters.apply(data, Filters(noise=0.1), seed=0).episodes
    difference = noisy.observations - data.observations
    # The observations were drawn with a standard deviation of 3.
    assert np.std(difference) == pytest.approx(0.3, rel=0.02)
    assert np.abs(noisy.final_observations - data.final_observations).min() > 0
    assert noisy.observations.dtype == np.float32
    assert noisy.fingerprint() == (
        filters.apply(data, Filters(noise=0.1), seed=0).episodes.fingerprint()
    )
    np.testing.assert_array_equal(noisy.rewards, data.rewards)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Filters(outliers=0.0, cost_limit=5), "outliers 0.0"),
        (Filters(outliers=0.1), "cost limit None"),
        (Filters(epsilon=1.0, cost_limit=0.0), "cost limit 0.0"),
        (Filters(noise=-1.0), "noise -1.0"),
        (Filters(inpaint=[(0, 1, 0)]), "inpaint"),
        (Filters(inpaint=[(0, 2, 0, 1)]), "inpaint"),
        (Filters(density=0.9), "density 0.9"),
    ],
)
def test_settings_that_make_no_sense(bad, message):
    with pytest.raises(UserError, match=message):
        filters.apply(make([0, 1], [0, 1]), bad, seed=0)
