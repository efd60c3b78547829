"""Whole loops in one program give what the same loops give step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.alignment.config import SASConfig
from sas_jax.envs.vector.env import VectorEnv
from sas_jax.errors import UserError
from sas_jax.jax_envs import loop
from sas_jax.jax_envs.protocol import JaxEnv, Step
from sas_jax.types import Rows, TimeStep
from tests.helpers import product_policy

STEPS = 6


def reset(key):
    state = jax.random.normal(key, (product_policy.OBS,))
    return state, state


def step(state, action):
    state = 0.9 * state + 0.3 * jnp.pad(action, (0, len(state) - len(action)))
    cost = (state[0] > 0.5).astype(jnp.float32)
    return Step(state, state, state[1], cost, state[0] > 0.9)


LINE = JaxEnv(reset, step, product_policy.OBS, product_policy.ACTIONS, STEPS)


def pulled(own):
    """Uniform, to a side of the episode's own."""
    side = jax.random.normal(own, (2,))
    return lambda obs, key: jax.random.uniform(key, (2,), minval=-1) + obs[:2] + side


def test_recorded_data_are_the_episodes_step_by_step():
    data = loop.collect(LINE, "PlanePointGoal", pulled, episodes=7, seed=3, at_once=4)
    assert (
        data.num_episodes == 7 and data.terminated.any() and not data.terminated.all()
    )
    assert (data.lengths[~data.terminated] == STEPS).all()
    for e in (0, 5):
        key = jax.random.fold_in(jax.random.key(3), e)
        start, acting = jax.random.split(key)
        act = pulled(jax.random.fold_in(acting, 0xFFFFFFFF))
        state, obs = reset(start)
        for t, row in enumerate(range(data.offsets[e], data.offsets[e + 1])):
            np.testing.assert_allclose(data.observations[row], obs, rtol=1e-6)
            drawn = act(obs, jax.random.fold_in(acting, t))
            out = step(state, jnp.clip(drawn, -1, 1))
            np.testing.assert_allclose(data.costs[row], out.cost)
            np.testing.assert_allclose(data.rewards[row], out.reward, rtol=1e-5)
            state, obs = out.state, out.obs
        np.testing.assert_allclose(data.final_observations[e], obs, rtol=1e-5)
    again = loop.collect(LINE, "PlanePointGoal", pulled, episodes=7, seed=3, at_once=4)
    assert again.fingerprint() == data.fingerprint()


def test_shapes_are_told():
    with pytest.raises(UserError, match=r"behaviour returned action of shape \(3,\)"):
        loop.collect(LINE, "x", lambda own: lambda obs, key: jnp.zeros(3), episodes=1)
    with pytest.raises(UserError, match="episodes must be >= 1, got 0"):
        loop.collect(LINE, "x", pulled, episodes=0)
    wrong = LINE._replace(obs_dim=4)
    with pytest.raises(UserError, match=r"env.reset returned obs of shape \(5,\)"):
        loop.collect(wrong, "x", pulled, episodes=1)


VARIANTS = ("none", "sas")


@pytest.mark.slow
def test_a_policy_is_judged_as_step_by_step():
    """Alignment, prompts and acting included; episodes end at different steps."""
    config = SASConfig(num_first=2, num_second=2, prompt_length=product_policy.LENGTH)
    policy = product_policy.make_policy(config, VARIANTS, horizon=5)
    variables, key = product_policy.make_variables(), jax.random.key(3)
    seeds = np.arange(4, dtype=np.uint32)
    rows = Rows(cost_limit=jnp.full(4, 2.0), episode_seed=jnp.asarray(seeds))
    run = loop.make_evaluate(LINE, policy, num_variants=2, at_once=2)
    out = jax.device_get(run(variables, rows, key))
    assert out.cost.shape == (8,) and len(set(out.length)) > 1

    wide = jax.tree.map(lambda x: jnp.tile(x, 2), rows)
    state, obs = jax.vmap(reset)(jax.vmap(jax.random.key)(wide.episode_seed))
    zero = jnp.zeros(8)
    carry = jax.jit(policy.initial_carry)(variables, wide, key)
    first = TimeStep(obs, zero, zero, jnp.ones(8, bool))
    carry = jax.jit(policy.begin)(variables, carry, first, key)
    halves = slice(0, 4), slice(4, 8)
    parts = [
        policy.narrow(jax.tree.map(lambda x, h=h: x[h] if x.ndim else x, carry), v)
        for v, h in enumerate(halves)
    ]
    total, running = np.zeros(8), np.ones(8, bool)
    now, act = first, jax.jit(policy.act)
    for _ in range(STEPS):
        acted = [
            act(variables, part, jax.tree.map(lambda x, h=h: x[h], now), key)
            for part, h in zip(parts, halves, strict=True)
        ]
        parts = [part for _, part in acted]
        action = jnp.concatenate([a for a, _ in acted])
        found = jax.vmap(step)(state, action)
        total += np.where(running, found.reward, 0.0)
        running = running & ~np.asarray(found.terminated)
        state = found.state
        now = TimeStep(found.obs, found.reward, found.cost, jnp.zeros(8, bool))
    np.testing.assert_allclose(out.episode_return, total, rtol=1e-4, atol=1e-5)
    assert np.isfinite(out.diagnostics["prompt_start"][4:]).all()
    assert (out.diagnostics["prompt_ok"][4:] == 1).all()
    assert set(out.ended) <= set(out.diagnostics)
    other = jax.device_get(
        loop.make_evaluate(LINE, policy, num_variants=2, at_once=4)(
            variables, rows, key
        )
    )
    np.testing.assert_allclose(out.episode_return, other.episode_return, rtol=1e-4)
    with pytest.raises(
        UserError, match="episodes: 4; expected a multiple of at_once 3"
    ):
        loop.make_evaluate(LINE, policy, num_variants=2, at_once=3)(
            variables, rows, key
        )


@pytest.mark.slow
def test_the_plane_runs_in_workers_as_on_the_device():
    from sas_jax.jax_envs import point_goal

    with VectorEnv("PlanePointGoal", 2, num_workers=1) as envs:
        batch = envs.reset([4, 5])
        state, obs = point_goal.reset(jax.random.key(np.uint32(4)))
        np.testing.assert_allclose(batch.obs[0], obs, atol=1e-6)
        action = jnp.array([0.5, -1.0])
        move = jax.jit(point_goal.step)
        for _ in range(3):
            batch = envs.step(np.tile(action, (2, 1)))
            out = move(state, action)
            state = out.state
        np.testing.assert_allclose(batch.obs[0], out.obs, atol=1e-5)
        assert set(envs.layout(0)) == {"goal", "hazards", "vases"}
        assert np.isfinite(batch.pose).all()
