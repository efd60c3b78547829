"""TD3+BC and PRDC: the nearest row by brute force, losses in numpy, their kinship."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import learners
from sas_jax.learners import td3
from tests.helpers import oracle_nets
from tests.helpers.model_fixtures import make_spec
from tests.learners.test_cpq import make_batch

SPEC = make_spec()


def make_learner(algo, **changes):
    config = learners.default_config("PointGoal1", algo)
    model = td3.TD3Config(hidden=(8,), **changes)
    return td3.make_learner(dataclasses.replace(config, model=model), SPEC)


@pytest.mark.parametrize("count", [1, 7, 40])
@pytest.mark.parametrize("weight", [0.0, 1.5])
def test_the_nearest_row_by_brute_force(monkeypatch, count, weight):
    """In chunks of 7, of which the last overlaps the one before it."""
    monkeypatch.setattr(td3, "_CHUNK", 7)
    rng = np.random.default_rng(count)
    obs, action = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    known, acted = rng.normal(size=(count, 3)), rng.normal(size=(count, 2))
    found = jax.jit(td3.nearest, static_argnums=4)(
        *(jnp.asarray(x, jnp.float32) for x in (obs, action, known, acted)), weight
    )
    away = weight**2 * np.square(obs[:, None] - known[None]).sum(-1)
    away += np.square(action[:, None] - acted[None]).sum(-1)
    np.testing.assert_allclose(found, acted[away.argmin(axis=1)], rtol=1e-6)


def states(algo, **changes):
    """A learner, and a state whose networks have something to say."""
    learner = make_learner(algo, **changes)
    state = jax.jit(learner.init)(jax.random.key(0), jnp.float32(np.nan))
    params = oracle_nets.lively(state.params)
    targets = oracle_nets.lively(state.extra["targets"], 1)
    return learner, state.replace(
        params=params, extra=state.extra | {"targets": targets}
    )


@pytest.mark.slow
def test_the_losses_against_numpy(monkeypatch):
    monkeypatch.setattr(td3, "_NOISE", 0.0)
    batch, found = make_batch(), {}
    rng = np.random.default_rng(3)
    size = batch.obs.shape[1], batch.action.shape[1]
    known = [rng.normal(size=(20, n)).astype(np.float32) for n in size]
    for algo in ("td3_bc", "prdc"):
        learner, state = states(algo)
        drawn = td3.Drawn(batch, *known)
        found[algo] = jax.jit(learner.validate)(state, drawn, jax.random.key(1))
    targets, params = state.extra["targets"], state.params
    after = np.tanh(oracle_nets.mlp(targets["actor"], batch.next_obs))
    q = oracle_nets.ensemble(targets["critic"], batch.next_obs, after).min(0)
    y = 0.1 * batch.reward + 0.99 * (1.0 - batch.is_terminal) * q
    error = oracle_nets.ensemble(params["critic"], batch.obs, batch.action) - y
    action = np.tanh(oracle_nets.mlp(params["actor"], batch.obs))
    worth = oracle_nets.ensemble(params["critic"], batch.obs, action)[0]
    away = 4.0 * np.square(batch.obs[:, None] - known[0][None]).sum(-1)
    away += np.square(action[:, None] - known[1][None]).sum(-1)
    nearest = known[1][away.argmin(axis=1)]
    for algo, near in (("td3_bc", batch.action), ("prdc", nearest)):
        np.testing.assert_allclose(
            found[algo]["critic_loss"], np.square(error).mean(1).sum(), rtol=1e-4
        )
        expected = np.square(action - near).mean()
        expected -= 2.5 * worth.mean() / np.abs(worth).mean()
        np.testing.assert_allclose(found[algo]["actor_loss"], expected, rtol=1e-4)


@pytest.mark.slow
def test_where_only_the_state_counts_prdc_is_td3_bc():
    """And the actor moves in every second update only."""
    batch, moved = make_batch(), {}
    for algo in ("td3_bc", "prdc"):
        learner, state = states(algo, state_weight=1e3)
        update = jax.jit(learner.update)
        drawn = td3.Drawn(batch, jnp.asarray(batch.obs), jnp.asarray(batch.action))
        first, _ = update(state, drawn)
        jax.tree.map(
            np.testing.assert_array_equal, first.params["actor"], state.params["actor"]
        )
        moved[algo], _ = update(first, drawn)
        kernel = jax.tree.leaves(moved[algo].params["actor"])[0]
        assert np.abs(kernel - jax.tree.leaves(first.params["actor"])[0]).max() > 0
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6),
        moved["td3_bc"].params,
        moved["prdc"].params,
    )
