"""Input errors of a model that runs free under the row's own actions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.experiment import make_model
from sas_jax.gaussian import normal_rows, split_keys
from sas_jax.learners import sequence
from sas_jax.models import losses
from sas_jax.models.vae import decoder_log_std
from sas_jax.models.world_model import last_change
from sas_jax.policies.free_run import make_free_run
from tests.helpers.model_fixtures import make_config, make_spec, make_variables
from tests.models.test_losses import draw_batch

NOISE = 0.25
CONFIG = make_config(decoder={"dropout": 0.0}, model={"self_errors": "rollout"})


@pytest.fixture(scope="module")
def problem():
    """Model, variables and batch, and the errors; the rows are longer than K = 5."""
    spec = make_spec()
    model, variables = make_model(CONFIG, spec), make_variables(CONFIG, spec)
    # Small heads: the model stays within the range that errors are cut to.
    decoder = variables["params"]["transition"]["decoder"]
    decoder["dense"] = jax.tree.map(lambda x: 0.1 * x, decoder["dense"])
    run = jax.jit(make_free_run(model, spec, decoder_noise=NOISE))
    batch = jax.tree.map(jnp.asarray, draw_batch(spec))
    batch = batch.replace(obs=0.3 * batch.obs)
    key = jax.random.key(8)
    errors = run(variables["params"], batch, variables["variances"], key)
    return model, variables, batch, key, np.asarray(errors), run


def test_clean_rows_first_steps_and_constant_columns_have_no_error(problem):
    *_, errors, _ = problem
    assert not errors[0::2].any() and not errors[:, 0].any()
    assert not errors[..., 4].any()
    assert (np.abs(errors[1::2, 1:, :4]).mean(axis=(0, 2)) > 0.05).all()


def test_the_ring_says_what_the_full_forward_says_of_the_imagined_rows(problem):
    """Every imagined state is the model's sample from the imagined states before it."""
    model, variables, batch, key, errors, _ = problem
    assert np.abs(errors).max() < 3.0  # nothing was cut
    half = jax.tree.map(lambda x: x[1::2], batch)
    imagined = half.obs[:, :-1] + errors[1::2]
    keys = split_keys(key, len(imagined))
    latents = model.config.latent_dim
    log_std = decoder_log_std(variables["variances"]["transition"], floor=0.01)

    @jax.jit
    def resample(params, obs):
        def draws(t):
            own = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, t)
            return normal_rows(own, (latents + model.obs_dim,))

        noise = jax.vmap(draws, out_axes=1)(jnp.arange(obs.shape[1]))
        params = {"params": params}
        _, z = model.apply(params, half, obs, False, method="hidden_of")
        return model.apply(
            params,
            z,
            obs,
            last_change(obs),
            half.action,
            noise[..., :latents],
            NOISE * noise[..., latents:],
            log_std,
            method="next_obs",
        )

    expected = np.asarray(resample(variables["params"], imagined))
    np.testing.assert_allclose(imagined[:, 1:], expected[:, :-1], atol=2e-5)


def test_errors_have_no_gradient(problem):
    model, variables, batch, key, _, run = problem
    total = jax.jit(
        jax.grad(lambda p: run(p, batch, variables["variances"], key).sum())
    )(variables["params"])
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(total))


def test_a_model_that_runs_off_the_map_gives_errors_of_a_bounded_size(problem):
    model, variables, batch, key, _, run = problem
    wild = jax.tree.map(lambda x: x, variables["params"])
    dense = wild["transition"]["decoder"]["dense"]
    wild["transition"]["decoder"] = wild["transition"]["decoder"] | {
        "dense": jax.tree.map(lambda x: 1e3 * x, dense)
    }
    errors = np.asarray(run(wild, batch, variables["variances"], key))
    assert np.isfinite(errors).all()
    assert np.abs(errors).max() == 3.0


@pytest.mark.slow
def test_training_takes_the_errors_that_its_settings_name():
    spec, batch = make_spec(), jax.tree.map(jnp.asarray, draw_batch(make_spec()))

    def loss_of(**model):
        config = make_config(decoder={"dropout": 0.0}, model=model)
        learner = sequence.make(config, spec)
        state = jax.jit(learner.init)(jax.random.key(1))
        _, metrics = jax.jit(learner.update)(state, batch)
        return float(metrics["loss"]), config

    rollout, config = loss_of(self_errors="rollout")
    carry, _ = loss_of(self_errors="carry")
    none, _ = loss_of(self_errors="rollout", self_noise=0.0)
    assert len({rollout, carry, none}) == 3
    # The errors enter the loss as they are: the same ones by hand give the same loss.
    learner = sequence.make(config, spec)
    state = jax.jit(learner.init)(jax.random.key(1))
    model = make_model(config, spec)
    run = make_free_run(model, spec, decoder_noise=config.sas.decoder_noise)
    variables = sequence.variables_of(state)

    @jax.jit
    def by_hand(params, variances, key):
        noise_key, _ = jax.random.split(key)
        errors = run(params, batch, variances, jax.random.fold_in(noise_key, 1))
        return losses.loss(
            model, params, variances, batch, key, 0, input_errors=lambda *_: errors
        )[0]

    key = jax.random.fold_in(state.key, 1)
    found = by_hand(variables["params"], variables["variances"], key)
    assert float(found) == pytest.approx(rollout, rel=1e-5)


def test_an_unknown_kind_of_errors_is_named():
    with pytest.raises(ValueError, match="self_errors must be carry or rollout, got"):
        dataclasses.replace(CONFIG.model, self_errors="both")


def test_a_gaussian_transition_trains_on_its_own_rollouts():
    """Without latents there are arrays of size 0 on the way."""
    spec = make_spec()
    batch = jax.tree.map(jnp.asarray, draw_batch(spec))
    config = make_config(model={"latent_dim": 0, "self_errors": "rollout"})
    learner = sequence.make(config, spec)
    state = jax.jit(learner.init)(jax.random.key(1))
    assert "encoder" not in state.params["transition"]
    after, metrics = jax.jit(learner.update)(state, batch)
    assert np.isfinite(float(metrics["loss"])) and int(after.step) == 1
