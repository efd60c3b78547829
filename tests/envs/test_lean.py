"""The fast path equals the suite: short runs by default, whole episodes when slow."""

import math

import numpy as np
import pytest

from sas_jax.envs import tasks
from sas_jax.envs.lean import env as lean_env
from sas_jax.envs.lean import layout as lean_layout
from sas_jax.envs.lean import lidar as lean_lidar
from sas_jax.envs.make import make as make_env
from tests.helpers import parity

NAVIGATION = [
    task.name
    for task in tasks.TASKS.values()
    if task.obs_groups and task.suite == "safety-gymnasium"
]


def assert_equal_paths(result):
    assert result.mismatches == 0
    assert result.same_stream
    assert result.observation_error <= 1e-12


@pytest.mark.parametrize("name", NAVIGATION)
def test_short_runs_equal_the_suite(name):
    result = parity.compare(name, seed=3, num_steps=70)
    assert result.steps == 70
    assert_equal_paths(result)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, steps, charged",
    [
        ("PointGoal2", 400, True),
        ("PointButton1", 400, True),
        ("CarGoal1", 500, False),
        ("PointPush2", 130, False),
    ],
)
def test_new_goals_and_costs_equal_the_suite(name, steps, charged):
    result = parity.compare(name, seed=0, num_steps=steps)
    assert_equal_paths(result)
    assert result.goals >= 1  # else the run has shown nothing about new goals
    if charged:
        assert result.cost > 0


def test_whole_episode_equals_the_suite():
    result = parity.compare("PointCircle2", seed=1)
    assert result.steps == 500 and result.cost > 0
    assert_equal_paths(result)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", NAVIGATION)
def test_whole_episodes_equal_the_suite(name, seed):
    result = parity.compare(name, seed=seed)
    assert result.steps == tasks.get_task(name).episode_steps
    assert_equal_paths(result)


def test_parity_notices_a_difference(monkeypatch):
    """The comparison itself: a fast path that is off by one bit must fail it."""
    honest = lean_env.LeanEnv.step

    def step(self, action):
        obs, reward, *rest = honest(self, action)
        return obs + 1e-9, np.nextafter(reward, 1.0), *rest

    monkeypatch.setattr(lean_env.LeanEnv, "step", step)
    result = parity.compare("PointCircle1", seed=0, num_steps=5)
    assert result.mismatches == 5 and result.observation_error > 1e-10


def test_layouts_leave_the_stream_where_the_suite_does():
    slow = make_env("PointGoal1", lean=False)
    slow.reset(0)
    suite = slow.unwrapped.task
    generator = suite.random_generator
    fast = type(generator)()
    fast.set_placements_info(
        generator.placements, generator.placements_extents, generator.placements_margin
    )
    lean_layout.accelerate(fast)
    for seed in range(20):
        generator.set_random_seed(seed)
        fast.set_random_seed(seed)
        expected, layout = generator.build_layout(), fast.build_layout()
        assert list(expected) == list(layout)
        for name, place in expected.items():
            np.testing.assert_array_equal(layout[name], place)
        for _ in range(5):
            for one in (generator, fast):
                one.layout.pop("goal", None)
            assert generator.sample_goal_position() == fast.sample_goal_position()
        assert generator.uniform(0, 1) == fast.uniform(0, 1)


def test_impossible_layout_fails_as_the_suite_does(monkeypatch):
    env = make_env("PointGoal1")
    env.reset(0)
    generator = env.unwrapped.task.random_generator
    generator.placements = dict.fromkeys(["a", "b"], ([(0, 0, 2.0, 2.0)], 0.9))
    monkeypatch.setattr(lean_layout, "_LAYOUT_TRIES", 20)
    slow_tries = []
    # After giving up, the suite's own search decides, from an untouched stream.
    before = generator.random_generator.get_state()[1].copy()
    monkeypatch.setattr(
        type(generator), "sample_layout", lambda self: slow_tries.append(1)
    )
    with pytest.raises(AssertionError, match="sample layout"):
        generator.build_layout()
    assert len(slow_tries) == 10_000
    np.testing.assert_array_equal(generator.random_generator.get_state()[1], before)


def test_no_room_for_a_goal_ends_the_episode_on_both_paths():
    ends = []
    for fast in (False, True):
        env = make_env("PointGoal1", lean=fast)
        observation = env.reset(0)
        env.unwrapped.task.random_generator.sample_goal_position = lambda: False
        for _ in range(env.task.episode_steps):
            action = parity.drive(env.task, observation)
            observation, *rest = env.step(action)
            if rest[2] or rest[3]:
                break
        ends.append((observation, rest))
    np.testing.assert_allclose(ends[0][0], ends[1][0], atol=1e-12)
    assert ends[0][1] == ends[1][1]
    assert ends[0][1][2] and ends[0][1][0] > 1.0  # terminated, with the goal's reward


def test_lidar_by_hand():
    identity = [1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0]
    # One point at 45 degrees, distance 1: the edge of bins 1 and 2 (2 * 22.5 = 45).
    half = math.sqrt(0.5)
    bins = lean_lidar.scan([(half, half)], (0.0, 0.0, 0.1), identity, 3.0)
    np.testing.assert_allclose(bins[1:3], [2 / 3, 2 / 3], atol=1e-12)
    np.testing.assert_allclose(np.delete(bins, [1, 2]), 0.0, atol=1e-12)
    # At 11.25 degrees, the middle of bin 0: both neighbours read half of it.
    angle = math.radians(11.25)
    point = (2 * math.cos(angle), 2 * math.sin(angle))
    bins = lean_lidar.scan([point, (5.0, 0.0)], (0.0, 0.0, 0.0), identity, 3.0)
    np.testing.assert_allclose(
        [bins[15], bins[0], bins[1]], [1 / 6, 1 / 3, 1 / 6], atol=1e-12
    )
    # Turned by 90 degrees to the left, +y is ahead: bin 0, alias share 0.
    left = [0.0, -1.0, 0, 1.0, 0.0, 0, 0, 0, 1.0]
    bins = lean_lidar.scan([(0.0, 1.5)], (0.0, 0.0, 0.0), left, 3.0)
    np.testing.assert_allclose([bins[15], bins[0], bins[1]], [0.5, 0.5, 0.0])


def test_wrong_action_is_refused_as_in_the_suite():
    env = make_env("PointGoal1")
    assert isinstance(env, lean_env.LeanEnv)
    with pytest.raises(RuntimeError, match="reset"):
        env.step(np.zeros(2))
    env.reset(0)
    for action in (np.zeros(3), np.zeros(1), 0.5):
        with pytest.raises(ValueError, match="expected"):
            env.step(action)
    plain = make_env("PointGoal1", lean=False)
    plain.reset(0)
    with pytest.raises(ValueError, match="expected"):
        plain.step(np.zeros(3))


def test_actions_out_of_the_box_are_clipped():
    env = make_env("PointGoal1")
    env.reset(0)
    wide = env.step(np.array([5.0, -7.0]))[0]
    env.reset(0)
    np.testing.assert_array_equal(env.step(np.array([1.0, -1.0]))[0], wide)
