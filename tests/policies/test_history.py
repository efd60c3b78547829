"""A model that re-encodes its last K steps against the one with a memory of its own.

Our transformer as a full-history policy is the *truncated* window: what lies further
back than K steps reaches it no longer, not through the layers either. Until the window
has filled the two are the same function.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.errors import UserError
from sas_jax.experiment import make_model
from sas_jax.policies import cached
from sas_jax.policies.history import from_history_policy
from tests.helpers.histories import draw_history
from tests.helpers.model_fixtures import make_config, make_spec, make_variables

STEPS, ROWS = 9, 2


def truncated(config, spec):
    """Our world model's policy as a function of histories."""
    net, scale = make_model(config, spec), spec

    def policy(variables, history, mask):
        def row(x):
            return x[None]

        obs = row((history.obs - scale.obs_mean[None]) / scale.obs_std[None])
        z, _ = net.apply(
            {"params": variables["params"]},
            obs,
            row(history.action),
            row(history.return_to_go / scale.return_scale),
            row(history.cost_to_go / scale.cost_scale),
            row(history.timestep),
            row(mask),
            False,
            method="hidden",
        )
        mean, log_std = net.apply(
            {"params": variables["params"]},
            z[:, -1],
            obs[:, -1],
            *(
                row(x)[:, -1]
                for x in (
                    history.return_to_go / scale.return_scale,
                    history.cost_to_go / scale.cost_scale,
                    history.timestep,
                )
            ),
            method="action_distribution",
        )
        return mean[0], log_std[0]

    def dynamics(variables, history, mask, action):
        return history.obs[-1], jnp.zeros(spec.obs_dim)

    return from_history_policy(
        policy,
        dynamics,
        action_dim=spec.action_dim,
        context=config.model.decoder.context,
        prompt_steps=2,
    )


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["dt", "cdt"])
def test_the_truncated_window_equals_the_memory_until_it_has_filled(algo):
    config, spec = make_config(algo=algo), make_spec()
    variables = make_variables(config, spec)
    context = config.model.decoder.context
    history = draw_history(spec, (ROWS, STEPS))
    ours = cached.make(make_model(config, spec), spec, prompt_length=2)
    seen = {}
    for name, model in (("ring", ours), ("buffer", truncated(config, spec))):

        @jax.jit
        def run(variables, history, model=model):
            state = model.start(
                variables,
                jax.random.split(jax.random.key(0), ROWS),
                history.obs[:, 0],
                history.return_to_go[:, 0],
                history.cost_to_go[:, 0],
                context,
            )

            def body(state, t):
                state = state.replace(
                    obs=model.standardise(history.obs[:, t]),
                    return_to_go=history.return_to_go[:, t],
                    cost_to_go=history.cost_to_go[:, t],
                )
                observed = model.observe(variables, state, None)
                state = model.commit(
                    variables, state, observed, history.action[:, t], None
                )
                return state, (observed.mean, observed.log_std)

            return jax.lax.scan(body, state, jnp.arange(STEPS))[1]

        seen[name] = jax.device_get(run(variables, history))
    for a, b in zip(seen["ring"], seen["buffer"], strict=True):
        np.testing.assert_allclose(a[:context], b[:context], atol=1e-5)
    # Two layers see further than one window: afterwards they must differ.
    difference = np.abs(seen["ring"][0][context:] - seen["buffer"][0][context:])
    assert (difference.max(axis=(1, 2)) > 1e-4).all()


def first_coordinates(variables, history, mask):
    """A policy that shows what it was given."""
    shown = jnp.where(mask, history.obs[:, 0], -1.0)
    costs = jnp.where(mask, history.cost, 0.0).sum()
    return jnp.concatenate([shown, costs[None]]) / 100.0, jnp.full(8, -9.0)


def still(variables, history, mask, action):
    return history.obs[-1] + 1.0, jnp.full(1, -9.0)


@pytest.mark.slow
def test_the_policy_sees_the_prompt_and_then_the_last_steps():
    """Context 5, prompt of 2: slots are 2 + 5, of which K - L = 3 real ones exist."""
    model = from_history_policy(
        first_coordinates,
        still,
        action_dim=8,
        context=5,
        prompt_steps=2,
        outcome=lambda variables, obs, action, next_obs: (0.0, 2.0),
    )
    assert (model.context, model.prompt_window) == (5, 3)
    keys = jax.random.split(jax.random.key(0), 1)
    state = model.start({}, keys, jnp.full((1, 1), 10.0), jnp.zeros(1), jnp.zeros(1), 3)
    segment = draw_history(make_spec(), (2,))
    segment = jax.tree.map(jnp.asarray, segment).replace(
        obs=jnp.array([[50.0], [51.0]]), action=jnp.zeros((2, 8)), cost=jnp.zeros(2)
    )
    rows = []
    for present in (True, False):
        prompt = model.encode_prompt({}, segment, jnp.array(present))
        now = state
        for _ in range(4):
            shown = 100 * model.observe({}, now, prompt).mean[0]
            rows.append(np.round(np.asarray(shown), 2).tolist())
            _, now = model.step({}, keys, now, prompt)
    gone = -1.0
    expected = [
        [50, 51, gone, gone, gone, gone, 10, 0],
        [50, 51, gone, gone, gone, 10, 11, 2],
        [50, 51, gone, gone, 10, 11, 12, 4],
        [50, 51, gone, gone, 11, 12, 13, 4],
    ]
    np.testing.assert_allclose(rows[:4], expected, atol=0.05)
    expected = [[gone, gone, *row[2:]] for row in expected]
    np.testing.assert_allclose(rows[4:], expected, atol=0.05)


def test_a_prompt_without_room_is_an_error():
    with pytest.raises(UserError, match="leaves no room in a context of 5"):
        from_history_policy(
            first_coordinates, still, action_dim=8, context=5, prompt_steps=5
        )
    roomy = from_history_policy(
        first_coordinates,
        still,
        action_dim=8,
        context=5,
        prompt_steps=9,
        prompt_place="beside",
    )
    assert roomy.prompt_window == 5
