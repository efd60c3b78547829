"""The single environment on the real suite, plain path."""

import subprocess
import sys

import numpy as np
import pytest

from sas_jax.envs import tasks
from sas_jax.envs.make import make as make_env
from sas_jax.envs.suites import safety_gymnasium
from sas_jax.errors import UserError

FAMILIES = ["PointGoal2", "CarButton1", "PointPush2", "CarCircle2"]


@pytest.mark.parametrize("name", FAMILIES)
def test_registry_agrees_with_the_environment(name):
    task = tasks.get_task(name)
    env = make_env(name, lean=False)
    start = 0
    for key, box in env.unwrapped.obs_space_dict.spaces.items():
        stop = start + int(np.prod(box.shape))
        assert task.obs_groups[key] == slice(start, stop)
        start = stop
    assert list(task.obs_groups) == list(env.unwrapped.obs_space_dict.spaces)
    assert env.unwrapped.action_space.shape == (task.action_dim,)
    assert env.unwrapped.task.num_steps == task.episode_steps
    env.close()


def test_episode_is_a_function_of_seed_and_actions():
    env = make_env("PointGoal1", lean=False)
    actions = np.random.default_rng(0).uniform(-1, 1, (20, 2))

    def episode(seed):
        rows = [env.reset(seed)]
        rows += [np.append(*env.step(action)[:2]) for action in actions]
        return np.concatenate(rows)

    first = episode(5)
    np.random.seed(99)  # noqa: NPY002 (the global generator must not matter)
    episode(6)
    np.testing.assert_array_equal(episode(5), first)
    assert not np.array_equal(episode(6), first)


def test_making_an_environment_leaves_the_global_generator_alone():
    safety_gymnasium.import_safety_gymnasium()
    np.random.seed(7)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(7)  # noqa: NPY002
    make_env("PointGoal1", lean=False)
    assert np.random.random() == expected  # noqa: NPY002


@pytest.mark.slow
def test_fast_resets_change_no_number():
    """The same episodes with the suite's own 24 MB sky."""
    from safety_gymnasium import world

    env = make_env("PointGoal1", lean=False)
    actions = np.random.default_rng(1).uniform(-1, 1, (50, 2))

    def episode():
        rows = [env.reset(3)] + [env.step(action)[0] for action in actions]
        return np.stack(rows)

    fast = episode()
    stand_in = world.yaml
    import yaml

    world.yaml = yaml
    try:
        np.testing.assert_array_equal(episode(), fast)
    finally:
        world.yaml = stand_in


def test_pose_and_layout_agree_with_the_observation():
    env = make_env("PointGoal1", lean=False)
    observation = env.reset(11)
    pose, layout = env.pose(), env.layout()
    assert {key: rows.shape for key, rows in layout.items()} == {
        "goal": (1, 3),
        "hazards": (8, 3),
        "vases": (1, 3),
    }
    np.testing.assert_array_equal(layout["goal"][0, :2], pose[3:5])
    assert layout["hazards"][0, 2] == 0.2 and pose[5] == 0
    # The lidar bin of the goal reads 1 - distance / 3, in the agent's frame.
    offset = pose[3:5] - pose[:2]
    angle = (np.arctan2(offset[1], offset[0]) - pose[2]) % (2 * np.pi)
    lidar = observation[tasks.get_task("PointGoal1").obs_groups["goal_lidar"]]
    assert int(angle / (2 * np.pi) * 16) == np.argmax(lidar)
    np.testing.assert_allclose(lidar.max(), 1 - np.hypot(*offset) / 3, atol=1e-9)


def test_tasks_without_a_goal_have_no_goal_pose():
    env = make_env("PointCircle1", lean=False)
    env.reset(0)
    assert np.isnan(env.pose()[3:5]).all() and np.isfinite(env.pose()[:3]).all()
    assert env.layout()["circle"].tolist() == [[0.0, 0.0, 1.5]]
    assert env.layout()["sigwalls"].shape == (2, 3)


def test_step_after_the_end_is_refused():
    env = make_env("PointGoal1", lean=False)
    with pytest.raises(RuntimeError, match="reset"):
        env.step(np.zeros(2))


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "3", True, None])
def test_bad_seed(seed):
    with pytest.raises(UserError, match="seed"):
        make_env("PointGoal1", lean=False).reset(seed)


def test_import_is_silent_and_without_jax():
    script = (
        "import sys; from sas_jax.envs.make import make; "
        "make('PointGoal1').reset(0); "
        "print([m for m in ('jax', 'jaxlib') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
    assert done.stderr.strip() == ""
