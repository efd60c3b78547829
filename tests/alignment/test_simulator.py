"""AlignedPolicy around a policy that is not ours, and the drift of real episodes.

The policy and its dynamics are linear and Gaussian, so that every density of a real
episode can be computed again from what went in and out.
"""

import math

import jax.numpy as jnp
import numpy as np
import pytest

import sas_jax
from sas_jax.alignment.config import SASConfig
from sas_jax.alignment.gate import RiskModel
from sas_jax.alignment.simulator import AlignedPolicy
from sas_jax.errors import UserError
from sas_jax.policies.history import from_history_policy
from tests.helpers import foreign_policy

ACTION_STD, STATE_STD = 0.05, 0.1
WINDOW, DISCOUNT = 3, 0.9


def gain(history, mask):
    """What the context does: the mean first coordinate of the steps in sight."""
    seen = mask[:-1]
    total = jnp.where(seen, history.obs[:-1, 0], 0.0).sum()
    return 0.1 * total / jnp.maximum(seen.sum(), 1)


def policy(variables, history, mask):
    mean = -0.3 * history.obs[-1, :1] + gain(history, mask)
    mean = mean + 0.001 * (history.return_to_go[-1] - history.cost_to_go[-1])
    return mean, jnp.full(1, math.log(ACTION_STD))


def dynamics(variables, history, mask, action):
    after = variables["decay"] * history.obs[-1] + jnp.concatenate([action, action])
    return after, jnp.full(2, math.log(STATE_STD))


MODEL = from_history_policy(policy, dynamics, action_dim=1, context=6, prompt_steps=2)
VARIABLES = {"decay": np.float32(0.8)}


def config(**settings):
    defaults = {
        "num_first": 3,
        "num_second": 2,
        "prompt_length": 2,
        "horizon": 8,
        "energy_window": WINDOW,
        "discount": DISCOUNT,
        "track_drift": True,
    }
    return SASConfig(**(defaults | settings))


@pytest.fixture(scope="module")
def aligned():
    return AlignedPolicy(MODEL, VARIABLES, config(), cost_limit=2.0)


STEPS = 14
PUSHED = 8  # from this step on the real system is pushed, which no model foresaw


def run(aligned, **reset):
    """An episode of the linear system: observations, actions, diagnostics."""
    rng = np.random.default_rng(0)
    obs = np.array([0.5, -0.4], np.float32)
    aligned.reset(obs, **({"seed": 3} | reset))
    seen, actions = [], []
    for t in range(STEPS):
        action = aligned.act(obs, 0.5, 1.0)
        seen.append(obs)
        actions.append(action)
        noise = STATE_STD * rng.normal(size=2)
        obs = np.float32(0.8 * obs + np.repeat(action, 2) + noise)
        if t >= PUSHED:
            obs = obs + np.float32(0.5)
    return np.stack(seen), np.stack(actions), aligned.diagnostics()


def gaussian(x, mean, std):
    return (-0.5 * ((x - mean) / std) ** 2 - np.log(std * np.sqrt(2 * np.pi))).sum(-1)


def expected_drift(aligned, seen, actions, level):
    """Drift of every step whose window is whole, in float64 from the definitions.

    The policy's means are taken from a second pass without noise.
    """
    prompt = aligned._carry.prompt
    assert bool(prompt.is_present[0])
    means = []
    for t in range(STEPS):
        past = seen[max(0, t - 3) : t, 0]  # K - L = 4 steps, the present one included
        shown = np.concatenate([np.asarray(prompt.segment.obs)[0, :, 0], past])
        tokens = (5.0 - 0.5 * t) - (2.0 - 1.0 * t)
        means.append(-0.3 * seen[t, 0] + 0.1 * shown.mean() + 0.001 * tokens)
    density = [0.0] + [
        gaussian(seen[t + 1], 0.8 * seen[t] + actions[t], STATE_STD)
        for t in range(STEPS - 1)
    ]
    total = np.array(density) + gaussian(actions, np.array(means)[:, None], ACTION_STD)
    energies = [
        -np.log(sum(DISCOUNT**k * np.exp(total[t + k]) for k in range(WINDOW)))
        for t in range(STEPS - WINDOW + 1)
    ]
    return np.array(energies) - level


