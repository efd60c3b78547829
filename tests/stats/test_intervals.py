"""Bootstrap intervals against closed forms; pairing that refuses what is unpaired."""

import math
import random

import numpy as np
import pytest

from sas_jax.errors import UserError
from sas_jax.stats import intervals
from tests.helpers.report_samples import make_row


def paired_rows(variants, *, layouts=30, train_seeds=(0,), limits=(20.0,)):
    """variants: name -> cost as function of (layout, train seed, limit)."""
    return [
        make_row(
            variant=name,
            episode_seed=5000 + layout,
            train_seed=seed,
            cost_limit=limit,
            cost=float(cost(layout, seed, limit)),
        )
        for name, cost in variants.items()
        for layout in range(layouts)
        for seed in train_seeds
        for limit in limits
    ]


def test_half_width_matches_the_normal_approximation():
    values = np.random.default_rng(3).normal(5, 2, size=400)
    interval = intervals.mean_interval(values, resamples=20_000)
    assert interval.mean == pytest.approx(values.mean(), abs=1e-12)
    # Bootstrap standard error of a mean: population sd / sqrt(n); 1.96 of them.
    # 20 000 resamples place a 2.5 % quantile to about 2 %.
    expected = 1.959964 * values.std() / math.sqrt(400)
    assert interval.half_width == pytest.approx(expected, rel=0.05)
    assert interval.low < interval.mean < interval.high


def test_coverage_on_gaussian_data():
    rng = np.random.default_rng(0)
    repeats, size = 600, 40
    covered = 0
    for _ in range(repeats):
        interval = intervals.mean_interval(rng.normal(1.0, 3.0, size), resamples=800)
        covered += interval.low <= 1.0 <= interval.high
    # The percentile interval uses the sd with divisor n, so with n = 40 it covers
    # P[|t_39| < 1.96 sqrt(39/40)] = 0.940, plus resampling noise; three standard
    # errors of 600 repeats are 0.029.
    assert abs(covered / repeats - 0.940) < 0.032


def test_two_values_in_closed_form():
    # Resampling {0, 1} gives means 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4.
    interval = intervals.mean_interval([0.0, 1.0], level=0.4)
    assert (interval.low, interval.high) == (0.5, 0.5)
    interval = intervals.mean_interval([0.0, 1.0])
    assert (interval.mean, interval.low, interval.high) == (0.5, 0.0, 1.0)


def test_one_value_has_no_interval():
    interval = intervals.mean_interval([4.0])
    assert interval.mean == 4.0 and math.isnan(interval.low)
    assert not interval.excludes_zero


@pytest.mark.parametrize("value", [0.1, -7.3, 1e9, 0.0])
def test_constants_come_out_exactly(value):
    interval = intervals.mean_interval([value] * 37)
    assert (interval.mean, interval.low, interval.high) == (value, value, value)
    assert interval.excludes_zero == (value != 0)


def test_order_of_values_does_not_matter():
    rng = np.random.default_rng(1)
    values, clusters = rng.normal(size=90) * 1e3, rng.integers(0, 13, size=90)
    order = rng.permutation(90)
    for labels in (None, list(clusters)):
        moved = None if labels is None else [labels[i] for i in order]
        a = intervals.mean_interval(values, clusters=labels)
        assert a == intervals.mean_interval(values[order], clusters=moved)


def test_chunks_do_not_change_the_result(monkeypatch):
    values = np.random.default_rng(2).normal(size=33)
    whole = intervals.mean_interval(values)
    monkeypatch.setattr(intervals, "_CHUNK_ELEMENTS", 100)
    assert intervals.mean_interval(values) == whole


def test_seed_decides_the_resamples():
    values = np.random.default_rng(2).normal(size=33)
    assert intervals.mean_interval(values) == intervals.mean_interval(values)
    assert intervals.mean_interval(values) != intervals.mean_interval(values, seed=1)


def test_copies_of_a_layout_add_no_evidence():
    means = np.sort(np.random.default_rng(5).normal(size=25))
    single = intervals.mean_interval(means)
    # Four equal rows per layout: same clusters, same draws, same interval.
    copied = intervals.mean_interval(
        np.repeat(means, 4), clusters=np.repeat(range(25), 4)
    )
    assert copied.low == pytest.approx(single.low, abs=1e-12)
    assert copied.high == pytest.approx(single.high, abs=1e-12)
    assert (copied.num_values, copied.num_clusters) == (100, 25)
    # Taking them for independent halves the width: what clustering protects from.
    naive = intervals.mean_interval(np.repeat(means, 4))
    assert naive.half_width == pytest.approx(single.half_width / 2, rel=0.1)


def test_unequal_clusters_weigh_every_value_alike():
    values, clusters = [1.0, 1.0, 1.0, 5.0], ["a", "a", "a", "b"]
    interval = intervals.mean_interval(values, clusters=clusters)
    # Resamples: aa -> 1, bb -> 5, ab -> (3 + 5) / 4 = 2.
    assert (interval.mean, interval.low, interval.high) == (2.0, 1.0, 5.0)


