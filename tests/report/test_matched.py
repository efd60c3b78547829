"""The matched-return baseline on tables whose answer is known."""

import math

import numpy as np
import pytest

from sas_jax.errors import UserError
from sas_jax.files.results import EpisodeResult
from sas_jax.report.matched import matched_cost, matched_table, means_of
from sas_jax.report.tokens import TokenResult

LAYOUTS = 200


def token(target, seed, gain, cost, limit=math.nan):
    return TokenResult(target, limit, seed, gain, cost, "run")


def row(variant, seed, gain, cost, limit=20.0):
    return EpisodeResult(
        task="PointGoal1",
        algo="dt",
        variant=variant,
        cost_limit=limit,
        train_seed=0,
        episode_seed=seed,
        episode_return=gain,
        cost=cost,
        length=1000,
        failed=cost > 0,
        normalized_return=0.0,
        normalized_cost=0.0,
    )


def plain(seed=0, spread=4.0):
    """Mean costs 20, 40, 60 at mean returns 10, 20, 30."""
    rng = np.random.default_rng(seed)
    noise = spread * rng.normal(size=(3, LAYOUTS, 2))
    noise -= noise.mean(axis=1, keepdims=True)
    return [
        token(t, s, t + noise[k, s, 0], 2.0 * t + noise[k, s, 1])
        for k, t in enumerate((10.0, 20.0, 30.0))
        for s in range(LAYOUTS)
    ]


def test_a_straight_curve_gives_the_distance_to_it():
    rows = [row("gate", s, 15.0, 22.0) for s in range(LAYOUTS)]
    found = matched_cost(rows, plain())
    np.testing.assert_allclose(found.baseline, 30.0, atol=1e-9)
    np.testing.assert_allclose(found.difference.mean, -8.0, atol=1e-9)
    assert found.difference.low < -8 < found.difference.high
    assert found.inside == 1.0
    # The curve's costs scatter by 4 over 200 layouts, and so do its returns, which
    # count double: sd 4 / sqrt(200) * sqrt((1 + 4) / 2) = 0.45.
    width = found.difference.high - found.difference.low
    assert 0.6 * 4 * 0.45 < width < 1.4 * 4 * 0.45


def test_beyond_the_curve_its_end_stands_in_and_is_said():
    rows = [row("gate", s, 5.0, 22.0) for s in range(LAYOUTS)]
    found = matched_cost(rows, plain())
    np.testing.assert_allclose(found.difference.mean, 2.0, atol=1e-9)
    assert found.inside == 0.0


def test_pairing_by_layout_takes_the_layouts_spread_out():
    """A variant that costs 5 less on every layout, however layouts differ."""
    rng = np.random.default_rng(1)
    hard = 30 * rng.normal(size=LAYOUTS)
    tokens = [
        token(t, s, t, 50 + hard[s]) for t in (10.0, 30.0) for s in range(LAYOUTS)
    ]
    rows = [row("gate", s, 20.0, 45 + hard[s]) for s in range(LAYOUTS)]
    found = matched_cost(rows, tokens)
    np.testing.assert_allclose(
        [found.difference.low, found.difference.high], -5.0, atol=1e-6
    )


def test_layouts_that_only_one_side_has_are_left_out():
    rows = [row("gate", s, 15.0, 22.0) for s in range(50)]
    rows += [row("gate", s, 0.0, 999.0) for s in range(LAYOUTS, LAYOUTS + 9)]
    found = matched_cost(rows, plain(spread=0.0))
    assert found.difference.num_values == 50
    np.testing.assert_allclose(found.difference.mean, -8.0, atol=1e-6)


def test_cost_tokens_are_held_against_their_own_limit():
    tokens = [
        token(t, s, t, limit + t, limit)
        for limit in (20.0, 80.0)
        for t in (10.0, 30.0)
        for s in range(4)
    ]
    rows = [row("gate", s, 20.0, 50.0, 80.0) for s in range(4)]
    assert matched_cost(rows, tokens).baseline == 100.0


def test_table_and_means():
    rows = [row("none", s, 20.0, 40.0) for s in range(LAYOUTS)]
    rows += [row("sas", s, 15.0, 22.0, k) for s in range(LAYOUTS) for k in (20.0, 40.0)]
    rows += [row("gate", s, 15.0, k, k) for s in range(LAYOUTS) for k in (20.0, 40.0)]
    table = matched_table(rows, plain(spread=0.0))
    assert [line[:2] for line in table.rows] == [
        ("sas", "20"),
        ("gate", "20"),
        ("gate", "40"),
    ]
    assert table.rows[0][4:6] == ("30.00", "-8.0 [-8.0, -8.0]")
    costs, returns = means_of(plain())
    np.testing.assert_allclose([costs, returns], [[20, 40, 60], [10, 20, 30]])


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([token(10.0, 0, 1.0, 1.0)], "1 return target"),
        ([token(t, 7, 1.0, 1.0) for t in (1.0, 2.0)], "no layout in common"),
        ([token(float(t), t, 1.0, 1.0) for t in (1, 2)], "expected two or more"),
    ],
)
def test_tables_that_do_not_fit(tokens, message):
    with pytest.raises(UserError, match=message):
        matched_cost([row("gate", 0, 1.0, 1.0)], tokens)
