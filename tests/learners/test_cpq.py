"""CPQ: its losses in numpy, the term of actions off the data, its cost critic."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks.model_cases import make_spec as case_spec
from sas_jax import learners
from sas_jax.learners import cpq
from sas_jax.types import TimeStep, TransitionBatch
from tests.helpers import oracle_nets
from tests.helpers.model_fixtures import make_spec

SPEC = make_spec()
LIMIT = 8.0


def make_config(**model):
    config = learners.default_config("PointGoal1", "cpq")
    small = {"hidden": (8,), "vae_hidden": (8,), "num_draws": 3}
    return dataclasses.replace(config, model=cpq.CPQConfig(**small | model))


def make_batch(count=12):
    """Random steps; every third one an end, the ones after them time-outs."""
    rng = np.random.default_rng(2)
    number = np.arange(count)
    return TransitionBatch(
        obs=rng.normal(size=(count, 5)).astype(np.float32),
        action=rng.uniform(-1, 1, (count, 2)).astype(np.float32),
        reward=rng.normal(size=count).astype(np.float32),
        cost=(rng.random(count) < 0.5).astype(np.float32),
        next_obs=rng.normal(size=(count, 5)).astype(np.float32),
        is_terminal=number % 3 == 0,
        is_timeout=number % 3 == 1,
    )


def make_state(learner, *, log_std=None):
    """Parameters and targets all different; with a policy of that spread."""
    state = jax.jit(learner.init)(jax.random.key(0), LIMIT)
    params = oracle_nets.lively(state.params)
    if log_std is not None:
        last = params["actor"]["MLP_0"]["Dense_1"]
        last["kernel"][:, 2:], last["bias"][2:] = 0.0, log_std
    extra = state.extra | {"targets": oracle_nets.lively(state.extra["targets"], 1)}
    return state.replace(params=params, extra=extra)


@pytest.mark.slow
@pytest.mark.parametrize("reference", ["paper", "osrl"])
def test_the_losses_against_numpy(reference):
    """Without spread every draw is the mean, so that nothing is random but the VAE."""
    config, is_paper = make_config(reference=reference), reference == "paper"
    learner = cpq.make_learner(config, SPEC)
    state, batch = make_state(learner, log_std=-20.0), make_batch()
    found = jax.jit(learner.validate)(state, batch, jax.random.key(1))
    nets, targets = state.params, state.extra["targets"]
    careful = np.max if is_paper else np.min
    steps = SPEC.max_timestep
    ends = 1.0 if is_paper else 1 - 0.99**steps
    theta = LIMIT / steps * ends / 0.01

    def pi(obs):
        return np.tanh(oracle_nets.squashed(nets["actor"], obs)[0])

    ends = batch.is_terminal if is_paper else batch.is_terminal | batch.is_timeout
    goes_on = 1.0 - ends
    costs_on = 1.0 - batch.is_terminal if is_paper else np.ones(12)
    after = batch.next_obs, pi(batch.next_obs)
    cost_after = careful(oracle_nets.ensemble(targets["cost_critic"], *after), axis=0)
    # The threshold is between the costs, so that the indicator has both values.
    assert 0 < (cost_after <= theta).mean() <= 1
    value = oracle_nets.ensemble(targets["critic"], *after).min(0)
    y = 0.1 * batch.reward + 0.99 * goes_on * (cost_after <= theta) * value
    q = oracle_nets.ensemble(nets["critic"], batch.obs, batch.action)
    np.testing.assert_allclose(
        found["critic_loss"], np.square(q - y).mean(1).sum(), rtol=1e-4
    )
    # Off the data: of three equal draws a state, the quarter that diverges most.
    action = pi(batch.obs)
    drawn = action if is_paper else np.arctanh(action)
    out = oracle_nets.mlp(nets["vae"]["encoder"], batch.obs, drawn)
    mean, log_std = out[:, :4], np.clip(out[:, 4:], -4, 15)
    far = np.tile((0.5 * (mean**2 + np.exp(2 * log_std) - 1) - log_std).sum(-1), 3)
    is_off = np.argsort(-far)[: int(0.25 * 36)]
    used = nets if is_paper else targets
    off = oracle_nets.ensemble(used["cost_critic"], batch.obs, drawn).mean(0)
    off = np.tile(off, 3)[is_off].mean()
    y = batch.cost + 0.99 * costs_on * cost_after
    q = oracle_nets.ensemble(nets["cost_critic"], batch.obs, batch.action)
    expected = np.square(q - y).mean(1).sum() + 1.0 * (1.5 * theta - off)
    np.testing.assert_allclose(found["cost_critic_loss"], expected, rtol=1e-4)
    cost = careful(oracle_nets.ensemble(nets["cost_critic"], batch.obs, action), axis=0)
    value = oracle_nets.ensemble(nets["critic"], batch.obs, action).min(0)
    np.testing.assert_allclose(
        found["actor_loss"], -np.mean((cost <= theta) * value), rtol=1e-4
    )


@pytest.mark.slow
@pytest.mark.parametrize("reference", ["paper", "osrl"])
def test_the_penalty_reaches_the_cost_critic(reference):
    """A larger alpha raises Q_c off the data; in the reference code nothing moves."""
    learner = cpq.make_learner(make_config(reference=reference), SPEC)
    state, batch = make_state(learner), make_batch()
    update = jax.jit(learner.update)
    after = {}
    for log_alpha in (-5.0, 5.0):
        extra = state.extra | {"log_alpha": jnp.float32(log_alpha)}
        after[log_alpha], metrics = update(state.replace(extra=extra), batch)
        after[log_alpha] = after[log_alpha].params["cost_critic"]
        assert np.isfinite(metrics["gradient_norm"])
    few, many = after[-5.0], after[5.0]
    if reference == "osrl":
        jax.tree.map(np.testing.assert_array_equal, few, many)
        return
    # The policy's draws of the lively actor lie all over the box.
    rng = np.random.default_rng(5)
    obs = np.tile(batch.obs, (20, 1))
    action = rng.uniform(-1, 1, (240, 2))
    rise = oracle_nets.ensemble(many, obs, action) - oracle_nets.ensemble(
        few, obs, action
    )
    assert rise.mean() > 1e-4


@pytest.mark.slow
def test_targets_follow_and_alpha_climbs_while_the_penalty_is_short():
    config = make_config()
    learner = cpq.make_learner(config, SPEC)
    state, batch = make_state(learner), make_batch()
    new, metrics = jax.jit(learner.update)(state, batch)
    for name, old in state.extra["targets"].items():
        expected = jax.tree.map(
            lambda a, b: 0.995 * a + 0.005 * b, old, new.params[name]
        )
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
            new.extra["targets"][name],
            expected,
        )
    theta = LIMIT / SPEC.max_timestep / 0.01
    short = 1.5 * theta - metrics["cost_off_data"]
    np.testing.assert_allclose(new.extra["log_alpha"], 1e-4 * short, rtol=1e-4)
    assert short > 0 and int(new.step) == 1


def test_the_actor_is_kept_from_groups_of_observations():
    """Its actions do not change with them; others do matter."""
    config = make_config(policy_blind=("accelerometer", "gyro"))
    spec = case_spec(config)
    learner = cpq.make_learner(config, spec)
    state = jax.eval_shape(learner.init, jax.random.key(0), jnp.float32(LIMIT))
    actor = oracle_nets.lively(state.params["actor"])
    policy = learners.get("cpq").make_policy(config, spec, variants=("none",))
    # Each row has one observation of its own.
    zeros = jnp.zeros(spec.obs_dim + 1)
    obs = jnp.concatenate([jnp.zeros((1, spec.obs_dim)), jnp.eye(spec.obs_dim)])
    ts = TimeStep(obs, zeros, zeros, zeros > 0)
    action, _ = jax.jit(policy.act)({"params": {"actor": actor}}, (), ts, None)
    moved = np.any(np.asarray(action[1:] != action[:1]), axis=1)
    hidden = np.r_[0:3, 6:9]  # as in the task's observations
    assert not moved[hidden].any() and np.delete(moved, hidden).all()