@pytest.mark.slow
def test_drift_is_the_real_energy_above_the_level(aligned):
    """One unlikely step among likely ones raises no energy: a whole window must."""
    seen, actions, found = run(aligned, target_return=5.0)
    assert (np.abs(actions) < 1).all()
    drift = expected_drift(aligned, seen, actions, float(found["level"]))
    np.testing.assert_allclose(found["drift"], drift.max(), rtol=1e-3, atol=1e-3)
    first = int(np.flatnonzero(drift > 0)[0]) + WINDOW - 1
    assert found["drift_alarm"] == first >= PUSHED
    # R = {G <= -log(d / (C_max D))}, G = -drift, d = 2.
    outside = (-drift > -math.log(2.0)).mean()
    np.testing.assert_allclose(found["drift_outside"], [outside], atol=1e-6)
    assert 0 < outside < 1


@pytest.mark.slow
def test_the_alarm_waits_for_its_margin(aligned):
    seen, actions, found = run(aligned, target_return=5.0)
    drift = expected_drift(aligned, seen, actions, float(found["level"]))
    margin = float(np.sort(drift)[-2])
    other = AlignedPolicy(MODEL, VARIABLES, config(drift_margin=margin), cost_limit=2.0)
    again = run(other, target_return=5.0)[2]
    assert again["drift_alarm"] == int(drift.argmax()) + WINDOW - 1
    np.testing.assert_array_equal(again["drift"], found["drift"])


@pytest.mark.slow
def test_tracking_and_the_prompt(aligned):
    """Tracking changes no action; a prompt does."""
    tracked = run(aligned)[1]
    plain = AlignedPolicy(MODEL, VARIABLES, config(track_drift=False), cost_limit=2.0)
    np.testing.assert_array_equal(run(plain)[1], tracked)
    assert "drift" not in plain.diagnostics()
    none = AlignedPolicy(MODEL, VARIABLES, config(), variant="none", cost_limit=2.0)
    _, actions, found = run(none)
    assert np.abs(actions - tracked).max() > 1e-3
    assert np.isnan(found["drift"]) and found["drift_alarm"] == -1
    assert np.isnan(found["drift_outside"]).all()


@pytest.mark.slow
def test_a_batch_is_its_episodes_side_by_side(aligned):
    obs = np.array([[0.5, -0.4], [-1.0, 0.3], [0.2, 0.2]], np.float32)
    target = np.array([1.0, 50.0, 3.0])
    aligned.reset(obs, seed=11, target_return=target, cost_limit=4.0)
    first = aligned.act(obs)
    second = aligned.act(obs, np.array([0.1, 0.2, 0.3]), 1.0)
    found = aligned.diagnostics()
    assert first.shape == second.shape == (3, 1) and found["level"].shape == (3,)
    assert found["invariant_share"].shape == (3, 1) and found["align_seconds"] > 0
    aligned.reset(obs[1], seed=12, target_return=50.0, cost_limit=4.0)
    np.testing.assert_allclose(aligned.act(obs[1]), first[1], atol=1e-5)
    np.testing.assert_allclose(aligned.act(obs[1], 0.2, 1.0), second[1], atol=1e-5)
    np.testing.assert_allclose(
        aligned.diagnostics()["level"], found["level"][1], rtol=1e-4
    )


def test_misuse_is_one_line(aligned):
    fresh = AlignedPolicy(MODEL, VARIABLES, config(), cost_limit=2.0)
    with pytest.raises(UserError, match="no episode has begun"):
        fresh.act(np.zeros(2))
    with pytest.raises(UserError, match="no episode has begun"):
        fresh.diagnostics()
    with pytest.raises(UserError, match=r"obs of shape \(1, 1, 2\)"):
        fresh.reset(np.zeros((1, 1, 2)))
    with pytest.raises(UserError, match=r"cost_limit of shape \(2,\)"):
        fresh.reset(np.zeros((3, 2)), cost_limit=[1.0, 2.0])
    aligned.reset(np.zeros(2))
    with pytest.raises(UserError, match=r"obs of shape \(3,\): expected \(2,\)"):
        aligned.act(np.zeros(3))
    with pytest.raises(UserError, match="horizon"):
        AlignedPolicy(MODEL, VARIABLES, config(horizon=0))
    with pytest.raises(UserError, match="prompts of 3 steps"):
        AlignedPolicy(MODEL, VARIABLES, config(prompt_length=3))
    with pytest.raises(UserError, match="did you mean 'sas'"):
        AlignedPolicy(MODEL, VARIABLES, config(), variant="saas")
    blind = MODEL._replace(score=None)
    with pytest.raises(UserError, match="foresee and score"):
        AlignedPolicy(blind, VARIABLES, config())


