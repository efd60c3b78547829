"""Imagination driven by a three-line analytic system whose energies are known."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.alignment import lyapunov
from sas_jax.alignment.imagination import imagine, segment
from sas_jax.gaussian import split_keys
from sas_jax.types import StepOutput

DECAY = 0.8


def decaying_step(variables, keys, state, prompt):
    """x' = DECAY x + noise * draw, under the density N(0, 1): l = -x^2 / 2 - c."""
    del prompt
    x, t = state
    count = x.shape[0]
    draw = jax.vmap(lambda key, t: jax.random.normal(jax.random.fold_in(key, t)))
    output = StepOutput(
        obs=x[:, None],
        action=jnp.zeros((count, 1)),
        reward=x,
        cost=jnp.zeros(count),
        return_to_go=10.0 - x,
        cost_to_go=jnp.zeros(count),
        timestep=t,
        log_density=-0.5 * x**2 - 0.5 * math.log(2 * math.pi),
        log_prob=jnp.full(count, -1.0),
    )
    return output, (DECAY * x + variables["noise"] * draw(keys, t), t + 1)


def start(*x):
    return jnp.asarray(x, jnp.float32), jnp.zeros(len(x), jnp.int32)


@functools.partial(jax.jit, static_argnames="horizon")
def run(variables, keys, state, horizon):
    return imagine(decaying_step, variables, keys, state, horizon=horizon)


@pytest.mark.parametrize(
    "window, discount", [(1, 0.99), (3, 0.99), (10, 0.7), (3, 1.0)]
)
def test_energies_of_a_decaying_system_in_closed_form(window, discount):
    """x_t = x_0 0.8^t, so E_t is known without simulating anything."""
    horizon, x0 = 8, (3.0, -1.0)
    keys = jax.random.split(jax.random.key(0), 2)
    outputs, (x, t) = run({"noise": jnp.float32(0)}, keys, start(*x0), horizon=horizon)
    np.testing.assert_allclose(x, np.array(x0) * DECAY**horizon, rtol=1e-5)
    np.testing.assert_array_equal(t, [horizon, horizon])
    for i in range(2):
        energies = lyapunov.energy(
            outputs.log_density[i] + outputs.log_prob[i],
            discount=discount,
            window=window,
        )
        density = [
            math.exp(-0.5 * (x0[i] * DECAY**t) ** 2 - 1) / math.sqrt(2 * math.pi)
            for t in range(horizon)
        ]
        expected = [
            -math.log(sum(discount**k * p for k, p in enumerate(density[t:][:window])))
            for t in range(horizon)
        ]
        np.testing.assert_allclose(energies, expected, rtol=1e-5)


def test_outputs_are_by_trajectory_and_time():
    keys = jax.random.split(jax.random.key(0), 2)
    outputs, _ = run({"noise": jnp.float32(0)}, keys, start(3, -1), horizon=8)
    expected = np.array([3.0, -1.0])[:, None] * DECAY ** np.arange(8)
    np.testing.assert_allclose(outputs.obs[..., 0], expected, rtol=1e-5)
    np.testing.assert_array_equal(outputs.timestep, np.tile(np.arange(8), (2, 1)))
    assert outputs.action.shape == (2, 8, 1)


def test_candidates_differ_and_more_of_them_leave_the_first_as_they_are():
    """The i-th imagination depends on (key, i), not on how many there are."""
    key, noise = jax.random.key(3), {"noise": jnp.float32(1)}
    five, _ = run(noise, split_keys(key, 5), start(*[2.0] * 5), horizon=6)
    three, _ = run(noise, split_keys(key, 3), start(*[2.0] * 3), horizon=6)
    np.testing.assert_array_equal(five.obs[:3], three.obs)
    assert len(np.unique(np.asarray(five.obs[:, 1]))) == 5
    backwards, _ = run(noise, split_keys(key, 5)[::-1], start(*[2.0] * 5), horizon=6)
    np.testing.assert_array_equal(backwards.obs[::-1], five.obs)


def test_a_segment_is_the_slice_of_one_trajectory():
    keys = jax.random.split(jax.random.key(0), 2)
    outputs, _ = run({"noise": jnp.float32(0)}, keys, start(3, -1), horizon=8)
    cut = segment(outputs, jnp.int32(1), jnp.int32(2), 3)
    np.testing.assert_allclose(cut.obs[:, 0], -(DECAY ** np.arange(2, 5)), rtol=1e-5)
    np.testing.assert_array_equal(cut.timestep, [2, 3, 4])
    np.testing.assert_allclose(cut.return_to_go, 10 + DECAY ** np.arange(2, 5), 1e-6)
    assert cut.is_valid.tolist() == [True] * 3


def test_other_values_are_imagined_by_the_program_that_there_is():
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def program(variables, keys, state):
        return imagine(decaying_step, variables, keys, state, horizon=4)

    ends = [
        float(program({"noise": jnp.float32(noise)}, keys, start(x, x))[1][0][0])
        for noise, x, keys in (
            (0.0, 1.0, jax.random.split(jax.random.key(0), 2)),
            (0.0, -2.0, jax.random.split(jax.random.key(1), 2)),
        )
    ]
    np.testing.assert_allclose(ends, [DECAY**4, -2 * DECAY**4], rtol=1e-5)
    with pytest.raises(AssertionError, match="traced"):
        program(
            {"noise": jnp.float32(0)}, jax.random.split(jax.random.key(0), 1), start(1)
        )