def test_bad_values_are_refused():
    with pytest.raises(UserError, match="no values"):
        intervals.mean_interval([])
    with pytest.raises(UserError, match="value 1 is nan"):
        intervals.mean_interval([0.0, math.nan])
    with pytest.raises(UserError, match="2 cluster labels for 3 values"):
        intervals.mean_interval([0.0, 1.0, 2.0], clusters=[1, 2])


def test_a_constant_paired_difference_is_exact():
    noise = np.random.default_rng(0).normal(50, 40, size=30)
    rows = paired_rows(
        {"none": lambda i, s, k: noise[i], "sas": lambda i, s, k: noise[i]}
    )
    d = intervals.paired_difference(rows, "sas")
    assert (d.difference.mean, d.difference.low, d.difference.high) == (0, 0, 0)
    assert d.correlation == pytest.approx(1) and not d.resolved
    grid = np.arange(30) * 2.0  # exact in binary, so that minus 8 is exact as well
    rows = paired_rows(
        {"none": lambda i, s, k: grid[i], "sas": lambda i, s, k: grid[i] - 8}
    )
    d = intervals.paired_difference(rows, "sas")
    assert (d.difference.mean, d.difference.low, d.difference.high) == (-8, -8, -8)
    assert d.resolved and d.difference_sd == 0
    assert d.reference_sd == pytest.approx(np.std(grid, ddof=1))


def test_pairing_matches_keys_and_not_the_order_of_rows():
    rng = np.random.default_rng(7)
    a, b = rng.normal(40, 20, size=(2, 30, 2, 3))
    limits = (20.0, 40.0, 80.0)
    rows = paired_rows(
        {
            "none": lambda i, s, k: b[i, s, limits.index(k)],
            "sas": lambda i, s, k: a[i, s, limits.index(k)],
        },
        train_seeds=(0, 1),
        limits=limits,
    )
    expected = intervals.paired_difference(rows, "sas")
    assert expected.difference.mean == pytest.approx((a - b).mean())
    assert expected.correlation == pytest.approx(
        np.corrcoef(a.ravel(), b.ravel())[0, 1]
    )
    assert expected.difference.num_clusters == 30
    assert expected.difference.num_values == 180
    random.Random(0).shuffle(rows)
    assert intervals.paired_difference(rows, "sas") == expected
    # The other way round only the sign changes (other draws at the same seed differ).
    swapped = intervals.paired_difference(rows, "none", "sas")
    assert swapped.difference.mean == pytest.approx(-expected.difference.mean)


def test_layouts_are_resampled_whole():
    # All variance lies between layouts: rows of one layout must not count twice.
    effect = np.random.default_rng(4).normal(0, 10, size=30)
    variants = {"none": lambda i, s, k: 50.0, "sas": lambda i, s, k: 50 + effect[i]}
    one = intervals.paired_difference(paired_rows(variants), "sas").difference
    rows = paired_rows(variants, train_seeds=(0, 1, 2), limits=(20.0, 40.0, 80.0))
    nine = intervals.paired_difference(rows, "sas").difference
    assert nine.half_width == pytest.approx(one.half_width, rel=1e-9)


def test_rows_without_a_partner_are_named():
    rows = paired_rows({"none": lambda i, s, k: 1, "sas": lambda i, s, k: 2})
    complete = list(rows)
    rows = [
        r for r in rows if r.variant != "none" or r.episode_seed not in (5003, 5007)
    ]
    with pytest.raises(UserError) as error:
        intervals.paired_difference(rows, "sas")
    message = str(error.value)
    assert "variant 'sas' has no 'none' partner for PointGoal1 dt" in message
    assert "episode_seed 5003" in message and "and 1 more" in message
    with pytest.raises(UserError, match="variant 'none' has no 'sas' partner"):
        intervals.paired_difference(
            [r for r in complete if r.variant != "sas" or r.episode_seed != 5001], "sas"
        )
    with pytest.raises(
        UserError, match="no rows of variant 'sass'.*did you mean 'sas'"
    ):
        intervals.paired_difference(complete, "sass")
    with pytest.raises(UserError, match="has two rows for"):
        intervals.paired_difference([*complete, complete[0]], "sas")
    with pytest.raises(UserError, match="unknown metric 'costs'.*did you mean 'cost'"):
        intervals.paired_difference(complete, "sas", metric="costs")


def test_few_layouts_resolve_nothing():
    variants = {"none": lambda i, s, k: 50.0, "sas": lambda i, s, k: 10.0 + i}
    few = intervals.paired_difference(paired_rows(variants, layouts=5), "sas")
    assert few.difference.excludes_zero and not few.resolved
    assert intervals.paired_difference(paired_rows(variants, layouts=6), "sas").resolved


def test_layouts_needed_grow_with_the_square():
    interval = intervals.Interval(-1.0, -9.5, 7.5, 128, 128)
    assert interval.half_width == 8.5
    assert interval.clusters_to_resolve(8.5) == 128
    assert interval.clusters_to_resolve(4.25) == 512
