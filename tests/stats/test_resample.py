"""Bootstrap of statistics that are functions of layout means."""

import numpy as np
import pytest

from sas_jax.errors import UserError
from sas_jax.stats.resample import (
    auc_between,
    correlation,
    correlation_within,
    interval_of,
    mean_of,
)


def test_correlation_is_pearsons_and_its_interval_holds_the_truth():
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    y = 0.6 * x + 0.8 * rng.normal(size=400)  # true correlation 0.6
    found = correlation(1e6 + x, -3.0 * y)
    np.testing.assert_allclose(found.mean, -np.corrcoef(x, y)[0, 1], rtol=1e-9)
    assert found.low < -0.6 < found.high < -0.4
    assert found.num_clusters == 400
    # Fisher's interval has half-width 1.96 (1 - r^2) / sqrt(n).
    assert abs(found.half_width - 1.96 * 0.64 / 20) < 0.015


def test_values_that_are_not_finite_leave_with_their_layout():
    x = np.array([1.0, 2.0, np.nan, 4.0, 7.0])
    y = np.array([2.0, 1.0, 3.0, np.inf, 5.0])
    kept = [0, 1, 4]
    found = correlation(x, y)
    assert found.num_clusters == 3
    np.testing.assert_allclose(found.mean, np.corrcoef(x[kept], y[kept])[0, 1])
    assert mean_of(x).mean == pytest.approx(3.5)


def test_no_variation_and_no_layout_give_nan():
    assert np.isnan(correlation(np.ones(9), np.arange(9)).mean)
    assert np.isnan(mean_of(np.full(3, np.nan)).mean)
    alone = mean_of(np.array([2.0]))
    assert alone.mean == 2.0 and np.isnan(alone.low)


def test_within_a_layout_differences_between_layouts_do_not_count():
    rng = np.random.default_rng(1)
    shift = 100 * rng.normal(size=(80, 1))  # correlation 1 between layouts
    a, b = rng.normal(size=(2, 80, 5))
    found = correlation_within(a + shift, b + shift)
    assert found.low < 0 < found.high and abs(found.mean) < 0.15
    same = correlation_within(a + shift, a - shift)
    np.testing.assert_allclose(same.mean, 1.0, atol=1e-9)
    a[0, 1:] = np.nan  # one pair says nothing
    assert correlation_within(a, b).num_clusters == 79


def test_interval_of_a_ratio_of_means():
    columns = np.random.default_rng(2).normal(size=(500, 2)) * 0.1 + [3.0, 2.0]
    found = interval_of(lambda m: m[..., 0] / m[..., 1], columns)
    assert found.low < 1.5 < found.high
    assert found.half_width < 0.02
    with pytest.raises(UserError, match="layouts"):
        interval_of(lambda m: m, np.zeros(3))


def test_area_between_episodes_is_that_of_the_pool():
    """Beside all pairs, one by one; episodes of another length and class among them."""
    rng = np.random.default_rng(2)
    scores = [np.round(rng.normal(size=size), 1) for size in (5, 9, 4, 7)]
    shares = (0.5, 0.3, 0.0, 1.0)
    labels = [rng.random(s.size) < p for s, p in zip(scores, shares, strict=True)]
    score, label = np.concatenate(scores), np.concatenate(labels)
    pairs = score[label][:, None] - score[~label][None]
    expected = (pairs > 0).mean() + 0.5 * (pairs == 0).mean()
    found = auc_between(scores, labels)
    assert found.mean == pytest.approx(expected)
    assert found.num_clusters == 4 and found.low <= expected <= found.high
    assert np.isnan(auc_between(scores, [np.zeros(len(s)) for s in scores]).mean)


def test_area_of_a_perfect_score_has_no_width():
    labels = [np.array([0, 1, 0]), np.array([1, 0]), np.array([0, 1])]
    found = auc_between([2.0 * x - 1 for x in labels], labels)
    assert (found.mean, found.low, found.high) == pytest.approx((1.0, 1.0, 1.0))


def test_episodes_that_differ_widen_the_interval():
    """One kind of episode is told apart perfectly, the other the wrong way round."""
    label = np.array([0, 1])
    alike = auc_between([np.array([0.0, 1.0]), np.array([1.0, 0.0])] * 10, [label] * 20)
    assert alike.mean == pytest.approx(0.5)
    assert alike.low < 0.35 and alike.high > 0.65
