"""The agent put elsewhere on a layout: what it observes, and that nobody notices."""

import numpy as np
import pytest

from sas_jax.envs import tasks
from sas_jax.envs.make import make as make_env
from sas_jax.errors import UserError


@pytest.mark.parametrize(
    ("name", "lean"),
    [("PointGoal1", True), ("PointGoal1", False), ("CarGoal1", True)]
    + [("PointButton2", True)],
)
def test_at_the_start_pose_it_is_the_resets_observation(name, lean):
    env = make_env(name, lean=lean)
    for seed in (3, 4):
        first = env.reset(seed)
        seen = env.observe_at(env.pose()[None, :3])
        np.testing.assert_allclose(seen[0], first, atol=1e-8)
    env.close()


@pytest.mark.parametrize("name", ["PointGoal1", "CarGoal1"])
def test_lidars_turn_and_fade_with_the_pose(name):
    """The lidar's brightest goal bin points at the goal and shines by its distance."""
    env = make_env(name)
    env.reset(8)
    pose = env.pose()
    x, y = pose[3:5]
    turns = np.array([0.3, 1.8, -2.5])
    group = tasks.get_task(name).obs_groups["goal_lidar"]
    for distance in (0.5, 1.0):
        poses = [[x - distance * np.cos(a), y - distance * np.sin(a), a] for a in turns]
        seen = env.observe_at(np.array(poses))[:, group]
        # Straight at the goal from every side: the first and the last of 16 bins.
        np.testing.assert_allclose(seen.max(axis=1), 1 - distance / 3, atol=0.01)
        assert set(seen.argmax(axis=1)) <= {0, 15}
        quarter = np.array(poses) - [0, 0, np.pi / 2]  # the goal is now to the left
        seen = env.observe_at(quarter)[:, group]
        assert set(seen.argmax(axis=1)) <= {3, 4}
    env.close()


@pytest.mark.parametrize("name", ["PointGoal1", "CarGoal1"])
def test_agent_is_at_rest(name):
    env = make_env(name)
    env.reset(8)
    for _ in range(20):
        env.step(np.array([1.0, 0.4]))
    groups = tasks.get_task(name).obs_groups
    moving = env.observe_at(env.pose()[None, :3])[0]
    np.testing.assert_allclose(moving[groups["velocimeter"]], 0.0, atol=1e-9)
    np.testing.assert_allclose(moving[groups["gyro"]], 0.0, atol=1e-9)
    env.close()


@pytest.mark.parametrize("name", ["PointGoal1", "CarGoal1", "PointGoal2"])
@pytest.mark.parametrize("lean", [True, False])
def test_the_running_episode_does_not_notice(name, lean):
    actions = np.random.default_rng(0).uniform(-1, 1, (12, 2))
    env = make_env(name, lean=lean)

    env.reset(5)  # the first episode of a new environment differs in the last bits

    def episode(look):
        rows = [env.reset(5)]
        for step, action in enumerate(actions):
            if look and step in (0, 6):
                env.observe_at(np.array([[0.5, -0.5, 1.0], [-1.0, 0.2, 3.0]]))
            observation, reward, *_ = env.step(action)
            rows.append(np.append(observation, [reward, *env.pose()[:3]])[-60:])
        return np.stack([row[-40:] for row in rows])

    np.testing.assert_array_equal(episode(look=True), episode(look=False))
    env.close()


def test_only_where_there_is_a_plane_and_an_episode():
    env = make_env("PointGoal1")
    with pytest.raises(RuntimeError, match="reset"):
        env.observe_at(np.zeros((1, 3)))
    env.close()
    runner = make_env("SwimmerVelocity")
    runner.reset(0)
    with pytest.raises(UserError, match="navigation"):
        runner.observe_at(np.zeros((1, 3)))
    runner.close()
