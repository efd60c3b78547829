"""COptiDICE: its convex functions, its optimum, its multiplier, its policy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import learners
from sas_jax.learners import coptidice
from sas_jax.learners.components import multipliers
from sas_jax.types import TimeStep
from tests.helpers import cmdp

WORLD = cmdp.make()
STEPS = 100  # of an episode


def train(world, *, limit, steps, rate=0.03, actor_rate=1e-9, **model):
    """Trains on all of a world's steps at once, networks linear in one-hot states.

    limit: of the cost of a step. Returns the last state and the metrics `[steps]`.
    """
    config = learners.default_config("PointGoal1", "coptidice")
    settings = {"hidden": (), "discount": 0.9, "reward_scale": 1.0, "epsilon": 0.0}
    settings |= {"scalar_rate": rate, "actor_rate": actor_rate} | model
    config = dataclasses.replace(
        config,
        model=coptidice.COptiDICEConfig(**settings),
        train=dataclasses.replace(
            config.train, learning_rate=rate, schedule="cosine", num_steps=steps
        ),
    )
    learner = coptidice.make_learner(config, world.spec(STEPS))
    steps_of = world.batch()
    first = jnp.broadcast_to(steps_of.obs[:1], steps_of.obs.shape)
    batch = coptidice.DICEBatch(steps_of, first)

    @jax.jit
    def run(state):
        return jax.lax.scan(
            lambda state, _: learner.update(state, batch), state, length=steps
        )

    state, metrics = run(jax.jit(learner.init)(jax.random.key(0), limit * STEPS))
    return config, state, jax.tree.map(np.asarray, metrics)


def corrections(world, config, state):
    """w `[S, 4]` of a trained state, in numpy."""
    layer = state.params["nu"]["Dense_0"]
    nu = np.asarray(layer["kernel"])[:, 0] + np.asarray(layer["bias"])
    price = float(jax.nn.softplus(state.params["multiplier"]["raw"]))
    e = world.reward - price * world.cost + 0.9 * nu[world.after] - nu[:, None]
    y = e / config.model.alpha
    return np.where(y < 0, np.exp(np.minimum(y, 0)), y + 1)


def test_the_oracle_tends_to_the_linear_programme():
    """The less the correction costs, the nearer the constrained optimum is."""
    reward, cost = WORLD.best(0.3)
    dear, cheap = (WORLD.regularised(0.3, alpha) for alpha in (0.1, 0.03))
    assert cost == pytest.approx(0.3) and cheap[1] == pytest.approx(0.3, abs=1e-4)
    assert 0.95 * reward < cheap[0] < reward
    assert reward - cheap[0] < 0.5 * (reward - dear[0])


@pytest.mark.slow
def test_training_reaches_the_regularised_optimum():
    """Reward and cost of the distribution that is found, and the dual's value."""
    reward, cost, objective = WORLD.regularised(0.3, 0.1)
    config, state, metrics = train(WORLD, limit=0.3, steps=1200, alpha=0.1)
    w = corrections(WORLD, config, state)
    assert np.mean(w) == pytest.approx(1, rel=0.02)
    assert np.mean(w * WORLD.reward) == pytest.approx(reward, rel=0.02)
    assert np.mean(w * WORLD.cost) == pytest.approx(cost, rel=0.02)
    dual = metrics["nu_loss"][-1] + 0.3 * metrics["multiplier"][-1]
    assert dual == pytest.approx(objective, rel=0.02)
    # The limit binds: without it the same costs more.
    assert WORLD.regularised(1.0, 0.1)[1] > 1.5 * cost


@pytest.mark.slow
@pytest.mark.parametrize("reference", ["paper", "osrl"])
def test_a_constant_cost_at_the_limit_moves_no_multiplier(reference):
    """kappa / T at every step. The reference compares it with ten times as much."""
    world = dataclasses.replace(WORLD, cost=np.full_like(WORLD.cost, 0.2))
    _, _, metrics = train(world, limit=0.2, steps=400, alpha=0.5, reference=reference)
    price = metrics["multiplier"]
    if reference == "paper":
        assert abs(metrics["cost"][-1] - 0.2) < 2e-3
        assert abs(price[-1] - price[-100]) < 0.01
    else:
        assert price[-1] < 0.2 * price[0]


@pytest.mark.slow
@pytest.mark.parametrize("reference, executed", [("paper", 0.9), ("osrl", 0.716)])
def test_what_is_fitted_is_executed(reference, executed):
    """All recorded actions are 0.9; tanh(0.9) = 0.716 is the published policy's."""
    world = cmdp.make(count=3)
    steps = world.batch()
    same = steps.replace(action=jnp.full_like(steps.action, 0.9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cmdp.CMDP, "batch", lambda self: same)
        config, state, _ = train(
            world, limit=0.5, steps=300, actor_rate=0.05, reference=reference
        )
    policy = learners.get("coptidice").make_policy(config, world.spec())
    zeros = jnp.zeros(3)

    ts = TimeStep(jnp.eye(3), zeros, zeros, zeros > 0)
    action, _ = policy.act({"params": state.params}, (), ts, jax.random.key(0))
    np.testing.assert_allclose(action, executed, atol=0.01)


def test_the_bound_on_cost_is_the_worst_weighting():
    """The tilt against its closed form, and tau's way to the asked divergence."""
    values = jnp.array([0.0, 1.0, 3.0])
    weight, kl = coptidice.tilt(values, jnp.float32(2.0))
    v = 3 * np.exp([0, 0.5, 1.5]) / np.exp([0, 0.5, 1.5]).sum()
    np.testing.assert_allclose(weight, v, rtol=1e-5)
    np.testing.assert_allclose(kl, np.mean(v * np.log(v) - v + 1), rtol=1e-4)
    # Descent of the group tau in the learner: too much divergence, a larger tau.
    slope = jax.grad(multipliers.softplus_dual_loss)
    assert slope(0.5, kl - 0.01) < 0 < slope(0.5, kl - 10.0)
    # As a fraction of nothing it is nothing: weights that have vanished are no NaN.
    assert np.isfinite(coptidice.tilt(1e4 * values, jnp.float32(1e-3))[1])


def test_the_conjugate_and_its_slope():
    """f*(y) = max_w w y - f(w) on a grid; its slope is the correction."""
    w = np.linspace(1e-6, 8, 80001)
    f = np.where(w < 1, w * (np.log(w) - 1) + 1, 0.5 * (w - 1) ** 2)
    for y in (-3.0, -0.5, 0.0, 0.7, 4.0):
        values = w * y - f
        assert coptidice.conjugate(y) == pytest.approx(values.max(), abs=1e-5)
        assert coptidice.correction(y) == pytest.approx(w[values.argmax()], abs=2e-3)
        assert jax.grad(coptidice.conjugate)(y) == (
            pytest.approx(float(coptidice.correction(y)), rel=1e-5)
        )
    assert coptidice.conjugate(-1e3) == -1 and coptidice.correction(-1e3) == 0
