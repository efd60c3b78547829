"""Cost critics against the linear solve of the policy that they evaluate.

A world of 50 states, and a policy that takes one action in each, held fixed. All steps
of the world are one batch, so that nothing is left to chance.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import learners
from sas_jax.learners import o3srl
from sas_jax.learners.components import action_vae
from tests.helpers import cmdp, oracle_nets

WORLD = cmdp.make(count=50)
CHOICE = np.random.default_rng(4).integers(0, 4, 50)
SMALL = {"hidden": (64,), "vae_hidden": (64,), "num_draws": 1, "num_candidates": 1}
SMALL |= {"num_matched": 1, "perturbation": 0.0, "expectile": 0.5, "heads": 2}
SMALL |= {"width": 8, "blocks": 1}
SMALL |= {"discount": 0.9, "target_rate": 0.1, "reward_scale": 1.0}


def trained(algo, frozen, steps=1000, **model):
    """The last state. frozen(state) -> what does not move in params and extra."""
    config = learners.default_config("PointGoal1", algo)
    names = {field.name for field in dataclasses.fields(config.model)}
    small = {k: v for k, v in SMALL.items() if k in names} | model
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, **small),
        train=dataclasses.replace(config.train, learning_rate=3e-3),
    )
    learner = learners.get(algo).make_learner(config, WORLD.spec())
    state = jax.jit(learner.init)(jax.random.key(0), 50.0)
    params, extra = frozen(state)
    batch = WORLD.batch()

    def step(state, _):
        held = dict(extra)
        if "targets" in held:
            held["targets"] = state.extra["targets"] | held["targets"]
        state = state.replace(params=state.params | params, extra=state.extra | held)
        return learner.update(state, batch)[0], 0

    return jax.jit(lambda s: jax.lax.scan(step, s, length=steps)[0])(state)


def check(state, name, signal, policy=None):
    """Within 2 % on the mean over states and actions; policy: `CHOICE`, or given."""
    policy = np.eye(4)[CHOICE] if policy is None else policy
    compare(state, name, WORLD.evaluate(signal, policy).ravel())


def compare(state, name, expected):
    """See `check`."""
    batch = WORLD.batch()
    found = oracle_nets.ensemble(
        state.params[name], np.asarray(batch.obs), np.asarray(batch.action)
    )
    error = np.abs(found - expected[None]).mean()
    assert error < 0.02 * np.abs(expected).mean()


def point_actor(state):
    """Parameters of a squashed actor that takes `CHOICE`, without spread."""
    mean = np.arctanh(cmdp.ACTIONS[CHOICE])
    rows = np.concatenate([mean, np.full((50, 2), -20.0)], axis=1)
    return {"MLP_0": oracle_nets.table(state.params["actor"]["MLP_0"], rows)}


@pytest.mark.slow
def test_of_cpq():
    """The term of actions off the data is as small as it gets."""

    def frozen(state):
        return {"actor": point_actor(state)}, {"log_alpha": jnp.float32(-5.0)}

    check(trained("cpq", frozen), "cost_critic", WORLD.cost)


@pytest.mark.slow
def test_of_bear_lag():
    """Rewards' as well: no indicator stands in between."""

    def frozen(state):
        actor = point_actor(state)
        return {"actor": actor}, {"targets": {"actor": actor}}

    state = trained("bear_lag", frozen, steps=1500)
    check(state, "cost_critic", WORLD.cost)
    check(state, "critic", WORLD.reward)


@pytest.mark.slow
def test_of_bcq_lag(monkeypatch):
    """The VAE proposes one action, whatever its latent; nothing is moved."""
    monkeypatch.setattr(action_vae, "loss", lambda *given: jnp.zeros(()))

    def frozen(state):
        vae = state.params["vae"]
        rows = np.arctanh(cmdp.ACTIONS[CHOICE])
        decoder = oracle_nets.table(vae["decoder"], rows)
        return {"vae": vae | {"decoder": decoder}}, {}

    state = trained("bcq_lag", frozen, steps=1500)
    check(state, "cost_critic", WORLD.cost)
    check(state, "critic", WORLD.reward)


@pytest.mark.slow
def test_of_caps():
    """At the expectile 1/2 its values are the mean over the recorded actions."""
    state = trained("caps", lambda state: ({}, {}))
    alike = np.full((50, 4), 0.25)
    check(state, "cost_critic", WORLD.cost, alike)
    check(state, "critic", WORLD.reward, alike)


@pytest.mark.slow
def test_of_o3srl(monkeypatch):
    """Without noise on the target's action."""
    monkeypatch.setattr(o3srl, "_NOISE", 0.0)

    def frozen(state):
        rows = np.arctanh(cmdp.ACTIONS[CHOICE])
        actor = oracle_nets.table(state.params["actor"], rows)
        return {"actor": actor}, {"targets": {"actor": actor}}

    state = trained("o3srl", frozen, steps=1500)
    check(state, "cost_critic", WORLD.cost)
    check(state, "critic", WORLD.reward)


@pytest.mark.slow
def test_of_fisor():
    """At the expectile 1/2: h = -1 or 25, Q = (1 - gamma) h + gamma max(h, mean Q)."""
    state = trained("fisor", lambda state: ({}, {}), steps=2000)
    h = np.where(WORLD.cost > 0, 25.0, -1.0)
    q = np.zeros((50, 4))
    for _ in range(500):
        q = 0.1 * h + 0.9 * np.maximum(h, q.mean(1)[WORLD.after])
    compare(state, "cost_critic", q.ravel())
