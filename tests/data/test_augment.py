"""Pareto augmentation against definitions written out."""

import numpy as np
import pytest

from sas_jax.data.augment import (
    AugmentConfig,
    frontier,
    neighbour_shares,
    pareto_front,
    relabel,
)
from sas_jax.errors import UserError


def draw(count=60, seed=0):
    """Costs in 0..100 and returns that grow with them, with ties."""
    rng = np.random.default_rng([9, seed])
    costs = rng.integers(0, 40, count).astype(float) * 2.5
    returns = np.round(10 + 0.1 * costs + rng.normal(scale=4, size=count), 1)
    return costs, returns


@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_what_nobody_beats(seed):
    costs, returns = draw(seed=seed)
    points = list(zip(costs, returns, strict=True))

    def beats(a, b):
        return a != b and a[0] <= b[0] and a[1] >= b[1]

    expected = {p for p in points if not any(beats(q, p) for q in points)}
    front = pareto_front(costs, returns)
    assert {points[i] for i in front} == expected
    assert len(front) == len(expected)
    assert (np.diff(costs[front]) > 0).all() and (np.diff(returns[front]) > 0).all()


def test_the_frontier_is_the_polynomial_through_the_front():
    costs = np.array([0.0, 10.0, 20.0, 30.0, 15.0])
    returns = 5 + 0.4 * costs - 0.005 * costs**2
    returns[4] = 1.0  # beaten
    fit = frontier(costs, returns, 2)
    np.testing.assert_allclose(fit(25.0), 5 + 0.4 * 25 - 0.005 * 625, rtol=1e-8)
    np.testing.assert_allclose(frontier(costs, returns, 0)(3.0), returns[:4].mean())
    # More coefficients than points of the front: as many as it bears.
    np.testing.assert_allclose(frontier(costs, returns, 9)(costs[:4]), returns[:4])


def test_targets_lie_above_the_frontier_and_go_to_cheaper_episodes():
    costs, returns = draw(400)
    config = AugmentConfig(augment_percent=0.5, max_reward=40.0, max_rew_decrease=3.0)
    entries = relabel(returns, costs, config, np.random.default_rng(0))
    assert len(entries.episode) == 200
    np.testing.assert_array_equal(
        entries.target_cost, np.linspace(costs.min(), costs.max(), 200)
    )
    low = frontier(costs, returns, 1)(entries.target_cost) + 1.0
    assert (entries.target_return >= low).all()
    assert (entries.target_return <= 40.0).all()
    # Uniform between: the mean position is 1/2 within four standard errors.
    position = (entries.target_return - low) / (40.0 - low)
    assert abs(position.mean() - 0.5) < 4 / np.sqrt(12 * 200)
    assert (costs[entries.episode] <= entries.target_cost).all()
    np.testing.assert_allclose(
        returns[entries.episode] + entries.return_offset, entries.target_return
    )
    np.testing.assert_allclose(
        costs[entries.episode] + entries.cost_offset, entries.target_cost
    )


def test_the_nearest_episode_first_then_its_neighbours():
    """Every target's nearest safe episode, or, once taken, one not much worse."""
    costs, returns = draw(100)
    config = AugmentConfig(augment_percent=0.8, max_rew_decrease=2.0)
    entries = relabel(returns, costs, config, np.random.default_rng(1))
    taken = set()
    for episode, cost, value in zip(*entries[:1], *entries[2:0:-1], strict=True):
        safe = np.flatnonzero(costs <= cost)
        nearest = safe[np.argmin(np.hypot(costs - cost, returns - value)[safe])]
        if nearest not in taken:
            assert episode == nearest
        else:
            assert costs[episode] <= costs[nearest]
            assert returns[episode] >= returns[nearest] - 2.0
        taken.add(nearest)
    assert len(np.unique(entries.episode)) > len(taken)


def test_neighbours_share_by_inverse_distance():
    """Of episode 1: itself, one at distance 1, one at distance 3; the others cost more
    or return too little.
    """
    costs = np.array([11.0, 10.0, 9.0, 7.0, 9.0])
    returns = np.array([20.0, 20.0, 20.0, 20.0, 18.0])
    shares = neighbour_shares(costs, returns, 1, decrease=1.0, beta=1.0)
    np.testing.assert_allclose(shares, np.array([0, 4, 2, 1, 0]) / 7)


def test_costs_without_room_above_the_frontier_get_no_entry():
    costs, returns = draw(50)
    config = AugmentConfig(augment_percent=1.0, max_reward=float(returns.min()))
    entries = relabel(returns, costs, config, np.random.default_rng(0))
    assert len(entries.episode) == 0


def test_the_same_seed_gives_the_same_entries():
    costs, returns = draw()
    config = AugmentConfig(augment_percent=0.5)
    one, two, other = (
        relabel(returns, costs, config, np.random.default_rng(seed))
        for seed in (3, 3, 4)
    )
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (one.target_return != other.target_return).all()


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"augment_percent": 1.5}, "augment_percent must lie in"),
        ({"frontier_degree": -1}, "frontier_degree must be >= 0"),
        ({"beta": 0.0}, "beta must be > 0"),
    ],
)
def test_bad_settings_are_one_line(settings, message):
    with pytest.raises(UserError, match=message):
        AugmentConfig(**settings)
