"""What a policy reads of its targets, in closed form."""

import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.models.targets import LEAST_LEFT, MOST_PER_STEP, policy_targets


def targets_at(timestep, return_to_go, cost_to_go=None, longest=100):
    cost_to_go = None if cost_to_go is None else jnp.float32(cost_to_go)
    return np.asarray(
        policy_targets(jnp.float32(return_to_go), cost_to_go, timestep, longest)
    )


@pytest.mark.parametrize(
    "timestep, left, rate", [(0, 1.0, 0.5), (50, 0.5, 1.0), (75, 0.25, 2.0)]
)
def test_a_target_per_remaining_step_is_over_what_is_left(timestep, left, rate):
    np.testing.assert_allclose(targets_at(timestep, 0.5), [left, 0.5, rate])


@pytest.mark.parametrize("to_go", [0.75, -0.75])
def test_an_episode_that_falls_short_asks_for_no_more_than_the_cut(to_go):
    """An episode of 1000 steps that returned a quarter of its target asks for
    15 times the best episode's mean near its end; no data show that.
    """
    wanted = [targets_at(t, to_go, longest=1000)[2] for t in (900, 975, 999)]
    np.testing.assert_array_equal(wanted, np.sign(to_go) * MOST_PER_STEP)


def test_below_the_least_share_the_rate_grows_no_further():
    late = [targets_at(t, 0.01, longest=1000)[2] for t in (950, 980, 999)]
    np.testing.assert_allclose(late, 0.01 / LEAST_LEFT, rtol=1e-5)


def test_a_policy_with_a_budget_reads_it_too_and_an_exceeded_one_is_none():
    found = targets_at(50, 0.5, 0.25)
    expected = [0.5, 0.5, 1.0, 0.25, 0.5, np.log1p(12.5) / 4]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_array_equal(targets_at(50, 0.5, -0.25)[3:], 0.0)
    assert targets_at(99, 0.5, 0.9)[4] == MOST_PER_STEP


def test_no_limit_is_told_from_every_limit():
    """Its three numbers are -1, -1 over what is left, cut, and -1; none has a slope."""
    found = targets_at(50, 0.5, np.inf)
    np.testing.assert_allclose(found, [0.5, 0.5, 1.0, -1.0, -2.0, -1.0])
    assert (np.stack([targets_at(50, 0.5, c) for c in (-3, 0, 0.4)])[:, 3:] >= 0).all()
