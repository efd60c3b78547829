"""The positive control: a policy that knows its world by its prompt alone."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import sas_jax
from sas_jax.alignment.config import SASConfig
from sas_jax.data.episodes import Episodes
from sas_jax.envs.tasks import get_task
from sas_jax.errors import UserError
from sas_jax.studies import worlds
from tests.studies.test_bound import line_probe

SPEED = get_task("PointGoal1").obs_groups["velocimeter"].start
OBS, LENGTH, STEPS, STD = 60, 4, 12, 0.3


def recording(gains, *, strength=0.2, seed=0) -> Episodes:
    """Drivers that ask for 0.5 forwards, or for -0.5 where motors are reversed."""
    rng = np.random.default_rng(seed)
    actions = rng.normal(0.0, STD, (len(gains), STEPS, 2))
    actions[..., 0] += 0.5 * np.asarray(gains)[:, None]
    obs = np.zeros((len(gains), STEPS + 1, OBS))
    push = strength * np.asarray(gains)[:, None] * actions[..., 0]
    obs[:, 1:, SPEED] = np.cumsum(push, axis=1)
    count = len(gains) * STEPS
    return Episodes(
        task="PointGoal1",
        observations=obs[:, :-1].reshape(count, OBS).astype(np.float32),
        actions=np.clip(actions, -1, 1).reshape(count, 2).astype(np.float32),
        rewards=np.zeros(count, np.float32),
        costs=np.zeros(count, np.float32),
        offsets=STEPS * np.arange(len(gains) + 1),
        final_observations=obs[:, -1].astype(np.float32),
        terminated=np.zeros(len(gains), bool),
    )


def knowing(params, history, mask):
    """0.5 in the direction that moved forwards in the prompt; 0 without one."""
    force, change = history.action[:-2, 0], jnp.diff(history.obs[:-1, SPEED])
    told = jnp.where(mask[:-2] & mask[1:-1], force * change, 0.0)
    return jnp.stack([0.5 * jnp.sign(told.sum()), 0.0]), jnp.full(2, params["log_std"])


def probe(std=STD):
    model = sas_jax.from_history_policy(
        knowing,
        lambda params, history, mask, action: (history.obs[-1], jnp.zeros(OBS)),
        action_dim=2,
        context=LENGTH + 1,
        prompt_steps=LENGTH,
    )
    config = SASConfig(prompt_length=LENGTH, num_first=2, num_second=2)
    return line_probe()._replace(
        model=model, variables={"log_std": jnp.log(std)}, config=config
    )


def test_worlds_are_told_by_force_and_acceleration():
    gains = [1, -1, -1, 1, -1]
    np.testing.assert_array_equal(worlds.worlds_of(recording(gains)), gains)


def test_likelihood_knows_whose_world_a_prompt_is_of():
    """Against the Gaussian's closed form: means 0.5, -0.5 and 0 for a mean of 0.5."""
    training = recording([1, -1] * 4)
    held_out = recording([1, -1, 1, 1, -1], seed=1)
    rows = worlds.likelihoods(probe(), training, held_out)
    assert len(rows) == 5 * 3 and {r.measure for r in rows} == {"nll"}
    action = held_out.actions.reshape(5, STEPS, 2)
    truth = worlds.worlds_of(held_out)
    for row in rows:
        assert row.world == truth[row.episode]
        share = {"none": 0.0, "same": 1.0, "other": -1.0}[row.prompt]
        mean = np.array([0.5 * share * row.world, 0.0])
        away = (action[row.episode] - mean) / STD
        nll = (0.5 * away**2 + np.log(STD) + 0.5 * np.log(2 * np.pi)).sum(-1).mean()
        assert row.value == pytest.approx(nll, rel=1e-4)


@pytest.mark.parametrize(
    ("episodes", "message"),
    [
        (recording([1, 1, 1]), "all of one world"),
        (recording([1, -1], strength=0.0), "episode 0 tells no world"),
        (
            dataclasses.replace(recording([1, -1]), task="HopperVelocity"),
            "no velocimeter",
        ),
    ],
)
def test_data_that_tell_no_worlds(episodes, message):
    with pytest.raises(UserError, match=message):
        worlds.worlds_of(episodes)


@pytest.mark.slow
def test_a_prompt_steers_in_both_worlds(monkeypatch):
    """Reversed motors and the opposite action make the same motion."""
    monkeypatch.setattr(worlds, "_ROWS", 2)
    whole = probe(std=1e-6)._replace(task=get_task("PointGoal1"))
    rows = worlds.drives(whole, recording([1, -1] * 4), np.array([5, 6]))
    assert len(rows) == 2 * 3 * 2 * 2 and {r.measure for r in rows} == {
        "return",
        "cost",
    }
    found = {
        (r.world, r.prompt, r.episode): r.value for r in rows if r.measure != "cost"
    }
    for seed in (5, 6):
        for kind in worlds.KINDS:
            assert found[1, kind, seed] == pytest.approx(
                found[-1, kind, seed], abs=0.05
            )
        assert abs(found[1, "same", seed] - found[1, "other", seed]) > 0.5
        assert abs(found[1, "none", seed]) < 0.5  # it stays where it is
