"""The ring of keys against a full forward pass, at every step and well past the window.

The reference is float64 numpy under an explicit mask (`dense_oracle`), once over the
whole history; the code under test sees one step at a time.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import stepping
from sas_jax.experiment import make_model
from sas_jax.imagination import imagine
from sas_jax.types import Trajectory
from tests import dense_oracle
from tests.model_fixtures import make_config, make_spec, make_variables

STEPS = 17  # more than three windows of K = 5


def draw_history(spec, shape, *, seed=0, first_timestep=0):
    """A `Trajectory` `[*shape]`, time last, in environment units."""
    rng = np.random.default_rng([4, seed])

    def draw(*size):
        return rng.normal(size=size).astype(np.float32)

    return Trajectory(
        obs=draw(*shape, spec.obs_dim) * spec.obs_std + spec.obs_mean,
        action=np.tanh(draw(*shape, spec.action_dim)),
        reward=draw(*shape),
        cost=draw(*shape) > 0,
        return_to_go=draw(*shape) * spec.return_scale,
        cost_to_go=draw(*shape) * spec.cost_scale,
        timestep=np.broadcast_to(
            first_timestep + np.arange(shape[-1], dtype=np.int32), shape
        ),
        is_valid=np.ones(shape, bool),
    )


def at(history, *index):
    return jax.tree.map(lambda x: x[index], history)


def oracle_hidden(params, config, spec, history, mask):
    """z of every token of one history `[W]`: `[W, n, D]` by the dense oracle."""
    tokens = dense_oracle.tokens(
        params,
        config.model,
        (history.obs - spec.obs_mean) / spec.obs_std,
        history.action,
        np.asarray(history.return_to_go / spec.return_scale),
        np.asarray(history.cost_to_go / spec.cost_scale),
        history.timestep,
    )
    steps, per_step, width = tokens.shape
    z = dense_oracle.decoder(
        params["decoder"], config.model.decoder, tokens.reshape(-1, width), mask
    )
    return z.reshape(steps, per_step, width)


def oracle_policy(params, config, spec, history, mask):
    z = oracle_hidden(params, config, spec, history, mask)
    obs = (history.obs - spec.obs_mean) / spec.obs_std
    return dense_oracle.policy(params, config.model, z[:, -2], obs)


def replay(model, variables, history, first, prompts, windows):
    """Feeds `[P, W]` histories step by step; mean and log-std `[P, W, A]` on the way.

    first: `[P, W]` bool, where a row starts an episode of its own (its time step is 0).
    """

    count = history.timestep.shape[0]

    @jax.jit
    def run(variables, history, first, prompts, windows):
        state = model.start(
            variables,
            jax.random.split(jax.random.key(0), count),
            history.obs[:, 0],
            history.return_to_go[:, 0],
            history.cost_to_go[:, 0],
            windows,
        )
        encode = jax.vmap(model.encode_prompt, in_axes=(None, 0, 0))
        prompt = encode(variables, *prompts)

        def body(state, t):
            state = state.replace(
                obs=model.standardise(history.obs[:, t]),
                return_to_go=history.return_to_go[:, t],
                cost_to_go=history.cost_to_go[:, t],
                timestep=jnp.where(first[:, t], 0, state.timestep),
            )
            seen = model.observe(variables, state, prompt)
            state = model.commit(variables, state, seen, history.action[:, t], prompt)
            return state, (seen.mean, seen.log_std)

        return jax.lax.scan(body, state, jnp.arange(STEPS))[1]

    seen = run(variables, history, first, prompts, windows)
    return [np.moveaxis(np.asarray(x), 0, 1) for x in seen]


def joined(prompt, history):
    """Prompt steps, then real ones, along time."""
    return jax.tree.map(lambda a, b: np.concatenate([a, b]), prompt, history)


@pytest.mark.parametrize(
    "algo, heads, mode, extra, length",
    [
        ("dt", 1, "pinned", False, 2),
        ("cdt", 4, "pinned", True, 2),
        ("dt", 2, "sliding", False, 3),
    ],
)
def test_acting_equals_the_full_forward_at_every_step(algo, heads, mode, extra, length):
    """Four rows share the ring: one with a prompt, one with the empty prompt and the
    whole window, and two that start anew on the way and must not see older slots, the
    last one before its window has filled.
    """
    config = make_config(algo=algo, decoder={"num_heads": heads})
    spec = make_spec()
    variables = make_variables(config, spec)
    model = stepping.make(
        make_model(config, spec),
        spec,
        prompt_length=length,
        prompt_mode=mode,
        prompt_extra=extra,
    )
    context = config.model.decoder.context
    takes_room = mode == "pinned" and not extra
    assert model.prompt_window == (context - length if takes_room else context)
    history = draw_history(spec, (4, STEPS))
    segments = draw_history(spec, (4, length), seed=1, first_timestep=30)
    has_prompt = np.array([True, False, True, False])
    windows = np.where(has_prompt, model.prompt_window, context).astype(np.int32)
    starts = ((0,), (0,), (0, 7), (0, 6, 9))
    first = np.zeros((4, STEPS), bool)
    for row, where in enumerate(starts):
        first[row, list(where)] = True
    mean, log_std = replay(
        model, variables, history, first, (segments, has_prompt), windows
    )
    for row, where in enumerate(starts):
        for start, stop in zip(where, (*where[1:], STEPS), strict=True):
            whole = at(history, row, slice(start, stop))
            whole = whole.replace(timestep=np.arange(stop - start))
            prompt_steps = length if has_prompt[row] else 0
            if has_prompt[row]:
                whole = joined(at(segments, row), whole)
            mask = dense_oracle.make_mask(
                stop - start,
                config.model.tokens_per_step,
                windows[row],
                prompt_steps=prompt_steps,
                prompt=mode,
            )
            expected = oracle_policy(variables["params"], config, spec, whole, mask)
            for found, wanted in zip((mean, log_std), expected, strict=True):
                np.testing.assert_allclose(
                    found[row, start:stop], wanted[prompt_steps:], atol=1e-5
                )


def without_latents(variables, latent_dim=3):
    """Makes both VAEs ignore their latents and q equal the prior: the bound is then
    the exact Gaussian density whatever the draws.
    """

    def plain(vae):
        encoder, decoder = dict(vae["encoder"]), dict(vae["decoder"])
        encoder["Dense_1"] = jax.tree.map(np.zeros_like, encoder["Dense_1"])
        kernel = decoder["Dense_0"]["kernel"].copy()
        kernel[:latent_dim] = 0.0
        decoder["Dense_0"] = decoder["Dense_0"] | {"kernel": kernel}
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


@pytest.fixture(scope="module")
def imagined():
    """Two episodes x three imaginations with each episode's own prompt, CDT tokens."""
    config, spec = make_config(algo="cdt"), make_spec()
    variables = without_latents(make_variables(config, spec))
    net = make_model(config, spec)
    model = stepping.make(net, spec, prompt_length=2, num_importance=2)
    segments = draw_history(spec, (2, 2), seed=2, first_timestep=20)
    start = draw_history(spec, (2, 1), seed=3)
    start.obs[..., 4] = 7.0  # the constant column

    @jax.jit
    def run(variables, segments, start):
        def episode(segment, start, key):
            prompt = model.encode_prompt(variables, segment, jnp.array(True))
            keys = stepping.split_keys(key, 3)

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
    mask = dense_oracle.make_mask(HORIZON, 4, model.prompt_window, prompt_steps=2)
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
    """Density and noise of every action that was not clipped, against the oracle."""
    config, spec, variables, _, _, outputs, z = imagined
    obs = (outputs.obs - spec.obs_mean) / spec.obs_std
    mean, log_std = dense_oracle.policy(
        variables["params"], config.model, z[..., -2, :], obs
    )
    free = (np.abs(outputs.action) < 1).all(-1)
    assert free.sum() > 40  # of 72
    expected = log_normal(outputs.action, mean, np.exp(log_std)).sum(-1)
    np.testing.assert_allclose(outputs.log_prob[free], expected[free], atol=2e-3)
    assert np.abs(outputs.action).max() <= 1
    assert np.isfinite(outputs.log_prob).all()


