"""The tail of costs in closed form."""

import numpy as np
import pytest

from sas_jax.errors import UserError
from sas_jax.stats import tail


def test_the_worst_share_counts_the_episode_at_its_edge_in_part():
    costs = np.array([10.0, 0.0, 4.0, 2.0])
    assert tail.cvar(costs, 0.25) == 10.0
    assert tail.cvar(costs, 0.5) == 7.0
    assert tail.cvar(costs, 1.0) == costs.mean()
    # One and a half of four: all of the 10, half of the 4.
    assert tail.cvar(costs, 0.375) == pytest.approx((10 + 0.5 * 4) / 1.5)
    # Less than one episode is the worst one.
    assert tail.cvar(costs, 0.05) == 10.0


def test_weights_are_repetitions():
    costs, times = np.array([10.0, 0.0, 4.0, 2.0]), np.array([[0, 3, 2, 1]])
    repeated = np.repeat(costs, times[0])
    assert tail.cvar(costs, 0.4, times)[0] == pytest.approx(tail.cvar(repeated, 0.4))


def test_an_exponential_tail_is_one_scale_above_its_quantile():
    costs = np.random.default_rng(0).exponential(size=4000)
    found = tail.cvar_interval(costs, 0.1, np.arange(4000), resamples=500)
    assert found.low < 1 + np.log(10) < found.high
    assert found.num_clusters == 4000 and found.half_width < 0.2


def test_layouts_are_drawn_whole():
    costs = np.repeat([0.0, 10.0], 50)
    found = tail.cvar_interval(costs, 1.0, np.repeat([0, 1], 50), resamples=400)
    # Of two layouts a quarter of the draws has one of them twice.
    assert (found.mean, found.low, found.high) == (5.0, 0.0, 10.0)
    assert found.num_clusters == 2
    alone = tail.cvar_interval(costs, 0.1, ["one"] * 100)
    assert alone.mean == 10.0 and np.isnan(alone.low)


def test_power_is_that_of_a_normal_mean():
    # Two-sided 5 % and 80 %: (1.96 + 0.84) ** 2 = 7.85.
    assert tail.layouts_to_see(1.0, 10.0) == 785
    assert tail.layouts_to_see(-10.0, 10.0) == 8
    assert tail.layouts_to_see(1.0, 10.0, power=0.5) == 385


@pytest.mark.parametrize(("costs", "share"), [([], 0.1), ([1.0], 0.0), ([1.0], 2.0)])
def test_no_tail_is_one_line(costs, share):
    with pytest.raises(UserError, match="share"):
        tail.cvar(costs, share)
