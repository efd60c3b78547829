"""The column of a lidar's nearest object: by hand, and the same wherever it is seen."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import model_cases
from sas_jax import learners
from sas_jax.experiment import seen_columns
from sas_jax.learners import sac_alam
from sas_jax.learners.components import actor_critic as ac
from sas_jax.learners.components import nearest
from sas_jax.types import Rows, TimeStep, TransitionBatch

ALGOS = ("sac_alam", "cpq", "caps", "bcq_lag", "fisor", "td3_bc", "coptidice")


def make_spec():
    spec = model_cases.make_spec(learners.default_config("PointGoal1", "dt"))
    rng = np.random.default_rng(0)
    mean = rng.normal(size=spec.obs_dim).astype(np.float32)
    std = rng.uniform(0.5, 2, spec.obs_dim).astype(np.float32)
    for first, size in spec.rings:  # one scale a lidar
        mean[first : first + size], std[first : first + size] = 0.1, 0.25
    return dataclasses.replace(spec, obs_mean=mean, obs_std=std)


def make_config(algo, sees_nearest=True, **model):
    config = learners.default_config("PointGoal1", algo)
    model = dataclasses.replace(config.model, sees_nearest=sees_nearest, **model)
    train = dataclasses.replace(config.train, batch_rows=4)
    return dataclasses.replace(config, model=model, train=train)


def make_observations(spec, count=3):
    """As the environment gives them: lidars read 0 to 1."""
    obs = np.asarray(model_cases.make_observations(spec, count))
    for first, size in spec.rings:
        ring = slice(first, first + size)
        obs[:, ring] = np.random.default_rng(1).uniform(0, 1, (count, size))
    return obs


def test_the_column_by_hand():
    """Nothing near, the edge of a hazard at .2 m of 3, and a touch."""
    readings = jnp.array([[0.0, 0.0], [0.3, 1 - 0.2 / 3], [1.0, 0.2]])
    expected = -np.log([1.02, 0.02 + 0.2 / 3, 0.02])
    np.testing.assert_allclose(nearest.nearness(readings), expected, atol=1e-6)


def test_what_is_recorded_and_what_is_seen_are_widened_alike():
    """A standardised batch and the environment's observation give the same columns."""
    spec = make_spec()
    obs, wide = make_observations(spec), nearest.wide(spec)
    inside = nearest.widened(spec.standardised(obs), spec)
    assert inside.shape == (3, wide.obs_dim) == (3, spec.obs_dim + 3)
    outside = wide.standardised(nearest._widened_raw(obs, spec))
    np.testing.assert_allclose(inside, outside, atol=1e-5)


def test_a_policy_that_is_blind_to_a_lidar_does_not_see_its_nearest_object():
    spec = make_spec()
    config = make_config("cpq", policy_blind=("hazards_lidar",))
    seen = ac.blindfold(config, nearest.wide(spec))(jnp.ones(spec.obs_dim + 3))
    hidden = seen_columns(("hazards_lidar",), spec)
    assert seen[: spec.obs_dim].tolist() == [float(x) for x in hidden]
    own = [hidden[first] for first, _ in spec.rings]
    assert seen[spec.obs_dim :].tolist() == [float(x) for x in own] and not all(own)


@pytest.mark.slow
@pytest.mark.parametrize("algo", ALGOS)
def test_learners_learn_of_it_and_policies_act_on_it(algo):
    """A step moves the weights that the columns are read by."""
    spec, config = make_spec(), make_config(algo)
    algorithm = learners.get(algo)
    learner = algorithm.make_learner(config, spec)
    state = learner.init(jax.random.key(0), jnp.float32(20.0))
    episodes = model_cases.make_episodes(config, 2)
    episodes = dataclasses.replace(
        episodes, observations=make_observations(spec, episodes.num_steps)
    )
    data = algorithm.to_device(config, spec, episodes, is_training=True)
    after, metrics = jax.jit(learner.update)(
        state, learner.sample(data, jax.random.key(1), state)
    )
    assert np.isfinite(metrics["loss"])
    for name in {"cost_critic", "critic", "nu"} & set(state.params):
        first = [
            np.abs(new - old)[..., spec.obs_dim : spec.obs_dim + 3, :]
            for old, new in zip(
                jax.tree.leaves(state.params[name]),
                jax.tree.leaves(after.params[name]),
                strict=True,
            )
            if old.ndim >= 2 and spec.obs_dim < old.shape[-2] < 2 * spec.obs_dim
        ]
        assert len(first) == 1 and first[0].shape[-2] == 3 and first[0].max() > 0

    obs, zeros = make_observations(spec, 4), np.zeros(4, np.float32)
    policy = algorithm.make_policy(config, spec, variants=("none",))
    variables = algorithm.variables_of(after)
    rows = Rows(jnp.full(4, 20.0), np.arange(4, dtype=np.uint32))
    carry = policy.initial_carry(variables, rows, jax.random.key(1))
    ts = TimeStep(jnp.asarray(obs), zeros, zeros, zeros > 0)
    action, _ = policy.act(variables, carry, ts, jax.random.key(2))
    assert action.shape == (4, spec.action_dim) and np.isfinite(action).all()


@pytest.mark.slow
def test_without_it_nothing_changes():
    """The losses of a learner that was made without the wrapper."""
    spec, config = make_spec(), make_config("sac_alam", sees_nearest=False)
    rng = np.random.default_rng(3)
    obs, after = rng.normal(size=(2, 4, spec.obs_dim)).astype(np.float32)
    batch = TransitionBatch(
        obs=jnp.asarray(obs),
        action=jnp.zeros((4, spec.action_dim)),
        reward=jnp.ones(4),
        cost=jnp.array([0.0, 1.0, 0.0, 0.0]),
        next_obs=jnp.asarray(after),
        is_terminal=jnp.zeros(4, bool),
        is_timeout=jnp.zeros(4, bool),
    )
    found = []
    for make in (sac_alam.make_learner, learners.get("sac_alam").make_learner):
        learner = make(config, spec)
        state = learner.init(jax.random.key(0), jnp.nan)
        found.append(learner.validate(state, batch, jax.random.key(1)))
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])
