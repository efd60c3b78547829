"""CAPS: its weights, its losses in numpy, which head acts under which budget."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import learners
from sas_jax.learners import caps
from sas_jax.types import Rows, TimeStep
from tests.helpers import oracle_nets
from tests.helpers.model_fixtures import make_spec
from tests.learners.test_cpq import make_batch

SPEC = make_spec()


def make_config(**model):
    config = learners.default_config("PointGoal1", "caps")
    return dataclasses.replace(config, model=caps.CAPSConfig(hidden=(8,), **model))


def test_weights_go_from_reward_to_cost():
    """Four heads: w, w + 2/3 w_c, w + 4/3 w_c, w_c."""
    found = caps.head_weights(jnp.array([1.0, 3.0]), jnp.array([3.0, 6.0]), 4)
    np.testing.assert_allclose(found, [[1, 3], [3, 7], [5, 11], [3, 6]], rtol=1e-6)


@pytest.mark.slow
def test_the_losses_against_numpy():
    config = make_config(heads=3)
    learner = caps.make_learner(config, SPEC)
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
    cost = oracle_nets.ensemble(targets["cost_critic"], *given).max(0)
    value, cost_value = v("value", batch.obs), v("cost_value", batch.obs)
    expected = {
        "value_loss": expectile(q - value, 0.7),
        "cost_value_loss": expectile(cost - cost_value, 0.3),
    }
    # A time-out goes on, an end does not.
    goes_on = 0.99 * (1.0 - batch.is_terminal)
    for name, signal in (("critic", 0.1 * batch.reward), ("cost_critic", batch.cost)):
        after = "cost_value" if name == "cost_critic" else "value"
        y = signal + goes_on * v(after, batch.next_obs)
        error = oracle_nets.ensemble(params[name], *given) - y
        expected[f"{name}_loss"] = np.square(error).mean(1).sum()
    w, w_c = (np.minimum(np.exp(3 * a), 100) for a in (q - value, cost_value - cost))
    out = oracle_nets.mlp(params["actor"]["MLP_0"], batch.obs).reshape(12, 3, 2)
    mean, log_std = np.tanh(out), np.clip(params["actor"]["log_std"], -5, 2)
    scaled = (batch.action[:, None] - mean) * np.exp(-log_std)
    density = (-0.5 * scaled**2 - log_std - 0.5 * np.log(2 * np.pi)).sum(-1)
    weights = np.stack([w, w + w_c, w_c], axis=1)
    expected["actor_loss"] = -np.mean(weights * density)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("budget, chosen", [(9.0, 0), (2.5, 1), (0.5, 2), (0.0, 2)])
def test_the_largest_value_within_the_budget_acts(budget, chosen):
    """Values 3, 2, 1 at costs 4, 2, 1: within nothing, the least cost."""
    value, cost = jnp.array([[3.0], [2.0], [1.0]]), jnp.array([[4.0], [2.0], [1.0]])
    score = caps.choose_head(value, cost, jnp.array([budget]))
    assert int(score.argmax(0)[0]) == chosen


@pytest.mark.slow
def test_what_is_spent_makes_the_policy_careful():
    """Head 0 is worth more and costs more; it acts while the budget lasts."""
    config = make_config()
    learner = caps.make_learner(config, SPEC)
    params = jax.jit(learner.init)(jax.random.key(0), jnp.nan).params
    zero = jax.tree.map(lambda x: np.zeros_like(x), params)
    # Head 0 moves the first action to tanh(1), head 1 to -tanh(1).
    zero["actor"]["MLP_0"]["Dense_1"]["bias"][:] = [1, 0, -1, 0]
    for name, slope in (("critic", 1.0), ("cost_critic", 0.5)):
        (layers,) = zero[name].values()
        layers["Dense_0"]["kernel"][:, 5, 0] = 1.0  # the first action
        layers["Dense_0"]["bias"][:, 0] = 1.0
        layers["Dense_1"]["kernel"][:, 0, 0] = slope
    policy = caps.make_policy(config, SPEC)
    act = jax.jit(policy.act)
    known = {"params": zero}
    rows = Rows(jnp.array([40.0, 40.0, 1.0]), jnp.arange(3, dtype=jnp.uint32))
    carry = policy.initial_carry(known, rows, jax.random.key(0))
    obs, zeros = jnp.zeros((3, 5)), jnp.zeros(3)
    # Costs: head 0 0.5 (1 + 0.76) = 0.88, head 1 0.12. Budgets at first: kappa / 40
    # times 33.1, the discounted steps of an episode of 40: 33.1, 33.1 and 0.83.
    signs = []
    for cost in ([0.0, 0.0, 0.0], [0.0, 39.5, 0.0], [0.0, 0.5, 0.0]):
        ts = TimeStep(obs, zeros, jnp.array(cost), zeros > 0)
        action, carry = act(known, carry, ts, jax.random.key(0))
        signs.append(np.sign(action[:, 0]).tolist())
    assert signs == [[1, 1, -1], [1, -1, -1], [1, -1, -1]]
    np.testing.assert_allclose(carry["spent"], [0, 40, 0])
    assert carry["timestep"].tolist() == [3, 3, 3] and SPEC.max_timestep == 40
