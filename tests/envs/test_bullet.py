"""The Bullet tasks, where an interpreter has the suite."""

import importlib.util
import os
import sys

import numpy as np
import pytest

from sas_jax.envs import tasks
from sas_jax.envs.vector.env import VectorEnv
from sas_jax.errors import UserError

HERE = importlib.util.find_spec("bullet_safety_gym") is not None
PYTHON = sys.executable if HERE else os.environ.get("SAS_JAX_BULLET_PYTHON")
needs_bullet = pytest.mark.skipif(
    PYTHON is None,
    reason="bullet-safety-gym is not installed, and $SAS_JAX_BULLET_PYTHON names no "
    "interpreter that has it",
)


@needs_bullet
@pytest.mark.parametrize("name", ["AntRun", "BallCircle", "BallRun", "CarRun"])
def test_episode_depends_on_seed_and_actions_only(name):
    task = tasks.get_task(name)
    actions = np.random.default_rng(0).uniform(-1, 1, (30, 2, task.action_dim))

    def episodes(env, order):
        batches = [env.reset([4, 5])]
        batches += [env.step(row) for row in actions[:, order]]
        return batches

    with VectorEnv(name, 2, num_workers=1, python=PYTHON) as env:
        first = episodes(env, [0, 1])
        again = episodes(env, [0, 1])  # after another episode in the same process
    assert first[0].obs.shape == (2, task.obs_dim)
    with VectorEnv(name, 2, num_workers=2, python=PYTHON) as env:
        spread = episodes(env, [0, 1])
    for one, two, three in zip(first, again, spread, strict=True):
        for a, b, c in zip(one, two, three, strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(a, c)
    assert not np.array_equal(first[0].obs[0], first[0].obs[1])


@needs_bullet
def test_episode_length_cost_and_layout():
    with VectorEnv("BallRun", 1, num_workers=1, python=PYTHON) as env:
        env.reset([0])
        costs = []
        for step in range(100):
            batch = env.step(np.array([[1.0, 0.0]]))
            costs.append(batch.cost[0])
            assert batch.is_last[0] == (step == 99)
        # Full speed along the track: the velocity limit is broken before the end.
        assert set(costs) == {0.0, 1.0}
        assert batch.pose[0, 0] > 5.0 and env.layout(0) == {}
    with VectorEnv("BallCircle", 1, num_workers=1, python=PYTHON) as env:
        env.reset([0])
        assert env.layout(0)["circle"].tolist() == [[0.0, 0.0, 7.0]]


@pytest.mark.skipif(HERE, reason="bullet-safety-gym is installed")
def test_absence_is_one_clear_line():
    with pytest.raises(UserError, match=r"Python 3\.11") as error:
        VectorEnv("AntRun", 1, num_workers=1, python=sys.executable)
    assert "\n" not in str(error.value)
    assert "bullet-safety-gym" in str(error.value)
