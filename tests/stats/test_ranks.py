"""Rank statistics on literals."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from sas_jax.stats.ranks import auc, auc_within, ranks, spearman


def test_ranks_within_a_row_leave_out_what_is_not_finite():
    nan, inf = np.nan, np.inf
    found = ranks([[3.0, 1.0, 1.0, 2.0], [nan, 5.0, inf, 4.0], [nan] * 4])
    np.testing.assert_array_equal(
        found, [[4.0, 1.5, 1.5, 3.0], [nan, 2.0, nan, 1.0], [nan] * 4]
    )


def test_spearman_counts_ties_and_constants():
    assert spearman([1, 2, 3], [9, 4, 1]) == -1.0
    assert spearman([1, 1, 2, 2], [1, 2, 3, 4]) == pytest.approx(
        scipy_stats.spearmanr([1, 1, 2, 2], [1, 2, 3, 4]).statistic
    )
    assert math.isnan(spearman([1, 1], [1, 2]))


def test_area_under_the_curve_on_literals():
    """Of 2 x 2 pairs 3 are in order; a tie counts half; one class has no curve."""
    label = np.array([0, 1, 0, 1])
    assert auc(np.array([0.1, 0.4, 0.35, 0.3]), label) == 0.75
    assert auc(np.array([0.1, 0.1, 0.1, 0.1]), label) == 0.5
    assert np.isnan(auc(np.array([0.1, 0.2]), np.array([1, 1])))


def test_area_within_rows_leaves_out_what_is_not_finite():
    nan = np.nan
    left = np.array([[3.0, 1.0, nan], [nan, nan, nan], [2.0, 2.0, 2.0]])
    right = np.array([[2.0, 1.0], [0.0, 1.0], [2.0, nan]])
    np.testing.assert_allclose(auc_within(left, right), [2.5 / 4, nan, 0.5])
