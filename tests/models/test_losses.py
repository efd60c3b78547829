"""The training loss term by term against numpy, and what it must not depend on."""

import dataclasses
import functools
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from sas_jax.experiment import make_model
from sas_jax.models import losses
from sas_jax.models.own_errors import own_errors
from sas_jax.types import Batch, LoneSteps
from tests.helpers import dense_oracle
from tests.helpers.model_fixtures import make_config, make_spec, make_variables

ROWS, STEPS = 3, 8
LENGTHS = (8, 8, 5)  # the last row ends in padding
CONFIG = make_config(
    decoder={"depth": 1, "dropout": 0.0},
    model={
        "state_weight": 0.5,
        "marginal_weight": 2.0,
        "return_weight": 3.0,
        "cost_weight": 0.7,
        "free_bits": 0.3,
    },
)
WARMUP_STEP = 400  # 40 % of the KL term


def draw_batch(spec, seed=0):
    rng = np.random.default_rng([6, seed])

    def draw(*shape):
        return rng.normal(size=shape).astype(np.float32)

    obs = draw(ROWS, STEPS + 1, spec.obs_dim)
    obs[..., 4] = 0.0  # the constant column, standardised
    return Batch(
        obs=obs,
        action=np.clip(draw(ROWS, STEPS, 2), -1, 1),  # a third at the bounds
        return_to_go=draw(ROWS, STEPS + 1),
        cost_to_go=draw(ROWS, STEPS + 1),
        cost=(draw(ROWS, STEPS) > 0).astype(np.float32),
        timestep=np.tile(np.arange(20, 20 + STEPS, dtype=np.int32), (ROWS, 1)),
        is_valid=np.arange(STEPS)[None] < np.array(LENGTHS)[:, None],
    )


@pytest.fixture(scope="module")
def problem():
    """Model, parameters, batch, and the jitted loss with gradients and its noise."""
    spec = make_spec()
    model, variables = make_model(CONFIG, spec), make_variables(CONFIG, spec)

    censored = dataclasses.replace(
        model, config=dataclasses.replace(CONFIG.model, censored_actions=True)
    )

    @jax.jit
    def run(params, variances, batch, key):
        gradient = jax.value_and_grad(
            lambda p: losses.loss(model, p, variances, batch, key, WARMUP_STEP),
            has_aux=True,
        )
        (value, (fresh, metrics)), gradients = gradient(params)
        given = (params, variances, batch, key, WARMUP_STEP)
        metrics["censored_nll"] = losses.loss(censored, *given)[1][1]["action_nll"]
        noise_key = jax.random.split(key)[0]
        noise = losses.draw_noise(model, batch, noise_key)
        noise["obs"] = own_errors(
            model, params, batch, variances, noise, jax.random.fold_in(noise_key, 1)
        )
        return value, fresh, metrics, gradients, noise

    batch, key = draw_batch(spec), jax.random.key(5)
    out = run(variables["params"], variables["variances"], batch, key)
    return model, variables, batch, run, key, jax.device_get(out)


