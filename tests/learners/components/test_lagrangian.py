"""Backups from candidates, against numpy; time-outs in them."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import learners
from sas_jax.learners.components import lagrangian, osrl
from sas_jax.types import TransitionBatch
from tests.helpers.model_fixtures import make_spec


def make_config(**model):
    config = learners.default_config("PointGoal1", "bcq_lag")
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **model))


# Two steps that begin alike: the second one times out. The third one is an end.
BATCH = TransitionBatch(
    obs=np.zeros((3, 5)),
    action=np.zeros((3, 2)),
    reward=np.array([10.0, 10.0, 10.0]),
    cost=np.array([0.0, 0.0, 1.0]),
    next_obs=np.zeros((3, 5)),
    is_terminal=np.array([False, False, True]),
    is_timeout=np.array([False, True, False]),
)
# Of two candidates the first one is worth 4, 2 and costs 2, 6; the second 3, 3; 1, 1.
VALUE = np.repeat(np.array([[4.0, 3.0], [2.0, 3.0]])[:, :, None], 3, axis=2)
COST = np.repeat(np.array([[2.0, 1.0], [6.0, 1.0]])[:, :, None], 3, axis=2)


@pytest.mark.parametrize(
    "price, value, cost",
    [
        # mix 0.75 * 2 + 0.25 * 4 = 2.5 and 0.75 * 6 + 0.25 * 2 = 5; or 3 and 1.
        (0.0, 3.0, 1.0),
        # 2.5 + 0.5 * 5 = 5 against 3 + 0.5: a negative price would choose the first.
        (-0.5, 2.5, 5.0),
    ],
)
def test_both_critics_evaluate_the_candidate_that_is_chosen(price, value, cost):
    """And the time-out goes on, in reward and in cost; the end does not."""
    found = lagrangian.backup(make_config(), BATCH, jnp.float32(price), VALUE, COST)
    on = np.array([1, 1, 0])
    np.testing.assert_allclose(found[0], 1 + 0.99 * on * value, rtol=1e-6)
    np.testing.assert_allclose(found[1], BATCH.cost + 0.99 * on * cost, rtol=1e-6)


def test_the_reference_takes_its_maxima_apart_and_ends_rewards_at_time_outs():
    """Value max(2.5, 3); cost max(0.75 * 2 + 0.25 * 6, 1) = 3, through ends too."""
    config = make_config(reference="osrl")
    found = lagrangian.backup(config, BATCH, jnp.float32(0.0), VALUE, COST)
    np.testing.assert_allclose(found[0], 1 + 0.99 * np.array([1, 0, 0]) * 3, rtol=1e-6)
    np.testing.assert_allclose(found[1], BATCH.cost + 0.99 * 3, rtol=1e-6)


def test_the_limit_of_short_episodes_is_what_an_endless_critic_says():
    """kappa = 5 in 10 steps: 0.5 / 0.01; the published one is 9.6 % of it."""
    spec = dataclasses.replace(make_spec(), max_timestep=10)
    limit = osrl.critic_limit(make_config(), spec, jnp.float32(5.0))
    published = osrl.critic_limit(make_config(reference="osrl"), spec, jnp.float32(5.0))
    assert limit == pytest.approx(50)
    assert published == pytest.approx(50 * (1 - 0.99**10), rel=1e-4)
