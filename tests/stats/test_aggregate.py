"""Statistics over runs: closed forms, and rliable's numbers where it is installed."""

import numpy as np
import pytest

from sas_jax.errors import UserError
from sas_jax.stats import aggregate


def test_the_interquartile_mean_leaves_a_quarter_out_at_both_ends():
    assert aggregate.iqm([9.0, 1.0, 2.0, -50.0]) == 1.5
    assert aggregate.iqm([3.0, 1.0, 2.0]) == 2.0  # a quarter of three is none
    assert aggregate.iqm(np.arange(8.0)) == np.arange(2, 6).mean()


def test_improvement_counts_pairs_and_half_of_ties():
    assert aggregate.improvement([3.0, 1.0], [2.0, 0.0]) == 0.75
    assert aggregate.improvement([1.0, 1.0], [1.0]) == 0.5
    x, y = [[[2.0]], [[0.0]]], [[[1.0]], [[1.0]]]
    assert aggregate.improvement_interval(x, y).mean == 0.5


def test_a_profile_is_the_share_above():
    found = aggregate.profile([0.0, 1.0, 2.0, 3.0], [-1.0, 0.0, 1.5, 3.0])
    np.testing.assert_array_equal(found, [1.0, 0.75, 0.5, 0.0])


def test_a_run_is_the_mean_of_its_layouts():
    # Over episodes it would be 3; over the four runs it is the mean of 2 and 4.
    tasks = [np.array([[0.0, 0.0], [1.0, 3.0]]), np.array([[0.0, 8.0], [9.0, 9.0]])]
    assert aggregate.iqm_interval(tasks, resamples=50).mean == 3.0
    assert aggregate.profile_band(tasks, [3.0], resamples=50)[0] == 0.5


def test_constant_scores_have_an_interval_of_no_width():
    found = aggregate.iqm_interval([np.full((3, 5), 0.1)] * 2, resamples=50)
    assert (found.mean, found.low, found.high) == (0.1, 0.1, 0.1)


def test_one_score_has_no_interval():
    assert np.isnan(aggregate.iqm_interval([np.ones((1, 1))]).low)


@pytest.mark.parametrize("across", ["seeds", "layouts"])
def test_intervals_are_as_wide_as_the_mean_is_uncertain(across):
    scores = np.random.default_rng(0).normal(size=(1, 400))
    scores = scores.T if across == "seeds" else scores
    # With one layout, or one seed, the interval of a mean is known.
    found = aggregate.improvement_interval([scores], [np.zeros((1, scores.shape[1]))])
    share = found.mean
    if across == "seeds":
        expected = 1.96 * np.sqrt(share * (1 - share) / 400)
        assert found.half_width == pytest.approx(expected, rel=0.1)
    band = aggregate.iqm_interval([scores])
    if across == "layouts":
        expected = 1.96 * scores.std() / np.sqrt(400)
        assert band.half_width == pytest.approx(expected, rel=0.1)


def test_layouts_are_drawn_for_both_methods_alike():
    # What a layout adds to both is no difference between them.
    rng = np.random.default_rng(0)
    hard = 100 * rng.normal(size=(1, 30))
    found = aggregate.improvement_interval([hard + 1.0], [hard])
    assert (found.mean, found.low, found.high) == (1.0, 1.0, 1.0)


def test_what_is_no_table_of_scores_is_one_line():
    with pytest.raises(UserError, match="training seeds, layouts"):
        aggregate.iqm_interval([np.ones(3)])
    with pytest.raises(UserError, match="1 and 2 tasks"):
        aggregate.improvement_interval([np.ones((1, 2))], [np.ones((1, 2))] * 2)


def without_random_state(start):
    """rliable 1.0.8 hands arch an argument that arch has dropped since."""
    return lambda self, *args, random_state=None, **kwargs: start(self, *args, **kwargs)


@pytest.mark.slow
def test_rliable_has_the_same_numbers(monkeypatch):
    metrics = pytest.importorskip("rliable.metrics")
    library = pytest.importorskip("rliable.library")
    for name in ("IIDBootstrap", "IndependentSamplesBootstrap"):
        kind = getattr(library.arch_bs, name)
        monkeypatch.setattr(kind, "__init__", without_random_state(kind.__init__))
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(7, 4)), rng.normal(0.3, size=(5, 4))
    x[0], y[1] = 0.0, 0.0  # ties
    levels = np.linspace(-1.5, 1.5, 7)
    mine = [[runs[:, None] for runs in table.T] for table in (x, y)]

    def both(name, table, metric, ours):
        theirs, ends = library.get_interval_estimates(
            {name: table}, lambda *t: np.atleast_1d(metric(*t)), reps=4000
        )
        np.testing.assert_allclose(ours[0], theirs[name].squeeze(), atol=1e-12)
        for own, end in zip(ours[1:], ends[name], strict=True):
            np.testing.assert_allclose(own, end.squeeze(), atol=0.06)

    found = aggregate.iqm_interval(mine[0], resamples=4000)
    both("x", x, metrics.aggregate_iqm, (found.mean, found.low, found.high))
    found = aggregate.improvement_interval(*mine, resamples=4000)
    ours = (found.mean, found.low, found.high)
    both("xy", (x, y), metrics.probability_of_improvement, ours)
    band = aggregate.profile_band(mine[0], levels, resamples=4000)
    shares, ends = library.create_performance_profile({"x": x}, levels, reps=4000)
    np.testing.assert_allclose(band[0], shares["x"], atol=1e-12)
    np.testing.assert_allclose(band[1:], ends["x"], atol=0.06)
