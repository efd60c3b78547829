"""Safe search over targets, on policies whose cost and return are known functions."""

import numpy as np
import pytest

from sas_jax.errors import UserError
from sas_jax.studies import target_search

PAIRS = [(value, cost) for value in range(5, 31, 5) for cost in range(0, 41, 10)]


def answer(pair, number, noise=1.0):
    """Cost off the diagonal: it follows the return asked for, too."""
    value, cost = pair
    rng = np.random.default_rng(number)
    costs = 0.6 * value + 0.8 * cost + noise * rng.standard_normal(20)
    return 0.8 * value + 0.1 * cost + 0.1 * rng.standard_normal(20), costs


def test_the_best_safe_pair_is_found_without_many_violations():
    found = target_search.search(answer, PAIRS, limit=20.0, rounds=20)
    assert found.asked[0].targets == PAIRS[0] and len(found.asked) == 20
    truth = {pair: [x.mean() for x in answer(pair, 0, 0.0)] for pair in PAIRS}
    best = max(value for value, cost in truth.values() if cost <= 20)
    value, cost = truth[found.asked[found.best].targets]
    assert cost <= 20 and value > 0.8 * best
    assert found.violations <= 4
    again = target_search.search(answer, PAIRS, limit=20.0, rounds=20)
    assert again == found


def test_a_start_that_costs_nothing_does_not_make_the_whole_box_safe():
    """The second pair is near the first, whose episodes all cost 0."""
    found = target_search.search(
        lambda pair, number: (
            np.full(20, float(pair[0])) + np.arange(20) / 20,
            np.full(20, max(1.2 * pair[1] + pair[0] - 8.0, 0.0)),
        ),
        PAIRS,
        limit=20.0,
        rounds=12,
    )
    assert found.asked[0].cost[0] == 0.0
    (value, cost), second = PAIRS[0], found.asked[1].targets
    assert second[0] - value <= 10 and second[1] - cost <= 10
    assert found.violations <= 2 and found.best is not None


def test_a_policy_that_is_never_safe_has_none():
    found = target_search.search(
        lambda pair, number: (np.ones(20), np.full(20, 50.0) + np.arange(20) % 2),
        PAIRS,
        limit=20.0,
        rounds=6,
    )
    assert found.best is None and found.violations == 6


def test_one_target_only():
    """Costs as much as is asked for."""
    pairs = [(value, float("nan")) for value in np.linspace(4.0, 28.0, 7)]
    found = target_search.search(
        lambda pair, number: (pair[0] + np.arange(9) / 9, pair[0] + np.arange(9) / 9),
        pairs,
        limit=17.0,
        rounds=12,
    )
    assert 12.0 <= found.asked[found.best].targets[0] <= 16.0
    assert found.violations <= 1


def test_the_posterior_in_closed_form():
    """One point without noise: k^2 of what is known leaves 1 - k^2."""
    known = np.array([[0.0], [100.0], [200.0], [300.0]])
    seen = np.array([1.0, 3.0, 1.0, 3.0])
    asked = np.array([[0.0], [1.0], [50.0]])
    exact = np.zeros(4)
    mean, spread = target_search.posterior(known, seen, exact, asked, trend=0.0)
    k = np.exp(-0.5)
    # Mean 2 and scale 1 of what was seen.
    np.testing.assert_allclose(mean, [1.0, 2.0 - k, 2.0], atol=1e-3)
    np.testing.assert_allclose(spread, [0.0, np.sqrt(1 - k**2), 1.0], atol=1e-3)
    some = target_search.posterior(known, seen, np.ones(4), asked[:1], trend=0.0)
    np.testing.assert_allclose(some[0], 1.5)
    np.testing.assert_allclose(some[1], np.sqrt(0.5))
    # Two points do not tell the scale, which is then six tenths of the mean of 100.
    few = target_search.posterior(known[:2], seen[:2] + 98, exact[:2], asked, trend=0.0)
    np.testing.assert_allclose(few[1], 60 * spread, rtol=1e-3, atol=0.1)


def test_a_trend_is_continued():
    known = np.arange(5.0)[:, None]
    seen, errors = 2.0 * known[:, 0], np.full(5, 1e-3)
    mean, _ = target_search.posterior(known, seen, errors, np.array([[7.0]]), trend=9.0)
    flat, _ = target_search.posterior(known, seen, errors, np.array([[7.0]]), trend=0.0)
    # 14 would be the line itself; the other kernel goes back to the mean of 4.
    assert mean[0] > 9.5 and flat[0] < 7.0


def test_nothing_to_search_is_one_line():
    with pytest.raises(UserError, match="at least one pair"):
        target_search.search(answer, [], limit=1.0, rounds=1)
