"""Slopes of policies whose slopes are known."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import checkpoint, learners
from sas_jax.envs.tasks import get_task
from sas_jax.errors import UserError
from sas_jax.learners import bc
from sas_jax.studies import sensitivity
from sas_jax.training import fit as training_fit
from sas_jax.types import TimeStep
from tests.helpers.fake_envs import FakeEnvs
from tests.helpers.mean_policy import policy_of
from tests.helpers.model_fixtures import make_spec

WEIGHTS = np.float32([[3.0, 0.0], [0.0, 1.0], [0.0, 0.0], [4.0, 0.0]])


def looked_at(mean, obs, scale):
    zeros = np.zeros(len(obs), np.float32)
    ts = TimeStep(obs, zeros, zeros, zeros > 0)
    found = sensitivity.jacobian(
        policy_of(mean).mean_action, {}, (), ts, jnp.asarray(scale)
    )
    return np.asarray(found), sensitivity.slopes(found)


def test_of_a_linear_policy_it_is_the_weights_in_units_of_the_data():
    obs = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    found, slopes = looked_at(lambda x: x @ WEIGHTS, obs, np.ones(4, np.float32))
    np.testing.assert_allclose(found, np.tile(WEIGHTS.T, (3, 1, 1)), atol=1e-6)
    # Columns 0 and 3 as (3, 4): length 5, shares 9 / 25 and 16 / 25.
    np.testing.assert_allclose(slopes.largest, 5.0, rtol=1e-5)
    np.testing.assert_allclose(
        slopes.share, np.tile([0.36, 0, 0, 0.64], (3, 1)), atol=1e-5
    )
    np.testing.assert_allclose(slopes.norm, np.tile([3.0, 1, 0, 4], (3, 1)), atol=1e-5)
    _, scaled = looked_at(lambda x: x @ WEIGHTS, obs, np.float32([2.0, 1, 1, 0]))
    np.testing.assert_allclose(scaled.largest, 6.0, rtol=1e-5)


def test_rows_have_slopes_of_their_own():
    obs = np.float32([[0.0, 2.0], [1.0, -3.0]])
    found, _ = looked_at(lambda x: jnp.square(x), obs, np.ones(2, np.float32))
    expected = [np.diag(2 * row) for row in obs]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_groups_add_their_columns_up():
    columns = np.array([[0.1, 0.2, 0.3, 0.4]])
    groups = {"a": slice(0, 1), "b": slice(1, 4)}
    np.testing.assert_allclose(sensitivity.by_group(columns, groups), [[0.1, 0.9]])


class Envs(FakeEnvs):
    """Episodes of seven steps, but for seed 3: four."""

    def __init__(self, task, num_envs, **others):
        super().__init__(num_envs, steps=7)

    def step(self, actions):
        batch = super().step(actions)
        over = (self.seeds == 3) & (self.t >= 4)
        return batch._replace(is_last=batch.is_last | over)


@pytest.fixture
def loaded(monkeypatch):
    """A cloned policy that has not learnt anything, on an environment of numpy."""
    small = dataclasses.replace(get_task("PointGoal1"), obs_dim=5, action_dim=2)
    monkeypatch.setattr(sensitivity, "task_of", lambda *_: small)
    monkeypatch.setattr(sensitivity, "VectorEnv", Envs)
    config = learners.default_config("PointGoal1", "bc")
    config = dataclasses.replace(config, model=bc.BCConfig((8,)))
    spec = make_spec()
    learner = learners.get("bc").make_learner(config, spec)
    states = training_fit.initial_states(config.train, learner, None)
    return checkpoint.Checkpoint(config, spec, states, 0, None, {})


def test_an_episode_has_its_own_looks_only(loaded):
    """Whoever drives beside it, and however long they do."""
    settings = {"cost_limit": 20.0, "every": 2}
    both = sensitivity.measure(loaded, np.array([3, 4]), **settings)
    for index, seed in enumerate((3, 4)):
        alone = sensitivity.measure(loaded, np.array([seed]), **settings)
        for x, y in zip(both, alone, strict=True):
            np.testing.assert_allclose(x[index], y[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(both.share.sum(axis=1), 1.0, rtol=1e-5)
    # Column 4 never varies in the data, and nothing depends on it.
    assert not both.norm[:, 4].any() and (both.largest > 0).all()


def test_steps_between_looks_are_whole_numbers(loaded):
    with pytest.raises(UserError, match="every .*got 0"):
        sensitivity.measure(loaded, np.array([3]), cost_limit=20.0, every=0)