def log_normal(x, mean, std):
    return -0.5 * ((x - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)


def reconstruct(p, x, context, noise):
    """Residual and KL of one pass through a VAE."""
    encoded = dense_oracle.mlp(np.concatenate([x, context], -1), p["encoder"])
    mean, log_std = np.split(encoded, 2, -1)
    log_std = np.clip(log_std, -7, 2)
    latent = mean + np.exp(log_std) * noise
    if "dense" in p["decoder"]:
        decoded, scale = dense_oracle.transition(p, CONFIG.model, latent, context)
    else:
        decoded = dense_oracle.mlp(np.concatenate([latent, context], -1), p["decoder"])
        scale = np.zeros_like(decoded)
    return x - decoded, scale, (mean**2 + np.exp(2 * log_std) - 1) / 2 - log_std


def test_every_term_against_numpy(problem):
    """The sum of algorithm section 1, from float64 hidden states, valid steps only."""
    model, variables, batch, _, _, (value, variances, metrics, _, noise) = problem
    params, config = variables["params"], CONFIG.model
    mask = np.asarray(batch.is_valid)
    obs = batch.obs[:, :-1] + noise["obs"]
    hidden = []
    for b in range(ROWS):
        tokens = dense_oracle.tokens(
            params,
            config,
            obs[b],
            batch.action[b],
            batch.return_to_go[b, :-1],
            batch.cost_to_go[b, :-1],
            batch.timestep[b],
        ).reshape(STEPS * 3, -1)
        window = dense_oracle.make_mask(STEPS, 3, config.decoder.context)
        z = dense_oracle.decoder(params["decoder"], config.decoder, tokens, window)
        hidden.append(z.reshape(STEPS, 3, -1))
    z = np.stack(hidden)[mask]
    obs, target, action = obs[mask], batch.obs[:, 1:][mask], batch.action[mask]
    targets = (
        x[mask]
        for x in (batch.return_to_go[:, :-1], batch.cost_to_go[:, :-1], batch.timestep)
    )
    mean, log_std = dense_oracle.policy(
        params, model.episode_steps, z[:, -2], obs, *targets
    )
    is_clean = np.nonzero(mask)[0] != 1
    plain = log_normal(action, mean, np.exp(log_std))
    action_nll = -plain.sum(-1)[is_clean].mean()
    # All that is clipped to a bound, where the action is at one.
    beyond = stats.norm.logcdf((action * mean - 1) / np.exp(log_std))
    is_bound = np.abs(action) == 1
    assert 0.2 < is_bound.mean() < 0.5
    censored_nll = -np.where(is_bound, beyond, plain).sum(-1)[is_clean].mean()

    def negative_elbo(name, residual, scale, kl, clean, wrong):
        """Variance of clean rows; 4 dimensions vary; free bits per latent; warm-up.

        The shape that the decoder gave to the std is not the closed form's; where the
        input was `wrong`, the std is as wide as that.
        """
        old = variables["variances"][name]
        fresh = np.square(residual[clean] * np.exp(-scale[clean])).mean(0)
        fresh = 0.01 * fresh + 0.99 * old
        np.testing.assert_allclose(variances[name], fresh, rtol=1e-4)
        closed = old if name == "transition" else fresh
        std = np.maximum(np.sqrt(closed) * np.exp(scale), 0.01)
        std = np.sqrt(std**2 + wrong**2)
        likelihood = log_normal(residual, 0.0, std)[:, :4].sum(-1).mean()
        paid = np.maximum(kl.mean(0), 0.3).sum()
        return (0.4 * paid - likelihood) / 4, likelihood - kl.mean(0).sum()

    row_of = np.nonzero(mask)[0]
    change = dense_oracle.last_change(batch.obs[:, :-1] + noise["obs"])[mask]
    context = np.concatenate([z[:, -1], obs, action, change], -1)
    residual, scale, kl = reconstruct(
        params["transition"], target - obs, context, noise["transition"][mask]
    )
    residual = residual + noise["target"][mask]
    assert 0.005 < noise["target"].std() < 0.015  # the floor's resolution
    state_loss, state_elbo = negative_elbo(
        "transition", residual, scale, kl, row_of != 1, noise["obs"][mask]
    )
    states = batch.obs[:, :-1][mask]
    residual, scale, kl = reconstruct(
        params["marginal"], states, np.zeros((len(states), 0)), noise["marginal"][mask]
    )
    every = np.ones(len(states), bool)
    marginal_loss, marginal_elbo = negative_elbo(
        "marginal", residual, scale, kl, every, 0.0
    )
    # (R' - predicted R') in units of a step's reward.
    inputs = np.concatenate([z[:, -1], obs, action, target - obs], -1)
    reward = dense_oracle.mlp(inputs, params["reward_head"])[:, 0]
    now, after = batch.return_to_go[:, :-1][mask], batch.return_to_go[:, 1:][mask]
    error = (now - after) / model.reward_unit - reward
    return_mse = np.square(error[row_of != 1]).mean()  # rewards of clean rows only
    logit, cost = dense_oracle.noisy_or(target, params["cost_head"]), batch.cost[mask]
    cost_bce = (np.logaddexp(0, logit) - cost * logit).mean()
    expected = {
        "action_nll": action_nll,
        "censored_nll": censored_nll,
        "transition_elbo": state_elbo,
        "marginal_elbo": marginal_elbo,
        "return_mse": return_mse,
        "cost_bce": cost_bce,
        "action_log_std": log_std.mean(),
    }
    for name, number in expected.items():
        np.testing.assert_allclose(metrics[name], number, rtol=2e-4, err_msg=name)
    total = action_nll + 0.5 * state_loss + 2 * marginal_loss
    total += 3 * return_mse + 0.7 * cost_bce
    np.testing.assert_allclose(value, total, rtol=2e-4)
    assert metrics["loss"] == value


def test_costs_are_learnt_from_lone_steps_where_there_are_any(problem):
    """The cost's term alone, against numpy; all others are of the rows."""
    model, variables, batch, run, key, (value, _, metrics, _, _) = problem
    rng = np.random.default_rng(9)
    lone = LoneSteps(
        next_obs=np.float32(rng.normal(size=(32, model.obs_dim))),
        cost=np.float32(rng.random(32) < 0.4),
    )
    other = dataclasses.replace(batch, lone=lone)
    out = jax.device_get(run(variables["params"], variables["variances"], other, key))
    logit = dense_oracle.noisy_or(lone.next_obs, variables["params"]["cost_head"])
    bce = (np.logaddexp(0, logit) - lone.cost * logit).mean()
    np.testing.assert_allclose(out[2]["cost_bce"], bce, rtol=2e-4)
    for name in ("action_nll", "transition_elbo", "marginal_elbo", "return_mse"):
        np.testing.assert_allclose(out[2][name], metrics[name], rtol=1e-6)
    change = CONFIG.model.cost_weight * (bce - metrics["cost_bce"])
    np.testing.assert_allclose(out[0] - value, change, rtol=1e-3)


def test_padding_changes_neither_loss_nor_gradients(problem):
    """NaN, or anything else, behind a row's last next state."""
    _, variables, batch, run, key, (value, variances, _, gradients, _) = problem
    start = LENGTHS[2]

    def spoil(x, first, value):
        x = np.array(x)
        x[2, first:] = value
        return x

    other = dataclasses.replace(
        batch,
        obs=spoil(batch.obs, start + 1, np.nan),
        action=spoil(batch.action, start, np.nan),
        return_to_go=spoil(batch.return_to_go, start + 1, np.nan),
        cost_to_go=spoil(batch.cost_to_go, start + 1, 1e3),
        cost=spoil(batch.cost, start, np.nan),
        timestep=spoil(batch.timestep, start, 63),
    )
    out = jax.device_get(run(variables["params"], variables["variances"], other, key))
    np.testing.assert_allclose(out[0], value, rtol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        (out[1], out[3]),
        (variances, gradients),
    )
    # And the same batch with another valid step is another loss.
    other = dataclasses.replace(batch, action=spoil(batch.action, start - 1, 0.5))
    out = run(variables["params"], variables["variances"], other, key)
    assert abs(float(out[0]) - value) > 1e-3


def test_gradients_are_zero_exactly_where_nothing_can_move(problem):
    gradients = problem[5][3]
    # Time steps that the batch does not visit: valid ones are 20 .. 27.
    visited = np.abs(gradients["embed_timestep"]["embedding"]).max(-1) > 0
    np.testing.assert_array_equal(np.flatnonzero(visited), np.arange(20, 28))
    # The constant column's decoder output enters no density.
    for name in ("transition", "marginal"):
        layers = gradients[name]["decoder"]
        bias = layers.get("dense", layers)["Dense_1"]["bias"]
        assert bias[4] == 0 and (bias[:4] != 0).all()
    assert "embed_cost" not in gradients
    frozen = [
        path
        for path, g in jax.tree_util.tree_leaves_with_path(gradients)
        if not np.any(g)
    ]
    assert not frozen, f"no gradient reaches {frozen}"


def test_input_errors_spare_every_other_row_first_steps_and_constant_columns(problem):
    noise = problem[5][4]["obs"]
    assert not noise[0::2].any() and not noise[..., 4].any() and not noise[:, 0].any()
    assert (np.abs(noise[1, 1:, :4]) > 0).all()


@pytest.mark.slow
def test_evaluation_has_neither_noise_nor_dropout_and_keeps_the_variances():
    config = make_config(decoder={"depth": 1, "dropout": 0.5})
    spec = make_spec()
    model, variables = make_model(config, spec), make_variables(config, spec)
    quiet = dataclasses.replace(
        model,
        config=dataclasses.replace(
            config.model, self_noise=0.0, decoder=CONFIG.model.decoder
        ),
    )
    batch = draw_batch(spec)

    @jax.jit
    def run(params, variances):
        key = jax.random.key(0)
        return [
            losses.loss(m, params, variances, batch, key, 0, train=False)[1]
            for m in (model, quiet)
        ]

    (kept, noisy), (_, plain) = run(variables["params"], variables["variances"])
    jax.tree.map(np.testing.assert_array_equal, kept, variables["variances"])
    for name in noisy:
        np.testing.assert_allclose(noisy[name], plain[name], rtol=1e-5, err_msg=name)


@pytest.mark.slow
def test_without_errors_every_row_reaches_policy_reward_and_variance():
    """Rows are left out for the errors of their inputs, and here there are none."""
    config = make_config(decoder={"dropout": 0.0}, model={"self_noise": 0.0})
    spec = make_spec()
    model, variables = make_model(config, spec), make_variables(config, spec)
    batch, key = draw_batch(spec), jax.random.key(1)

    @jax.jit
    def run(params, variances, batch):
        return [
            losses.loss(model, params, variances, batch, key, 0, train=train)[1]
            for train in (True, False)
        ]

    given = variables["params"], variables["variances"]
    (fresh, metrics), (_, every) = run(*given, batch)
    for name in ("action_nll", "return_mse"):
        np.testing.assert_allclose(metrics[name], every[name], rtol=1e-6)
    # A row's own share of the sums, also of the second row.
    for row in range(ROWS):
        action = np.array(batch.action)
        action[row, 0] = -action[row, 0]
        (_, moved), _ = run(*given, batch.replace(action=action))
        assert abs(moved["action_nll"] - metrics["action_nll"]) > 1e-4
        obs = np.array(batch.obs)
        obs[row, -1 - (STEPS - LENGTHS[row])] += 1.0
        (other, _), _ = run(*given, batch.replace(obs=obs))
        moved = np.abs(other["transition"] - fresh["transition"])
        assert (moved[:4] > 1e-5).all()


class TestEverywhere(chex.TestCase):
    """The pure parts of the loss: with jit and without, on the device and the host."""

    @chex.variants(
        with_jit=True, without_jit=True, with_device=True, without_device=True
    )
    def test_means_and_variances_on_literals(self):
        mask = np.array([[True, True], [True, False]])
        x = np.float32([[1, 2], [6, np.nan]])
        assert float(self.variant(losses.masked_mean)(x, mask)) == 3.0
        assert float(self.variant(losses.masked_mean)(x, ~mask & False)) == 0.0
        rows = self.variant(lambda: losses.noisy_rows(3))()
        assert np.asarray(rows).tolist() == [False, True, False]
        update = self.variant(lambda *a: losses.update_variance(*a, decay=0.75))
        found = update(np.float32([4, 8]), np.stack([x, 2 * x], -1), mask)
        # Mean squares 41 / 3 and four times that.
        np.testing.assert_allclose(found, [3 + 41 / 12, 6 + 41 / 3], rtol=1e-6)
        out = {
            "marginal_residual": np.float32([[[3.0, 0.0]]]),
            "marginal_kl": np.float32([[[0.5]]]),
        }
        model = types.SimpleNamespace(
            active=np.array([True, False]),
            config=dataclasses.replace(CONFIG.model, free_bits=0.0),
        )
        part = self.variant(
            lambda variance, out, mask, step: losses._marginal_loss(
                model, variance, out, mask, step, train=False
            )
        )
        one = np.ones((1, 1), bool)
        negative, variance, elbo = part(np.float32([9, 9]), out, one, np.float32(400))
        likelihood = log_normal(3.0, 0.0, 3.0)  # the active dimension's alone
        np.testing.assert_allclose(negative, 0.4 * 0.5 - likelihood, rtol=1e-5)
        np.testing.assert_allclose(elbo, likelihood - 0.5, rtol=1e-5)
        np.testing.assert_array_equal(variance, [9, 9])


@functools.cache
def small_problem():
    """A model of one narrow layer, and what its loss is where it is jitted."""
    config = make_config(decoder={"depth": 1, "width": 8, "dropout": 0.0})
    spec = make_spec()
    model, variables = make_model(config, spec), make_variables(config, spec)

    def run(params, variances, batch, key):
        key = jax.random.wrap_key_data(jnp.asarray(key))
        return losses.loss(model, params, variances, batch, key, WARMUP_STEP)

    given = (*(variables[k] for k in ("params", "variances")), draw_batch(spec))
    given = (*given, np.uint32([0, 5]))
    return run, given, jax.device_get(jax.jit(run)(*given))


@pytest.mark.slow
class TestWholeLossEverywhere(chex.TestCase):
    """The whole loss, its metrics and new variances, wherever and however it runs."""

    @chex.variants(
        with_jit=True, without_jit=True, with_device=True, without_device=True
    )
    def test_the_loss_is_the_jitted_one(self):
        run, given, expected = small_problem()
        found = jax.device_get(self.variant(run)(*given))
        chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-5)
        assert np.isfinite(found[0]) and len(found[1][1]) > 5
