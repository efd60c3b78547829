"""CQL and SAC-N: their critics in numpy, CQL's pressure, the price of entropy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import learners
from sas_jax.learners import sac
from tests.helpers import oracle_nets
from tests.helpers.model_fixtures import make_spec
from tests.learners.test_cpq import make_batch

SPEC = make_spec()


def make_state(algo, **model):
    config = learners.default_config("PointGoal1", algo)
    small = dataclasses.replace(config.model, hidden=(8,), critics=3, **model)
    learner = sac.make_learner(dataclasses.replace(config, model=small), SPEC)
    state = jax.jit(learner.init)(jax.random.key(0), jnp.nan)
    params = oracle_nets.lively(state.params)
    params["entropy"] = {"log_price": jnp.float32(-0.5)}
    targets = oracle_nets.lively(state.extra["targets"], 1)
    return learner, state.replace(
        params=params, extra=state.extra | {"targets": targets}
    )


def density(noise, log_std, u):
    """log-density of tanh(u), u = mean + std noise."""
    normal = -0.5 * noise**2 - log_std - 0.5 * np.log(2 * np.pi)
    return (normal - np.log1p(-(np.tanh(u) ** 2))).sum(-1)


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["sac_n", "cql"])
def test_the_critics_against_numpy(algo):
    """The draws are made again from the key; CQL without its pressure."""
    learner, state = make_state(algo, **({"alpha": 0.0} if algo == "cql" else {}))
    batch, key = make_batch(), jax.random.key(1)
    found = jax.jit(learner.validate)(state, batch, key)
    keys = jax.random.split(key, 3)
    mean, log_std = oracle_nets.squashed(state.params["actor"], batch.next_obs)
    noise = np.asarray(jax.random.normal(keys[0], (1, 12, 2)))[0]
    u = mean + np.exp(log_std) * noise
    target = state.extra["targets"]["critic"]
    value = oracle_nets.ensemble(target, batch.next_obs, np.tanh(u)).min(0)
    if algo == "sac_n":
        value = value - np.exp(-0.5) * density(noise, log_std, u)
    y = batch.reward + 0.99 * (1.0 - batch.is_terminal) * value
    q = oracle_nets.ensemble(state.params["critic"], batch.obs, batch.action)
    expected = np.square(q - y).mean(1).sum() * (0.5 if algo == "cql" else 1.0)
    np.testing.assert_allclose(found["critic_loss"], expected, rtol=1e-3)
    mean, log_std = oracle_nets.squashed(state.params["actor"], batch.obs)
    noise = np.asarray(jax.random.normal(keys[2], (1, 12, 2)))[0]
    u = mean + np.exp(log_std) * noise
    log_pi = density(noise, log_std, u)
    q = oracle_nets.ensemble(state.params["critic"], batch.obs, np.tanh(u)).min(0)
    np.testing.assert_allclose(
        found["actor_loss"], np.mean(np.exp(-0.5) * log_pi - q), rtol=1e-3
    )
    # -l (E log pi + target), target -2 of two actions.
    np.testing.assert_allclose(
        found["entropy_loss"], 0.5 * (log_pi.mean() - 2), rtol=1e-3
    )


@pytest.mark.slow
def test_pressure_by_hand_and_critic_by_critic():
    """Q of draws 0 and log 3 at density 1/2: log(2 (1 + 3)) = log 8; data 1 and 2."""
    drawn = jnp.array([[[0.0]], [[1.0]]])
    log_density = jnp.full((2, 1), -np.log(2))
    obs, action = jnp.zeros((1, 1)), jnp.array([[1.0]])

    def q_of(scale):
        return lambda obs, action: (
            scale.reshape(2, *(1,) * (action.ndim - 1))
            * (action[..., 0][None] * np.log(3.0))
        )

    both = sac.pressure(q_of(jnp.array([1.0, 2.0])), obs, action, drawn, log_density)
    # The second critic: log(2 (1 + 9)) - 2 log 3.
    np.testing.assert_allclose(
        both, [np.log(8) - np.log(3), np.log(20) - np.log(9)], rtol=1e-5
    )
    slope = jax.jacobian(
        lambda scale: sac.pressure(q_of(scale), obs, action, drawn, log_density)
    )(jnp.array([1.0, 2.0]))
    assert slope[0, 1] == slope[1, 0] == 0 and slope[0, 0] != 0


@pytest.mark.slow
def test_pressure_lowers_what_is_not_recorded():
    """With alpha, Q falls off the data beside what is recorded."""
    batch, after = make_batch(), {}
    rng = np.random.default_rng(0)
    obs = np.tile(batch.obs, (20, 1))
    action = rng.uniform(-1, 1, (240, 2))
    for alpha in (0.0, 10.0):
        learner, state = make_state("cql", alpha=alpha)
        update = jax.jit(learner.update)
        for _ in range(20):
            state, _ = update(state, batch)
        critic = state.params["critic"]
        off = oracle_nets.ensemble(critic, obs, action).mean()
        after[alpha] = (
            off - oracle_nets.ensemble(critic, batch.obs, batch.action).mean()
        )
    assert after[10.0] < after[0.0] - 1e-3
