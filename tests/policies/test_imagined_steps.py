"""Imagined steps of the world model: each follows the heads at the full history.

The reference is float64 numpy under an explicit mask, over the whole imagined episode
with its prompt in front; the code under test sees one step at a time.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from sas_jax.alignment.imagination import imagine
from sas_jax.experiment import make_model
from sas_jax.gaussian import split_keys
from sas_jax.policies import cached
from sas_jax.types import Trajectory
from tests.helpers import dense_oracle
from tests.helpers.histories import at, draw_history, joined, oracle_hidden
from tests.helpers.model_fixtures import make_config, make_spec, make_variables


def without_latents(variables, latent_dim=3):
    """Makes both VAEs ignore their latents and q equal the prior: the bound is then
    the exact Gaussian density whatever the draws.
    """

    def plain(vae):
        encoder, decoder = dict(vae["encoder"]), dict(vae["decoder"])
        encoder["Dense_1"] = jax.tree.map(np.zeros_like, encoder["Dense_1"])
        mlp = dict(decoder.get("dense", decoder))
        kernel = mlp["Dense_0"]["kernel"].copy()
        kernel[:latent_dim] = 0.0
        mlp["Dense_0"] = mlp["Dense_0"] | {"kernel": kernel}
        decoder = {"dense": mlp} if "dense" in decoder else mlp
        return vae | {"encoder": encoder, "decoder": decoder}

    params = dict(variables["params"])
    for name in ("transition", "marginal"):
        params[name] = plain(params[name])
    policy = params["policy"]
    last = jax.tree.map(lambda x: 0.3 * x, policy["Dense_1"])
    last["bias"] = last["bias"] + np.array([0, 0, -1, -1], np.float32)
    params["policy"] = policy | {"Dense_1": last}
    return variables | {"params": params}


HORIZON = 12


@pytest.fixture(scope="module", params=["pinned", "sliding"])
def imagined(request):
    """Two episodes x three imaginations with each episode's own prompt, CDT tokens.

    Where the prompt slides, actions at the bounds are scored as censored.
    """
    censored = {"censored_actions": request.param == "sliding"}
    config, spec = make_config(algo="cdt", model=censored), make_spec()
    variables = without_latents(make_variables(config, spec))
    net = make_model(config, spec)
    model = cached.make(
        net, spec, prompt_length=2, prompt_place=request.param, num_importance=2
    )
    segments = draw_history(spec, (2, 2), seed=2, first_timestep=20)
    start = draw_history(spec, (2, 1), seed=3)
    start.obs[..., 4] = 7.0  # the constant column

    @jax.jit
    def run(variables, segments, start):
        def episode(segment, start, key):
            prompt = model.encode_prompt(variables, segment, jnp.array(True))
            keys = split_keys(key, 3)

            def thrice(x):
                return jnp.broadcast_to(x, (3, *x.shape[1:]))

            state = model.start(
                variables,
                keys,
                thrice(start.obs),
                thrice(start.return_to_go),
                thrice(start.cost_to_go),
                model.prompt_window,
            )
            outputs, _ = imagine(
                model.step, variables, keys, state, prompt, horizon=HORIZON
            )
            return outputs

        keys = jax.random.split(jax.random.key(1), 2)
        return jax.vmap(episode)(segments, start, keys)

    outputs = jax.device_get(run(variables, segments, start))
    mask = dense_oracle.make_mask(
        HORIZON, 4, model.prompt_window, prompt_steps=2, prompt=request.param
    )
    z = np.zeros((2, 3, HORIZON, 4, 16))
    for e, i in np.ndindex(2, 3):
        row = at(outputs, e, i)
        history = Trajectory(
            obs=row.obs,
            action=row.action,
            reward=row.reward,
            cost=row.cost,
            return_to_go=row.return_to_go,
            cost_to_go=row.cost_to_go,
            timestep=row.timestep,
            is_valid=np.ones(HORIZON, bool),
        )
        whole = joined(at(segments, e), history)
        z[e, i] = oracle_hidden(variables["params"], config, spec, whole, mask)[2:]
    return config, spec, variables, net, start, outputs, z


def log_normal(x, mean, std):
    return -0.5 * ((x - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)


def test_imagination_starts_at_the_real_state(imagined):
    _, _, _, _, start, outputs, _ = imagined
    for name in ("obs", "return_to_go", "cost_to_go"):
        first, expected = getattr(outputs, name)[:, :, 0], getattr(start, name)
        expected = np.broadcast_to(expected, first.shape)
        np.testing.assert_allclose(first, expected, rtol=1e-5, atol=1e-5)
    expected = np.broadcast_to(np.arange(HORIZON), (2, 3, HORIZON))
    np.testing.assert_array_equal(outputs.timestep, expected)


def test_imagined_actions_follow_the_policy_at_the_full_history(imagined):
    """Density of every action as executed, clipped or not, against the oracle."""
    config, spec, variables, _, _, outputs, z = imagined
    obs = (outputs.obs - spec.obs_mean) / spec.obs_std
    mean, log_std = dense_oracle.policy(
        variables["params"],
        spec.max_timestep,
        z[..., -2, :],
        obs,
        outputs.return_to_go / spec.return_scale,
        outputs.cost_to_go / spec.cost_scale,
        outputs.timestep,
    )
    is_clipped = (np.abs(outputs.action) == 1).any(-1)
    assert is_clipped.any() and not is_clipped.all()
    assert np.abs(outputs.action).max() <= 1
    expected = log_normal(outputs.action, mean, np.exp(log_std))
    if config.model.censored_actions:
        beyond = stats.norm.logcdf((outputs.action * mean - 1) / np.exp(log_std))
        expected = np.where(np.abs(outputs.action) == 1, beyond, expected)
    expected = expected.sum(-1)
    np.testing.assert_allclose(outputs.log_prob, expected, rtol=1e-3, atol=2e-3)


def test_imagined_states_follow_the_transition_model(imagined):
    """s' = s + decode(z, s, a, change) + std * noise; log_density is its density."""
    config, spec, variables, _, _, outputs, z = imagined
    params = variables["params"]
    obs = (outputs.obs - spec.obs_mean) / spec.obs_std
    zeros = np.zeros((*obs.shape[:-1], 3))
    last = dense_oracle.last_change(obs)
    context = np.concatenate([z[..., -1, :], obs, outputs.action, last], -1)
    change, scale = dense_oracle.transition(
        params["transition"], config.model, zeros, context
    )
    closed = np.sqrt(variables["variances"]["transition"])
    std = np.maximum(closed * np.exp(scale), 0.01)[:, :, :-1]
    spread = np.sqrt(std**2 - 0.01**2)
    noise = ((obs[:, :, 1:] - obs[:, :, :-1] - change[:, :, :-1]) / spread)[..., :4]
    # 2 * 3 * 11 * 4 = 264 values.
    assert abs(noise.mean()) < 0.25 and abs(noise.std() - 1) < 0.18
    np.testing.assert_array_equal(outputs.obs[..., 4], 7.0)  # constant: copied
    expected = log_normal(obs[:, :, 1:], obs[:, :, :-1] + change[:, :, :-1], std)[
        ..., :4
    ].sum(-1)
    np.testing.assert_allclose(outputs.log_density[:, :, 1:], expected, atol=2e-3)
    decoded = dense_oracle.mlp(np.zeros((1, 3)), params["marginal"]["decoder"])
    std = np.sqrt(variables["variances"]["marginal"])
    expected = log_normal(obs[:, :, 0], decoded, std)[..., :4].sum(-1)
    np.testing.assert_allclose(outputs.log_density[:, :, 0], expected, rtol=1e-4)


