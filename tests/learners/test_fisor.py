"""FISOR: its weights by hand, its losses in numpy, its diffusion."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import learners
from sas_jax.learners import fisor
from sas_jax.learners.components import diffusion
from tests.helpers import oracle_nets
from tests.helpers.model_fixtures import make_spec
from tests.learners.test_cpq import make_batch

SPEC = make_spec()


def make_config(**model):
    config = learners.default_config("PointGoal1", "fisor")
    small = {"hidden": (8,), "width": 8, "blocks": 1, "dropout": 0.0}
    return dataclasses.replace(config, model=fisor.FISORConfig(**small | model))


def test_the_weight_of_each_case_by_hand():
    """Unsafe, safe, and a safe state whose action is not; then both bounds."""
    q, v = np.array([[1.0, 1.0, 1.0, 0.0, 9.0], [0.0, 0.5, 0.5, 0.0, 0.0]])
    unsafe_q = np.array([0.9, -0.2, 0.1, -9.0, -1.0])
    unsafe_v = np.array([1.0, -0.1, -0.1, 1.0, -1.0])
    found = fisor.actor_weight(make_config(), q, v, unsafe_q, unsafe_v)
    expected = [np.exp(5 * 0.1), np.exp(3 * 0.5), 0, 150, 100]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.slow
def test_the_losses_against_numpy():
    config = make_config()
    learner = fisor.make_learner(config, SPEC)
    state, batch = jax.jit(learner.init)(jax.random.key(0), jnp.nan), make_batch()
    params = oracle_nets.lively(state.params)
    targets = oracle_nets.lively(state.extra["targets"], 1)
    state = state.replace(params=params, extra=state.extra | {"targets": targets})
    found = jax.jit(learner.validate)(state, batch, jax.random.key(1))

    def v(name, obs):
        return oracle_nets.mlp(params[name], obs)[:, 0]

    def expectile(error, tau):
        return np.mean(np.where(error < 0, 1 - tau, tau) * error**2)

    given = batch.obs, batch.action
    q = oracle_nets.ensemble(targets["critic"], *given).min(0)
    unsafe = oracle_nets.ensemble(targets["cost_critic"], *given).max(0)
    h, on = np.where(batch.cost > 0, 25.0, -1.0), 1.0 - batch.is_terminal
    ahead = np.maximum(h, v("cost_value", batch.next_obs))
    low, high = SPEC.return_range
    reward = batch.reward * SPEC.max_timestep / (high - low)
    y = {
        "critic": reward + 0.99 * on * v("value", batch.next_obs),
        "cost_critic": on * (0.01 * h + 0.99 * ahead) + (1 - on) * h,
    }
    expected = {
        "value_loss": expectile(q - v("value", batch.obs), 0.9),
        "cost_value_loss": expectile(unsafe - v("cost_value", batch.obs), 0.1),
    } | {
        f"{k}_loss": np.square(oracle_nets.ensemble(params[k], *given) - y[k])
        .mean(1)
        .sum()
        for k in y
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)


@pytest.mark.slow
def test_the_actor_has_a_moving_average():
    config = make_config(average_rate=0.25)
    learner = fisor.make_learner(config, SPEC)
    state, batch = jax.jit(learner.init)(jax.random.key(0), jnp.nan), make_batch()
    new, _ = jax.jit(learner.update)(state, batch)
    old = state.extra["average"]["actor"]
    expected = jax.tree.map(lambda a, b: 0.75 * a + 0.25 * b, old, new.params["actor"])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        new.extra["average"]["actor"],
        expected,
    )


def test_diffusion_of_one_point_ends_at_it():
    """The noise is known exactly: eps = (x - sqrt(abar) a) / sqrt(1 - abar)."""
    point = jnp.array([[[0.3, -0.7]]])
    kept = np.cumprod(diffusion.alphas(5))

    def predict(x, step):
        share = kept[int(step[0, 0]) - 1]
        return (x - np.sqrt(share) * point) / np.sqrt(1 - share)

    noise = jax.random.normal(jax.random.key(0), (6, 4, 3, 2))
    found = diffusion.denoise(predict, noise)
    np.testing.assert_allclose(found, np.broadcast_to(point, (4, 3, 2)), atol=1e-4)
    assert 0 < kept[-1] < 0.01  # hardly anything is left of the signal


def test_mixing_keeps_the_variance():
    rng = np.random.default_rng(0)
    action, noise = rng.normal(size=(2, 4, 2))
    found = diffusion.mix(action, noise, jnp.array([1, 2, 3, 5]), 5)
    kept = np.cumprod(diffusion.alphas(5))[[0, 1, 2, 4]][:, None]
    expected = np.sqrt(kept) * action + np.sqrt(1 - kept) * noise
    np.testing.assert_allclose(found, expected, rtol=1e-5)
