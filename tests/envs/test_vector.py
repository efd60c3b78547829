"""The vector environment on real PointGoal1: invariance, boundaries, bad input."""

import pathlib

import numpy as np
import pytest

from sas_jax.envs import tasks
from sas_jax.envs.make import make as make_env
from sas_jax.envs.vector.env import VectorEnv
from sas_jax.errors import UserError
from tests.helpers.vector_runs import SEEDS, actions_at, assert_same, rollout


@pytest.fixture(scope="module")
def reference():
    """40 steps under one worker."""
    with VectorEnv("PointGoal1", len(SEEDS), num_workers=1) as env:
        return rollout(env, 40)


def test_results_do_not_depend_on_the_number_of_workers(reference):
    with VectorEnv("PointGoal1", len(SEEDS), num_workers=2) as env:
        assert env.num_workers == 2
        assert_same(rollout(env, 40), reference)


def test_vector_environment_equals_the_single_one(reference):
    env = make_env("PointGoal1")
    for slot, seed in enumerate(SEEDS):
        np.testing.assert_array_equal(
            env.reset(int(seed)).astype(np.float32), reference[0].obs[slot]
        )
        np.testing.assert_array_equal(env.pose(), reference[0].pose[slot])
        for step, batch in enumerate(reference[1:]):
            obs, reward, cost, terminated, truncated = env.step(actions_at(step)[slot])
            np.testing.assert_array_equal(obs.astype(np.float32), batch.obs[slot])
            assert (reward, cost) == (batch.reward[slot], batch.cost[slot])
            assert (terminated or truncated) == batch.is_last[slot]


def test_first_batch(reference):
    first = reference[0]
    assert first.obs.dtype == np.float32 and first.obs.shape == (4, 60)
    assert first.reward.dtype == first.cost.dtype == first.pose.dtype == np.float64
    assert first.is_first.all() and not first.is_last.any()
    assert not reference[1].is_first.any()


@pytest.mark.slow
def test_last_step_of_an_episode_keeps_its_reward_and_cost():
    """Circle ends after 500 steps; one slot starts 3 steps before the other ends."""
    task = tasks.get_task("PointCircle1")
    steps = task.episode_steps
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (steps + 10, 2, 2)) + [0.8, 0.0]
    single = make_env("PointCircle1")
    single.reset(5)
    alone = [single.step(action) for action in actions[:steps, 0]]
    assert alone[-1][4] and alone[-1][1] != 0.0

    with VectorEnv("PointCircle1", 2, num_workers=1) as env:
        env.reset([5, 6])
        batches = []
        for step in range(steps - 3):
            batches.append(env.step(actions[step]))
        env.reset([0, 8], mask=np.array([False, True]))
        for step in range(steps - 3, steps):
            batches.append(env.step(actions[step]))
        total = sum(batch.reward[0] for batch in batches)
        assert total == sum(row[1] for row in alone)
        assert sum(b.cost[0] for b in batches) == sum(row[2] for row in alone)
        last = batches[-1]
        assert last.is_last.tolist() == [True, False] and not last.terminated.any()
        assert last.reward[0] == alone[-1][1]
        np.testing.assert_array_equal(last.obs[0], alone[-1][0].astype(np.float32))

        # Nothing more is paid or charged, and the final observation stays.
        unused_row = np.stack([np.full(2, np.nan), actions[steps, 1]])
        after = env.step(unused_row)
        assert after.reward[0] == after.cost[0] == 0.0 and after.is_last[0]
        np.testing.assert_array_equal(after.obs[0], last.obs[0])
        assert after.reward[1] != 0.0

        # The next episode starts clean and leaves the running one alone.
        fresh = env.reset([5, 0], mask=np.array([True, False]))
        assert fresh.is_first.tolist() == [True, False] and not fresh.is_last.any()
        assert fresh.reward.tolist() == fresh.cost.tolist() == [0.0, 0.0]
        np.testing.assert_array_equal(fresh.obs[1], after.obs[1])
        again = env.step(actions[0])
        assert (again.reward[0], again.cost[0]) == alone[0][1:3]


def test_workers_load_no_jax():
    with VectorEnv("PointGoal1", 2, num_workers=1) as env:
        env.reset([0, 1])
        maps = pathlib.Path(f"/proc/{env.worker_pids[0]}/maps").read_text()
    assert "mujoco" in maps and "jaxlib" not in maps


@pytest.fixture(scope="module")
def small():
    with VectorEnv("PointGoal1", 2, num_workers=1) as env:
        env.reset([0, 1])
        yield env


@pytest.mark.parametrize(
    "actions, message",
    [
        (np.zeros(2), r"shape \(2,\): expected \(2, 2\)"),
        (np.zeros((2, 3)), r"shape \(2, 3\): expected \(2, 2\)"),
        (np.array([[0, 0], [0, np.nan]]), "slot 1 is not finite"),
        (np.array([[np.inf, 0], [0, 0]]), "slot 0 is not finite"),
    ],
)
def test_bad_actions(small, actions, message):
    with pytest.raises(UserError, match=message):
        small.step(actions)


@pytest.mark.parametrize(
    "seeds, mask, message",
    [
        ([0], None, r"seeds of shape \(1,\)"),
        ([0, -1], None, "seed -1"),
        ([0, 2**32], None, "seed 4294967296"),
        ([0.5, 1.0], None, "seed 0.5"),
        ([0, 1], [True], r"mask of shape \(1,\)"),
        ([0, 1], [1, 0], "expected .2,. bool"),
    ],
)
def test_bad_resets(small, seeds, mask, message):
    with pytest.raises(UserError, match=message):
        small.reset(seeds, mask)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"num_workers": 0}, "num_workers=0"),
        ({"num_workers": -2}, "num_workers=-2"),
        ({"num_workers": 1.5}, "num_workers=1.5"),
        ({"num_envs": 0}, "num_envs=0"),
        ({"task": "PointGaol1"}, "did you mean 'PointGoal1'"),
        ({"python": "/nonexistent/python"}, "cannot be started"),
        ({"python": "/bin/false"}, "status 1 while starting"),
    ],
)
def test_bad_vector_environment(kwargs, message):
    arguments = {"task": "PointGoal1", "num_envs": 2} | kwargs
    with pytest.raises(UserError, match=message) as error:
        VectorEnv(**arguments)
    assert "\n" not in str(error.value)
