"""O3SRL: the bandit by hand, TD3+BC's losses in numpy, its delayed actor."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import learners
from sas_jax.learners import o3srl
from tests.helpers import oracle_nets
from tests.helpers.model_fixtures import make_spec
from tests.learners.test_cpq import make_batch

SPEC = make_spec()


def make_learner():
    config = learners.default_config("PointGoal1", "o3srl")
    model = o3srl.O3SRLConfig(hidden=(8,), arm_steps=4)
    return o3srl.make_learner(dataclasses.replace(config, model=model), SPEC)


def test_a_round_of_the_bandit_by_hand():
    """Two arms of chance 1/2; seen 3 between 1 and 5: the gain is 1/2, doubled."""
    bandit = o3srl.initial_bandit(2) | {"low": 1.0, "high": 5.0}
    play = jax.jit(functools.partial(o3srl.play, exploration=0.2, rate=0.3))
    found = play(bandit, jnp.float32(3.0), jax.random.key(0))
    np.testing.assert_allclose(found["log_weight"], [0.3 * 0.5 / 0.5, 0], rtol=1e-5)
    assert (found["low"], found["high"]) == (1, 5)
    # 0.8 softmax + 0.2 / 2
    share = np.exp(0.3) / (np.exp(0.3) + 1)
    np.testing.assert_allclose(
        o3srl.chances(found["log_weight"], 0.2),
        0.1 + 0.8 * np.array([share, 1 - share]),
    )
    first = play(o3srl.initial_bandit(2), jnp.float32(3.0), jax.random.key(0))
    assert first["low"] == first["high"] == 3 and not first["log_weight"].any()


def test_the_arm_that_makes_the_lagrangian_small_is_played_more():
    """L = 1 - lambda violation: with the limit broken the dearest arm wins."""
    arms = jnp.array([0.0, 1.0, 2.0])

    def play(bandit, key):
        seen = 1.0 - arms[bandit["arm"]] * 0.5
        after = o3srl.play(bandit, seen, key, exploration=0.1, rate=0.05)
        return after, bandit["arm"]

    keys = jax.random.split(jax.random.key(1), 600)
    _, played = jax.jit(lambda b: jax.lax.scan(play, b, keys))(o3srl.initial_bandit(3))
    share = np.bincount(np.asarray(played)[300:], minlength=3) / 300
    assert share[2] > 0.8 and min(share) > 0


@pytest.mark.slow
def test_the_losses_against_numpy(monkeypatch):
    """Without noise on the next action. The arm in play is the second one, 1.25."""
    monkeypatch.setattr(o3srl, "_NOISE", 0.0)
    learner, batch = make_learner(), make_batch()
    state = jax.jit(learner.init)(jax.random.key(0), jnp.float32(8.0))
    params = oracle_nets.lively(state.params)
    targets = oracle_nets.lively(state.extra["targets"], 1)
    bandit = state.extra["bandit"] | {"arm": jnp.int32(1)}
    extra = state.extra | {"targets": targets, "bandit": bandit}
    state = state.replace(params=params, extra=extra)
    found = jax.jit(learner.validate)(state, batch, jax.random.key(1))
    after = batch.next_obs, np.tanh(oracle_nets.mlp(targets["actor"], batch.next_obs))
    names = ("critic", "cost_critic")
    q, cost = (oracle_nets.ensemble(targets[name], *after) for name in names)
    least = (q - 1.25 * cost).argmin(0), np.arange(12)
    goes_on = 0.99 * (1.0 - batch.is_terminal)
    for name, y in zip(
        names,
        (0.1 * batch.reward + goes_on * q[least], batch.cost + goes_on * cost[least]),
        strict=True,
    ):
        error = oracle_nets.ensemble(params[name], batch.obs, batch.action) - y
        np.testing.assert_allclose(
            found[f"{name}_loss"], np.square(error).mean(1).sum(), rtol=1e-4
        )
    action = np.tanh(oracle_nets.mlp(params["actor"], batch.obs))
    q, cost = (oracle_nets.ensemble(params[k], batch.obs, action)[0] for k in names)
    theta = 8.0 / SPEC.max_timestep / 0.01
    worth = q - 1.25 * (cost - theta)
    cloned = np.square(action - batch.action).mean()
    expected = cloned - 2.5 * worth.mean() / np.abs(worth).mean()
    np.testing.assert_allclose(found["actor_loss"], expected, rtol=1e-4)
    np.testing.assert_allclose(found["lagrangian"], worth.mean(), rtol=1e-4)


@pytest.mark.slow
def test_actor_and_targets_step_every_second_time_the_bandit_every_fourth():
    learner, batch = make_learner(), make_batch()
    update = jax.jit(learner.update)
    states = [jax.jit(learner.init)(jax.random.key(0), jnp.float32(8.0))]
    for _ in range(4):
        states.append(update(states[-1], batch)[0])

    def moved(part):
        return [
            any(
                np.any(np.asarray(a) != np.asarray(b))
                for a, b in zip(
                    jax.tree.leaves(part(old)), jax.tree.leaves(part(new)), strict=True
                )
            )
            for old, new in zip(states, states[1:], strict=False)
        ]

    assert moved(lambda s: s.params["critic"]) == [True] * 4
    assert moved(lambda s: s.params["actor"]) == [False, True, False, True]
    assert moved(lambda s: s.opt_state["actor"]) == [False, True, False, True]
    assert moved(lambda s: s.extra["targets"]) == [False, True, False, True]
    assert moved(lambda s: s.extra["bandit"]["low"]) == [False, False, False, True]
