"""Teacher-forced replay against imagination, and against a policy known by heart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.alignment.config import SASConfig
from sas_jax.alignment.imagination import imagine
from sas_jax.errors import UserError
from sas_jax.gaussian import gaussian_log_prob, split_keys
from sas_jax.learners import sequence
from sas_jax.policies.teacher_forcing import Steps, energies_of, replay
from tests.helpers.model_fixtures import make_config, make_spec, make_variables
from tests.helpers.shifted_policy import MODEL, PROMPT, SCALE, SHIFT


@pytest.mark.slow
def test_replay_of_an_imagination_finds_its_own_probabilities():
    """Past the window, so that the ring has turned; actions at bounds are censored."""
    config, spec = make_config(model={"censored_actions": True}), make_spec()
    model = sequence.make_sequence_model(config, spec)
    variables = make_variables(config, spec)
    # Narrow, so that not all actions are clipped.
    head = variables["params"]["policy"]["Dense_1"]
    head["bias"][2:] -= 2.5
    keys = split_keys(jax.random.key(4), 24)
    first = np.random.default_rng(0).normal(size=(24, spec.obs_dim)).astype(np.float32)
    first[:, 4] = 7.0  # a constant column
    tokens = jnp.full(24, 5.0), jnp.zeros(24)

    @jax.jit
    def imagined():
        given = (variables, keys, jnp.asarray(first), *tokens, model.context)
        state = model.start(*given)
        return imagine(model.step, variables, keys, state, None, horizon=12)

    out, _ = imagined()
    steps = Steps(
        out.obs,
        out.action,
        out.return_to_go,
        out.cost_to_go,
        jnp.array([12, 12, 5] * 8),
    )
    found = jax.jit(lambda: replay(model, variables, keys, steps))()
    is_clipped = np.abs(out.action).max(axis=-1) == 1.0
    assert 5 < is_clipped[:, 6:].sum() < is_clipped[:, 6:].size - 5
    np.testing.assert_allclose(found.log_prob, out.log_prob, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(
        found.log_density[:, 0], out.log_density[:, 0], rtol=1e-4
    )
    energies = energies_of(found, steps.length, SASConfig(energy_window=1))
    assert np.isnan(energies[2, 5:]).all() and np.isfinite(energies[0::3]).all()
    np.testing.assert_allclose(
        energies[2, :5], -(found.log_density + found.log_prob)[2, :5], rtol=1e-5
    )


def test_replay_sees_the_true_observations_tokens_and_the_prompt():
    rng = np.random.default_rng(1)
    obs = rng.normal(size=(2, 6, 1)).astype(np.float32)
    to_go = rng.normal(size=(2, 6)).astype(np.float32)
    steps = Steps(obs, 0.1 * obs, to_go, np.zeros((2, 6)), np.full(2, 6))
    keys = split_keys(jax.random.key(0), 2)
    plain = replay(MODEL, {}, keys, steps)
    np.testing.assert_allclose(plain.mean[..., 0], 0.1 * obs[..., 0] + 0.01 * to_go)
    np.testing.assert_allclose(
        plain.log_prob,
        gaussian_log_prob(steps.action, plain.mean, plain.log_std).sum(-1),
        rtol=1e-4,
    )
    # The model expects every observation to stay: unit normal around the last one.
    moved = np.diff(obs[..., 0], axis=1)
    np.testing.assert_allclose(plain.log_density[:, 1:], -0.5 * moved**2, rtol=1e-5)
    np.testing.assert_allclose(plain.log_density[:, 0], -0.5 * obs[:, 0, 0] ** 2)
    shifted = replay(MODEL, {}, keys, steps, prompt=PROMPT)
    difference = np.asarray(shifted.mean - plain.mean)[..., 0]
    np.testing.assert_allclose(difference, np.tile([[SHIFT], [0.0]], 6), atol=1e-6)
    np.testing.assert_allclose(np.exp(shifted.log_std), SCALE, rtol=1e-6)


def test_a_model_that_cannot_score_has_no_densities():
    steps = Steps(
        np.ones((2, 3, 1)),
        np.zeros((2, 3, 1)),
        np.zeros((2, 3)),
        np.zeros((2, 3)),
        np.full(2, 3),
    )
    found = replay(
        MODEL._replace(score=None), {}, split_keys(jax.random.key(0), 2), steps
    )
    assert np.isnan(found.log_density).all() and np.isfinite(found.log_prob).all()


@pytest.mark.parametrize("name", Steps._fields)
def test_steps_that_do_not_fit_one_another_are_named(name):
    """One field after the other lacks a row."""
    obs, to_go = np.zeros((2, 6, 1), np.float32), np.zeros((2, 6), np.float32)
    steps = Steps(obs, obs, to_go, to_go, np.full(2, 6))
    wrong = steps._replace(**{name: getattr(steps, name)[1:]})
    with pytest.raises(UserError, match=r"^force was given steps\..*expected \("):
        replay(MODEL, {}, split_keys(jax.random.key(0), 2), wrong)
