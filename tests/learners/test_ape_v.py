"""APE-V: beliefs by Bayes' rule, SAC-N where there is one member, and acting."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import learners
from sas_jax.learners import ape_v
from sas_jax.types import Rows, TimeStep
from tests.helpers import oracle_nets
from tests.helpers.model_fixtures import make_spec
from tests.learners import test_sac
from tests.learners.test_cpq import make_batch

SPEC = make_spec()


def make_config(**model):
    config = learners.default_config("PointGoal1", "ape_v")
    model = dataclasses.replace(config.model, **{"hidden": (8,)} | model)
    return dataclasses.replace(config, model=model)


def test_a_belief_follows_bayes_rule():
    """Errors 0 and 2 at variance 2: odds of 1 to 1/e; then a tenth for everybody."""
    belief = jnp.array([[0.5, 0.5], [0.2, 0.8]])
    error = jnp.array([[0.0, 2.0], [3.0, -3.0]])
    odds = 1 / (1 + np.exp(-1.0))
    found = ape_v.updated(belief, error, jnp.float32(2.0), 0.0)
    np.testing.assert_allclose(found, [[odds, 1 - odds], [0.2, 0.8]], rtol=1e-6)
    mixed = ape_v.updated(belief, error, jnp.float32(2.0), 0.2)
    np.testing.assert_allclose(mixed[1], [0.26, 0.74], rtol=1e-6)
    # One that was ruled out comes back by what is forgotten alone.
    out = jnp.array([[0.0, 1.0]])
    wrong = jnp.array([[0.0, 9.0]])
    for share, expected in ((0.0, 0.0), (0.2, 0.1)):
        found = ape_v.updated(out, wrong, jnp.float32(1.0), share)
        np.testing.assert_allclose(found[0, 0], expected, rtol=1e-6)


def without_belief(layer):
    """A first layer whose last input is always 1, as one that lacks it."""
    kernel, bias = layer["kernel"], layer["bias"]
    return {"kernel": kernel[..., :-1, :], "bias": bias + kernel[..., -1, :]}


def as_sac_n(params):
    """The parameters of one member without the belief that they see."""
    critic = dict(params["critic"]["VmapMLP_0"])
    actor = dict(params["actor"]["MLP_0"])
    critic["Dense_0"] = without_belief(critic["Dense_0"])
    actor["Dense_0"] = without_belief(actor["Dense_0"])
    return params | {
        "critic": {"VmapMLP_0": critic},
        "actor": {"MLP_0": actor},
    }


@pytest.mark.slow
def test_one_member_is_sac_n():
    """The same losses, of the same networks, by the same draws."""
    learner = ape_v.make_learner(make_config(members=1, critics=3), SPEC)
    state = learner.init(jax.random.key(0), jnp.nan)
    params = oracle_nets.lively(state.params)
    params["entropy"] = {"log_price": jnp.float32(-0.5)}
    targets = {"critic": oracle_nets.lively(state.params["critic"], 1)}
    state = state.replace(params=params, extra=state.extra | {"targets": targets})
    parent, other = test_sac.make_state("sac_n")
    bare = as_sac_n(params)
    other = other.replace(
        params=bare,
        extra=other.extra
        | {"targets": {"critic": as_sac_n(params | targets)["critic"]}},
    )
    batch, key = make_batch(), jax.random.key(1)
    found = jax.jit(learner.validate)(state, batch, key)
    expected = jax.jit(parent.validate)(other, batch, key)
    for name in ("critic_loss", "actor_loss", "entropy_loss"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)


@pytest.mark.slow
def test_targets_are_each_members_own_and_the_actor_weighs_by_belief():
    """Both losses of two members in numpy; the draws are made again from the key."""
    config = make_config(members=2, critics=2, forgetting=0.1, error_rate=0.5)
    learner = ape_v.make_learner(config, SPEC)
    state = learner.init(jax.random.key(0), jnp.nan)
    params = oracle_nets.lively(state.params)
    params["entropy"] = {"log_price": jnp.float32(-0.5)}
    targets = {"critic": oracle_nets.lively(state.params["critic"], 1)}
    state = state.replace(params=params, extra=state.extra | {"targets": targets})
    batch, key = make_batch(), jax.random.key(1)
    found = jax.jit(learner.validate)(state, batch, key)

    keys = jax.random.split(key, 3)
    count, critic, actor = len(batch.reward), params["critic"], params["actor"]
    belief = np.asarray(jax.random.dirichlet(keys[1], jnp.ones(2), (count,)))
    goes_on = 0.99 * (1.0 - batch.is_terminal)[:, None]

    def q(params, obs, action, belief):
        every = oracle_nets.ensemble(params, obs, action, belief)
        return every.reshape(2, 2, -1)

    def draw(obs, belief, key):
        mean, log_std = oracle_nets.squashed(actor, np.concatenate([obs, belief], 1))
        noise = np.asarray(jax.random.normal(key, (1, count, 2)))[0]
        u = mean + np.exp(log_std) * noise
        return np.tanh(u), test_sac.density(noise, log_std, u), np.tanh(mean)

    _, _, mode = draw(batch.next_obs, belief, keys[0])
    value = q(critic, batch.next_obs, mode, belief).min(1).T
    foretold = q(critic, batch.obs, batch.action, belief).min(1).T
    error = batch.reward[:, None] + goes_on * value - foretold
    variance = 0.5 + 0.5 * np.square(error).mean()
    weight = belief * np.exp(-np.square(error) / (2 * variance))
    new = 0.9 * weight / weight.sum(1, keepdims=True) + 0.05
    action, log_pi, _ = draw(batch.next_obs, new, keys[0])
    value = q(targets["critic"], batch.next_obs, action, new).min(1).T
    y = batch.reward[:, None] + goes_on * (value - np.exp(-0.5) * log_pi[:, None])
    every = q(critic, batch.obs, batch.action, belief)
    expected = np.square(every - y.T[:, None]).mean(-1).sum()
    np.testing.assert_allclose(found["critic_loss"], expected, rtol=1e-3)
    np.testing.assert_allclose(found["error"], np.sqrt(variance), rtol=1e-4)

    action, log_pi, _ = draw(batch.obs, belief, keys[2])
    worth = (belief * q(critic, batch.obs, action, belief).min(1).T).sum(1)
    np.testing.assert_allclose(
        found["actor_loss"], np.mean(np.exp(-0.5) * log_pi - worth), rtol=1e-3
    )


def test_acting_moves_the_belief_to_the_member_that_foretold_the_reward():
    """Two members that say 1 and -1 whatever is done; gamma is nearly 0.

    The reward is -1 in one row and 1 in the other. The actor is linear in the belief,
    so that its action tells which member is believed. The first step knows no reward.
    """
    config = make_config(hidden=(), members=2, critics=1, forgetting=0.0, discount=1e-6)
    policy = ape_v.make_policy(config, SPEC)
    learner = ape_v.make_learner(config, SPEC)
    params = jax.tree.map(
        jnp.zeros_like, learner.init(jax.random.key(0), jnp.nan).params
    )
    bias = jnp.array([[1.0], [-1.0]])
    params["critic"]["VmapMLP_0"]["Dense_0"]["bias"] = bias
    kernel = params["actor"]["MLP_0"]["Dense_0"]["kernel"]
    params["actor"]["MLP_0"]["Dense_0"]["kernel"] = kernel.at[-2, 0].set(1.0)
    variables = {"params": params, "extra": {"variance": jnp.float32(4.0)}}
    rows = Rows(jnp.zeros(2), jnp.arange(2, dtype=jnp.uint32))
    carry = policy.initial_carry(variables, rows, jax.random.key(0))
    zeros, act = jnp.zeros(2), jax.jit(policy.act)
    obs = jnp.zeros((2, SPEC.obs_dim))
    odds = 0.5
    for step in range(4):
        reward = zeros if step == 0 else jnp.array([-1.0, 1.0])
        ts = TimeStep(obs, reward, zeros, jnp.full(2, step == 0))
        action, carry = act(variables, carry, ts, jax.random.key(step))
        if step:
            # Errors 0 and 2 at variance 4: e^-0.5 to 1 for the member that erred.
            odds = odds * np.exp(-0.5) / (odds * np.exp(-0.5) + 1 - odds)
        np.testing.assert_allclose(
            carry["belief"][:, 0], [odds, 1 - odds], rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(
            action[:, 0], np.tanh([odds, 1 - odds]), rtol=1e-4, atol=1e-5
        )
