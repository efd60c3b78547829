"""Functions of numpy arrays as policies; what is said of functions that do not fit."""

import jax.numpy as jnp
import numpy as np
import pytest

import sas_jax
from sas_jax.alignment.simulator import AlignedPolicy
from sas_jax.errors import UserError

OBS, ACT = 3, 2
CONFIG = sas_jax.SASConfig(prompt_length=2, num_first=2, num_second=2, horizon=5)


def mean_of(history, mask):
    """The mean of what is in sight, for one trajectory (jnp) or many (numpy)."""
    weight = mask[..., None] / mask.sum(-1, keepdims=True)[..., None]
    return (history.obs * weight).sum(-2)


def jax_policy(variables, history, mask):
    return jnp.tanh(mean_of(history, mask)[:ACT]), jnp.full(ACT, -1.0)


def numpy_policy(history, mask):
    assert isinstance(history.obs, np.ndarray) and mask.ndim == 2
    mean = np.tanh(mean_of(history, mask)[:, :ACT])
    return mean, np.full(mean.shape, -1.0)


def dynamics(variables, history, mask, action):
    drift = jnp.concatenate([0.1 * action, jnp.zeros(OBS - ACT)])
    return 0.9 * history.obs[-1] + drift, jnp.full(OBS, -2.0)


def model(policy, **settings):
    settings = {"action_dim": ACT, "context": 6, "prompt_steps": 2} | settings
    return sas_jax.from_history_policy(
        policy, settings.pop("dynamics", dynamics), **settings
    )


@pytest.mark.slow
def test_a_numpy_policy_acts_and_is_aligned_as_its_twin_in_jax():
    host = sas_jax.from_host(numpy_policy, (ACT,), (ACT,))
    obs = np.random.default_rng(0).normal(size=(4, OBS)).astype(np.float32)
    actions = []
    for policy in (jax_policy, host):
        aligned = AlignedPolicy(model(policy, obs_dim=OBS), {}, CONFIG)
        aligned.reset(obs, seed=3)
        acted = [aligned.act(obs), aligned.act(0.5 * obs)]
        assert aligned.diagnostics()["prompt_ok"].all()
        actions.append(np.stack(acted))
    np.testing.assert_allclose(*actions, atol=1e-5)


def shape_of_one(history, mask):
    return np.zeros(ACT), np.zeros(ACT)


def single(history, mask):
    return np.zeros((len(mask), ACT))


def broken(history, mask):
    return np.full((len(mask), ACT), np.nan), np.zeros((len(mask), ACT))


@pytest.mark.parametrize(
    "function, message",
    [
        (
            shape_of_one,
            r"shape_of_one returned an array of shape \(2,\); exp",
        ),
        (single, "single returned 1 arrays; expected 2"),
        (broken, r"broken returned nan at \(0, 0\); expected finite"),
    ],
)
def test_what_a_numpy_policy_returns_is_checked_in_one_line(function, message):
    host = sas_jax.from_host(function, (ACT,), (ACT,))
    aligned = AlignedPolicy(model(host), {}, CONFIG, variant="none")
    aligned.reset(np.zeros(OBS))
    with pytest.raises(UserError, match=message) as caught:
        aligned.act(np.zeros(OBS))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name, function, message",
    [
        (
            "policy",
            lambda v, h, m: (h.obs[-1], h.obs[-1]),
            "policy returned mean of",
        ),
        (
            "policy",
            lambda v, h, m: jnp.zeros(ACT),
            "policy returned 1 arrays; .*log",
        ),
        ("policy", lambda v, h: None, "policy raised TypeError .*history of 8 steps"),
        ("policy", lambda v, h, m: v["w"] @ h.obs[-1], "policy raised KeyError"),
        (
            "dynamics",
            lambda v, h, m, a: (h.obs[-1], jnp.zeros(1)),
            r"dynamics returned log_std of shape \(1,\); expected \(3\)",
        ),
        (
            "outcome",
            lambda v, o, a, n: (n, 0.0),
            r"outcome returned reward of shape \(3,\); expected \(\)",
        ),
        ("density", lambda v, o: o, r"density returned density of shape \(3,\)"),
    ],
)
def test_functions_are_checked_at_construction(name, function, message):
    given = {"policy": jax_policy} | {name: function}
    made = model(given.pop("policy"), obs_dim=OBS, **given)
    with pytest.raises(UserError, match=message) as caught:
        AlignedPolicy(made, {}, CONFIG)
    assert "\n" not in str(caught.value)


def test_without_a_size_the_first_reset_checks():
    made = model(lambda v, h, m: (h.obs[-1], h.obs[-1]))
    aligned = AlignedPolicy(made, {}, CONFIG)
    with pytest.raises(UserError, match=r"policy returned mean of shape \(3,\)"):
        aligned.reset(np.zeros(OBS))