def test_imagined_tokens_follow_the_heads(imagined):
    """Next return by its head, cost-to-go less the predicted cost."""
    _, spec, variables, net, _, outputs, z = imagined
    obs = ((outputs.obs - spec.obs_mean) / spec.obs_std).astype(np.float32)

    @jax.jit
    def heads(z, obs, next_obs, action, return_to_go):
        def apply(name, *args):
            return net.apply({"params": variables["params"]}, *args, method=name)

        following = apply("next_return", z, obs, action, next_obs, return_to_go)
        return following, jax.nn.sigmoid(apply("cost_logit", next_obs))

    now = (slice(None), slice(None), slice(None, -1))
    after = (slice(None), slice(None), slice(1, None))
    following, cost = heads(
        z[now][..., -1, :].astype(np.float32),
        obs[now],
        obs[after],
        outputs.action[now],
        outputs.return_to_go[now] / spec.return_scale,
    )
    np.testing.assert_allclose(
        outputs.return_to_go[after], following * spec.return_scale, rtol=1e-3, atol=1e-3
    )
    np.testing.assert_allclose(outputs.cost[now], cost, atol=2e-4)
    np.testing.assert_allclose(
        outputs.cost_to_go[after],
        outputs.cost_to_go[now] - outputs.cost[now],
        atol=1e-5,
    )
    np.testing.assert_allclose(
        outputs.reward[now],
        outputs.return_to_go[now] - outputs.return_to_go[after],
        atol=1e-5,
    )


def test_imaginations_differ(imagined):
    outputs = imagined[5]
    flat = outputs.obs[:, :, 1].reshape(6, -1)
    assert len(np.unique(flat[:, 0])) == 6
