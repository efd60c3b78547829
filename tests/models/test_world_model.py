"""Tokens and heads against the dense oracle, and who may depend on whom."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.experiment import make_model
from sas_jax.models.vae import decoder_log_std
from sas_jax.models.world_model import WorldModelConfig, last_change
from tests.helpers import dense_oracle
from tests.helpers.model_fixtures import make_config, make_spec, make_variables

STEPS = 13


def draw_row(spec, steps=STEPS, seed=0):
    """One row of inputs in model units, steps later than 10 of an episode."""
    rng = np.random.default_rng([2, seed])

    def draw(*shape):
        return rng.normal(size=shape).astype(np.float32)

    return {
        "obs": draw(steps, spec.obs_dim),
        "action": np.tanh(draw(steps, spec.action_dim)),
        "return_to_go": draw(steps),
        "cost_to_go": draw(steps),
        "timestep": np.arange(10, 10 + steps, dtype=np.int32),
    }


def hidden_of(model, params, row):
    batched = {name: x[None] for name, x in row.items()}
    is_valid = jnp.ones(batched["timestep"].shape, bool)
    return model.apply(
        {"params": params}, **batched, is_valid=is_valid, train=False, method="hidden"
    )


def targets_of(row):
    """What the policy reads beside its hidden state."""
    return [row[k] for k in ("obs", "return_to_go", "cost_to_go", "timestep")]


@pytest.mark.parametrize("algo", ["dt", "cdt"])
def test_heads_read_the_right_tokens(algo):
    """Policy from (z at the state token, s), the rest from (z at the action token, ...)
    and the next state: all against numpy on a row of several windows.
    """
    config = make_config(algo=algo)
    spec = make_spec()
    model, params = make_model(config, spec), make_variables(config, spec)["params"]
    row = draw_row(spec)
    next_obs = draw_row(spec, seed=1)["obs"]

    @jax.jit
    def run(params, row, next_obs):
        z_state, z_action = hidden_of(model, params, row)

        def head(name, *args):
            args = [x[None] for x in args]
            return model.apply({"params": params}, *args, method=name)

        z_state, z_action = z_state[0], z_action[0]
        return {
            "policy": head("action_distribution", z_state, *targets_of(row)),
            "next_return": head(
                "next_return",
                z_action,
                row["obs"],
                row["action"],
                next_obs,
                row["return_to_go"],
            ),
            "cost_logit": head("cost_logit", next_obs),
        }

    out = jax.tree.map(lambda x: np.asarray(x[0]), run(params, row, next_obs))
    tokens = dense_oracle.tokens(params, config.model, **row)
    per_step = tokens.shape[1]
    assert per_step == model.tokens_per_step == (3 if algo == "dt" else 4)
    mask = dense_oracle.make_mask(STEPS, per_step, config.model.decoder.context)
    z = dense_oracle.decoder(
        params["decoder"],
        config.model.decoder,
        tokens.reshape(STEPS * per_step, -1),
        mask,
    ).reshape(STEPS, per_step, -1)
    mean, log_std = dense_oracle.policy(
        params, spec.max_timestep, z[:, -2], *targets_of(row)
    )
    np.testing.assert_allclose(out["policy"][0], mean, atol=2e-5)
    np.testing.assert_allclose(out["policy"][1], log_std, atol=2e-5)
    change = next_obs - row["obs"]
    joined = np.concatenate([z[:, -1], row["obs"], row["action"], change], -1)
    reward = dense_oracle.mlp(joined, params["reward_head"])[:, 0]
    unit = spec.reward_std / spec.return_scale
    np.testing.assert_allclose(
        out["next_return"], row["return_to_go"] - unit * reward, atol=2e-5
    )
    logit = dense_oracle.noisy_or(next_obs, params["cost_head"])
    np.testing.assert_allclose(out["cost_logit"], logit, rtol=1e-4, atol=2e-5)


def gradients_of(config, **fields):
    """Gradient norms `[heads, step of the head, step of the input]` for every input.

    fields: of the model, replaced.
    """
    spec = make_spec()
    model = make_model(config, spec).clone(**fields)
    params = make_variables(config, spec)["params"]
    row = draw_row(spec)
    timestep = jnp.asarray(row.pop("timestep"))
    row["cost_to_go"] = np.abs(row["cost_to_go"])  # below 0 it is 0

    def apply(name, *args):
        return model.apply({"params": params}, *args, method=name)

    def heads(row, step):
        z_state, z_action = hidden_of(model, params, row | {"timestep": timestep})
        obs, action = row["obs"][step][None], row["action"][step][None]
        change = last_change(row["obs"][None])[0]
        given = [x[step][None] for x in targets_of(row | {"timestep": timestep})]
        mean, log_std = apply("action_distribution", z_state[:, step], *given)
        policy = (mean * jnp.array([[1.0, 2.0]]) + log_std).sum()
        latent, noise = jnp.ones((1, 3)), jnp.ones((1, spec.obs_dim))
        next_obs = apply(
            "next_obs",
            z_action[:, step],
            obs,
            change[step][None],
            action,
            latent,
            noise,
            jnp.zeros(spec.obs_dim),
        )
        return jnp.stack([policy, next_obs.sum()])

    @jax.jit
    def run(row):
        gradient = jax.vmap(jax.jacrev(heads), in_axes=(None, 0))
        return gradient(row, jnp.arange(STEPS))

    # [step of the head, head, step of the input, ...] -> [head, step, step]
    norms = jax.tree.map(
        lambda g: np.abs(g).reshape(STEPS, 2, STEPS, -1).max(-1).swapaxes(0, 1),
        run(row),
    )
    return config.model.decoder, norms


@pytest.fixture(scope="module")
def step_gradients():
    return gradients_of(make_config(algo="cdt"))


@pytest.mark.slow
def test_without_action_history_only_the_prediction_reads_its_own_action():
    _, norms = gradients_of(make_config(model={"action_history": False}))
    policy, prediction = norms["action"] > 0
    assert not policy.any()
    np.testing.assert_array_equal(prediction, np.eye(STEPS, dtype=bool))


@pytest.mark.slow
def test_without_policy_history_the_policy_reads_the_present_only():
    _, norms = gradients_of(make_config(algo="cdt", model={"policy_history": False}))
    for name in ("obs", "return_to_go", "cost_to_go"):
        policy, prediction = norms[name] > 0
        np.testing.assert_array_equal(policy, np.eye(STEPS, dtype=bool))
        assert prediction.sum() > STEPS
    assert not norms["action"][0].any()


@pytest.mark.slow
def test_what_a_policy_is_blind_to_reaches_the_prediction_of_its_step_only():
    """Blind to everything here, so that any dependence would show."""
    seen = (False,) * make_spec().obs_dim
    _, norms = gradients_of(make_config(), seen=seen)
    policy, prediction = norms["obs"] > 0
    assert not policy.any()
    # The present state, and the one before, by their difference.
    expected = np.eye(STEPS, dtype=bool) | np.eye(STEPS, k=-1, dtype=bool)
    np.testing.assert_array_equal(prediction, expected)


@pytest.mark.parametrize(
    "name, policy_sees_present",
    [("obs", True), ("return_to_go", True), ("cost_to_go", True), ("action", False)],
)
def test_causality_by_gradient(step_gradients, name, policy_sees_present):
    """Policy and prediction of step t depend on every input from t - depth (K - 1) on,
    on none before or after, and the policy not on the action it is to choose.
    """
    decoder, norms = step_gradients
    policy, prediction = norms[name] > 0
    step = np.arange(STEPS)
    age = step[:, None] - step[None, :]
    reach = decoder.depth * (decoder.context - 1)
    assert STEPS > reach + 1  # so that the row is longer than what one step can see
    expected = (age >= 0) & (age <= reach)
    np.testing.assert_array_equal(prediction, expected)
    # An action is the last token of its step: one hop fewer reaches as far back.
    expected = expected if policy_sees_present else expected & (age > 0)
    np.testing.assert_array_equal(policy, expected)


def test_next_states_copy_constant_dimensions_and_decode_the_change():
    """s' = s + decode(latent; z, s, a, change) + noise * std where data vary, else s.

    The sample leaves out the floor's share of the variance; the density has it.
    """
    config, spec = make_config(), make_spec()
    assert spec.obs_active.tolist() == [True] * 4 + [False]
    variables = make_variables(config, spec)
    model, params = make_model(config, spec), variables["params"]
    row = draw_row(spec)
    rng = np.random.default_rng(0)
    z = rng.normal(size=(STEPS, 16)).astype(np.float32)
    latent = rng.normal(size=(STEPS, 3)).astype(np.float32)
    noise = rng.normal(size=(STEPS, 5)).astype(np.float32)
    density_noise = rng.normal(size=(1, STEPS, 3)).astype(np.float32)

    @jax.jit
    def run(z, obs, change, action):
        variance = jnp.asarray(variables["variances"]["transition"])
        log_std = decoder_log_std(variance, floor=0.01)

        def apply(name, *args):
            return model.apply(
                {"params": params}, z, obs, change, action, *args, method=name
            )

        after = apply("next_obs", latent, noise, log_std)
        return after, apply("transition_log_density", after, density_noise, log_std)

    moved = rng.normal(size=(STEPS, 5)).astype(np.float32)
    after, density = map(np.asarray, run(z, row["obs"], moved, row["action"]))
    transition = params["transition"]
    context = np.concatenate([z, row["obs"], row["action"], moved], -1)
    closed = np.sqrt(variables["variances"]["transition"])
    change, scale = dense_oracle.transition(transition, config.model, latent, context)
    std = np.maximum(closed * np.exp(scale), 0.01)
    expected = row["obs"] + change + noise * np.sqrt(std**2 - 0.01**2)
    expected[:, 4] = row["obs"][:, 4]
    np.testing.assert_allclose(after, expected, atol=2e-5)

    # The one-sample bound, summed over the dimensions that vary.
    change = after - row["obs"]
    encoded = dense_oracle.mlp(
        np.concatenate([change, context], -1), transition["encoder"]
    )
    mean, log_std = np.split(encoded, 2, -1)
    log_std = np.clip(log_std, -7, 2)
    sample = mean + np.exp(log_std) * density_noise[0]
    decoded, scale = dense_oracle.transition(transition, config.model, sample, context)
    std = np.maximum(closed * np.exp(scale), 0.01)

    def log_normal(x, mean, std):
        return -0.5 * ((x - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)

    expected = (
        log_normal(change, decoded, std)[:, :4].sum(-1)
        + log_normal(sample, 0.0, 1.0).sum(-1)
        - log_normal(sample, mean, np.exp(log_std)).sum(-1)
    )
    np.testing.assert_allclose(density, expected, rtol=1e-4, atol=1e-4)


def test_time_steps_past_the_table_use_its_last_row():
    config, spec = make_config(), make_spec()
    model, params = make_model(config, spec), make_variables(config, spec)["params"]

    @jax.jit
    def token(timestep):
        action = jnp.zeros((timestep.shape[0], 2))
        return model.apply({"params": params}, action, timestep, method="action_token")

    tokens = np.asarray(token(jnp.array([62, 63, 64, 900], jnp.int32)))
    np.testing.assert_array_equal(tokens[1], tokens[2])
    np.testing.assert_array_equal(tokens[1], tokens[3])
    assert np.abs(tokens[0] - tokens[1]).max() > 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"latent_dim": 0},
        {"marginal_latent_dim": 0},
        {"max_timestep": 0},
        {"decoder_floor": 0.0},
        {"self_noise": 1.1},
    ],
)
def test_impossible_settings_raise(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        WorldModelConfig(**wrong)
