"""Attacks on observations: the worst corner in closed form, and what they may touch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.envs import make as make_env
from sas_jax.errors import UserError
from sas_jax.evaluation import attack
from sas_jax.learners import sequence
from sas_jax.types import Rows, TimeStep
from tests.helpers.mean_policy import policy_of
from tests.helpers.model_fixtures import make_config, make_spec, make_variables

STD = np.float32([1.0, 0.5, 0.0, 2.0])
WEIGHTS = np.float32([[0.3], [-1.0], [5.0], [0.1]])
KEY = jax.random.key(0)


def shown(mean, size, obs):
    """What an attacked policy sees, less what there is: `[B, O]`."""
    count = len(obs)
    ts = TimeStep(obs, np.zeros(count), np.zeros(count), np.zeros(count, bool))
    act = jax.jit(attack.attacked(policy_of(mean), size, STD).act)
    return np.asarray(act({}, (), ts, KEY)[1]) - obs


def observations(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)


def test_a_linear_policy_is_moved_as_far_as_the_box_allows():
    """|w'd| over |d_i| <= size std_i is at most size sum |w_i| std_i."""
    change = shown(lambda obs: obs @ WEIGHTS, 0.2, observations(6))
    most = 0.2 * np.abs(WEIGHTS[:, 0] * STD).sum()
    np.testing.assert_allclose(np.abs(change @ WEIGHTS), most, rtol=1e-5)
    assert not change[:, 2].any(), "a column without spread was changed"


def test_no_corner_moves_a_curved_policy_further_and_none_leaves_the_box():
    def mean(obs):
        return jnp.stack([jnp.sin(3 * obs[:, 0] * obs[:, 1]), jnp.tanh(obs[:, 3])], 1)

    obs = observations(20)
    change = shown(mean, 0.3, obs)
    assert (np.abs(change) <= 0.3 * STD + 1e-6).all()
    found = np.linalg.norm(mean(obs + change) - mean(obs), axis=1)
    for corner in np.asarray(attack.corners(0.3 * jnp.asarray(STD))):
        np.testing.assert_allclose(np.abs(corner), 0.3 * STD, rtol=1e-6)
        assert (found >= np.linalg.norm(mean(obs + corner) - mean(obs), axis=1)).all()


def test_rows_are_attacked_by_themselves():
    def mean(obs):
        return jnp.sin(obs[:, :2] * obs[:, 3:])

    many = observations(9)
    one = np.concatenate([shown(mean, 0.3, many[i : i + 1]) for i in range(9)])
    np.testing.assert_allclose(shown(mean, 0.3, many), one, atol=1e-6)


@pytest.fixture(scope="module")
def aligned():
    """A sequence policy that acts by its mean, and its variables."""
    config = make_config(decoder={"depth": 1}, sas={"sample_actions": False})
    spec = make_spec()
    policy = sequence.make_policy(config, spec, variants=("none",))
    return policy, make_variables(config, spec), spec


def driven(policy, variables, spec, attacked_steps, size=0.5):
    """Actions `[T, B, A]` of four steps, some of them under attack."""
    worse = attack.attacked(policy, size, spec.obs_spread)
    acts = {False: jax.jit(policy.act), True: jax.jit(worse.act)}
    mean_action = jax.jit(policy.mean_action)
    rows = Rows(cost_limit=np.float32([5.0, 5.0]), episode_seed=np.uint32([3, 4]))
    carry, actions = policy.initial_carry(variables, rows, KEY), []
    for t in range(4):
        obs = np.random.default_rng([4, t]).normal(size=(2, spec.obs_dim))
        zeros = np.zeros(2, np.float32)
        ts = TimeStep(np.float32(obs), zeros, zeros, np.full(2, t == 0))
        if t == 0:
            carry = policy.begin(variables, carry, ts, KEY)
        mean = mean_action(variables, carry, ts)
        action, carry = acts[t in attacked_steps](variables, carry, ts, KEY)
        if t not in attacked_steps:
            np.testing.assert_allclose(action, np.clip(mean, -1.0, 1.0), atol=1e-6)
        actions.append(np.asarray(action))
    return np.stack(actions)


@pytest.mark.slow
def test_what_a_sequence_policy_was_shown_stays_in_its_memory(aligned):
    plain = driven(*aligned, attacked_steps=())
    late = driven(*aligned, attacked_steps=(1,))
    np.testing.assert_array_equal(plain[0], late[0])
    assert (np.abs(plain[1:] - late[1:]).max(axis=(1, 2)) > 0).all()
    none = driven(*aligned, attacked_steps=(1, 2), size=0.0)
    np.testing.assert_allclose(plain, none, atol=1e-5)


def test_what_cannot_be_attacked_says_so():
    mute = policy_of(lambda obs: obs)._replace(mean_action=None)
    with pytest.raises(UserError, match="does not say its mean action"):
        attack.attacked(mute, 0.1, STD)
    with pytest.raises(UserError, match="attack:-1.0: expected a number >= 0"):
        make_env.make("PointGoal1", shift="attack:-1")
    with pytest.raises(UserError, match="attack changes what a policy sees"):
        make_env.make("PointGoal1", shift="attack:0.1")