@pytest.mark.slow
def test_the_example_of_the_readme_runs_and_its_prompt_moves_the_actions():
    actions, found = foreign_policy.main()
    plain, ours = (np.stack(actions[v]) for v in ("none", "sas"))
    assert np.isfinite(plain).all() and np.isfinite(ours).all()
    assert np.abs(plain - ours).max() > 0.01
    assert found["prompt_ok"] == 1 and np.isfinite(found["drift"])


def test_public_names():
    assert issubclass(sas_jax.AlignedPolicy, AlignedPolicy)
    assert sas_jax.from_history_policy is from_history_policy


@pytest.mark.slow
def test_a_foreign_policy_behind_a_gate():
    """A critic of one's own: what moves the first coordinate up is risky."""
    judge = RiskModel(
        risk=lambda variables, obs, action: action[..., 0] + 0 * obs[..., 0],
        level=lambda variables, limit: -limit,
    )
    plain, gated = (
        AlignedPolicy(
            MODEL,
            VARIABLES,
            config(track_drift=False),
            variant=variant,
            cost_limit=0.2,
            risk_model=judge,
        )
        for variant in ("none", "gate")
    )
    obs = np.array([0.5, -0.4], np.float32)
    for aligned in (plain, gated):
        aligned.reset(np.tile(obs, (20, 1)), seed=3)
    first, passed = (
        aligned.act(np.tile(obs, (20, 1)))[:, 0] for aligned in (plain, gated)
    )
    is_fine = first <= -0.2
    assert 0 < is_fine.sum() < 20
    np.testing.assert_array_equal(passed[is_fine], first[is_fine])
    # The least of eight draws is above the first with probability 1/8 to be equal.
    assert (passed <= first).all() and (passed < first)[~is_fine].mean() > 0.5
    assert gated.diagnostics()["num_gated"].sum() == (passed < first).sum()


@pytest.mark.parametrize(
    ("reset", "message"),
    [
        ({"obs": np.array([0.5, np.nan])}, r"obs is nan at \(0, 1\): expected finite"),
        ({"target_return": np.inf}, "target_return is inf: expected finite numbers"),
        ({"cost_limit": np.nan}, "cost_limit is nan"),
        ({"seed": -1}, r"seed \[-1\]: expected whole numbers in \[0, 2\*\*32\)"),
        ({"seed": 2**32}, "4294967296.: expected whole numbers"),
        ({"seed": 0.5}, "0.5.: expected whole"),
        ({"obs": np.zeros(3)}, "obs of size 3: expected 2, as the model has"),
    ],
)
def test_an_episode_that_cannot_begin(aligned, reset, message):
    aligned._obs_dim = 2
    with pytest.raises(UserError, match=message):
        aligned.reset(**({"obs": np.zeros(2)} | reset))


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (([np.nan, 0.0],), r"obs is nan at \(0,\): expected finite"),
        (([0.0, 0.0], np.inf), "reward is inf"),
        (([0.0, 0.0], 0.0, np.nan), "cost is nan"),
    ],
)
def test_a_step_that_cannot_be_made(aligned, step, message):
    aligned.reset(np.zeros(2, np.float32))
    with pytest.raises(UserError, match=message):
        aligned.act(*step)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"episode_steps": 7}, "horizon 8: expected at most the episode's 7 steps"),
        ({"seed": -1}, "seed -1"),
        ({"max_cost": np.inf}, "max_cost is inf"),
        ({"target_return": np.nan}, "target_return is nan"),
    ],
)
def test_a_policy_that_cannot_be_made(settings, message):
    with pytest.raises(UserError, match=message):
        AlignedPolicy(MODEL, VARIABLES, config(), **settings)
