"""DCRL: cells that share a state out, prices by hand, one cell as SAC on r - sigma."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import learners
from sas_jax.errors import UserError
from sas_jax.learners import dcrl
from tests.learners.test_sac_alam import SPEC, make_batch
from tests.learners.test_sac_alam import make_config as make_sac


def make_config(**model):
    config = learners.default_config("PointGoal1", "dcrl")
    small = {"hidden": (5,), "num_envs": 1, "price_after": 0, "cells": 3}
    train = dataclasses.replace(config.train, clip_norm=None)
    model = dataclasses.replace(config.model, **small | model)
    return dataclasses.replace(config, model=model, train=train)


def started(config, **extra):
    learner = dcrl.make_learner(config, SPEC)
    state = learner.init(jax.random.key(0), jnp.nan)
    extra = {k: jnp.asarray(v, jnp.float32) for k, v in extra.items()}
    return learner, state.replace(extra=state.extra | extra)


def test_a_state_is_shared_out_among_cells():
    """Squared distances 0 and 2 in two dimensions, h = 1: odds of 1 to e^-1/2."""
    centres = jnp.array([[0.0, 0.0], [1.0, 1.0]])
    found = dcrl.shares(jnp.zeros((1, 2)), centres, 1.0)
    odds = 1 / (1 + np.exp(-0.5))
    np.testing.assert_allclose(found, [[odds, 1 - odds]], rtol=1e-6)
    rng = np.random.default_rng(0)
    many = dcrl.shares(jnp.asarray(rng.normal(size=(9, 2))), centres, 0.1)
    np.testing.assert_allclose(many.sum(axis=1), 1.0, rtol=1e-6)


@pytest.mark.slow
def test_prices_rise_where_more_cost_lies_than_may():
    """One costly step of four, near the second centre; d / M = .02 of the cost each."""
    config = make_config(limit=0.06, dual_rate=0.5, density_rate=0.25, width=0.05)
    batch = make_batch()
    centres = np.stack([batch.obs[0], batch.obs[1], batch.obs[2] + 9.0])
    learner, state = started(
        config, centres=centres, density=[0.1, 0.1, 0.1], sigma=[0.0, 1.0, 0.01]
    )
    after, shown = jax.jit(learner.update)(state, batch)
    # .75 old + .25 new; the cost of the second step is all its cell's.
    density = np.array([0.075, 0.075 + 0.25 * 0.25, 0.075])
    np.testing.assert_allclose(after.extra["density"], density, rtol=1e-4)
    sigma = np.array([0.0, 1.0, 0.01]) + 0.5 * (3 * density - 0.06)
    np.testing.assert_allclose(after.extra["sigma"], sigma, rtol=1e-4)
    assert shown["cost"] == 0.25
    # Where no cost lies they fall, not below 0.
    none = batch.replace(cost=jnp.zeros(4))
    for _ in range(40):
        after, _ = jax.jit(learner.update)(after, none)
    assert (np.asarray(after.extra["sigma"]) == 0).any()
    assert (np.asarray(after.extra["sigma"]) >= 0).all()


@pytest.mark.slow
def test_it_is_sac_on_a_reward_with_the_price_taken_off():
    """One cell, whose price is 2: the networks after a step, bit for bit."""
    learner, state = started(make_config(cells=1), sigma=[2.0])
    sac = learners.get("sac").make_learner(make_sac("sac"), SPEC)
    plain = sac.init(jax.random.key(0), jnp.nan)
    jax.tree.map(np.testing.assert_array_equal, state.params, plain.params)
    batch = make_batch()
    priced = batch.replace(reward=batch.reward - 2.0 * batch.cost)
    after, _ = jax.jit(learner.update)(state, batch)
    expected, _ = jax.jit(sac.update)(plain, priced)
    jax.tree.map(np.testing.assert_array_equal, after.params, expected.params)
    other, _ = jax.jit(sac.update)(plain, batch)
    changed = jax.tree.leaves(
        jax.tree.map(lambda a, b: (a != b).any(), after.params, other.params)
    )
    assert any(map(bool, changed))


@pytest.mark.slow
def test_before_prices_begin_cells_follow_the_buffer():
    learner, state = started(make_config(price_after=1))
    batch = make_batch()
    state, _ = jax.jit(learner.update)(state, batch)
    np.testing.assert_array_equal(state.extra["centres"], batch.obs[:3])
    np.testing.assert_array_equal(state.extra["sigma"], 0.0)
    later = batch.replace(obs=batch.obs + 1.0)
    again, _ = jax.jit(learner.update)(state, later)
    np.testing.assert_array_equal(again.extra["centres"], batch.obs[:3])
    assert (np.asarray(again.extra["sigma"]) > 0).any()


def test_settings_that_do_not_fit():
    config = make_config(cells=300)
    with pytest.raises(UserError, match=r"model\.cells: 300; expected at most .* 256"):
        dcrl.check(config)
    with pytest.raises(UserError, match=r"model\.width must be > 0"):
        make_config(width=0.0)