def test_imagined_states_follow_the_transition_model(imagined):
    """s' = s + decode(z, s, a) + std * noise, and log_density is its exact density."""
    config, spec, variables, _, _, outputs, z = imagined
    params = variables["params"]
    obs = (outputs.obs - spec.obs_mean) / spec.obs_std
    zeros = np.zeros((*obs.shape[:-1], 3))
    context = [zeros, z[..., -1, :], obs, outputs.action]
    change = dense_oracle.mlp(
        np.concatenate(context, -1), params["transition"]["decoder"]
    )
    std = np.sqrt(variables["variances"]["transition"])
    noise = ((obs[:, :, 1:] - obs[:, :, :-1] - change[:, :, :-1]) / std)[..., :4]
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
        return following, jax.nn.sigmoid(apply("cost_logit", z, next_obs))

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


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"prompt_length": 5}, "no room"),
        ({"prompt_mode": "fixed"}, "prompt_mode"),
        ({"density": "joint"}, "density"),
        ({"num_importance": 0}, "num_importance"),
    ],
)
def test_impossible_settings_raise(wrong, message):
    config, spec = make_config(), make_spec()
    with pytest.raises(ValueError, match=message):
        stepping.make(make_model(config, spec), spec, **wrong)


def test_a_prompt_as_long_as_the_window_needs_another_mode():
    config, spec = make_config(), make_spec()
    net = make_model(config, spec)
    for settings in ({"prompt_extra": True}, {"prompt_mode": "sliding"}):
        model = stepping.make(net, spec, prompt_length=5, **settings)
        assert model.prompt_window == model.context == 5
