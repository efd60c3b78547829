"""Dead reckoning against ways that are known."""

import numpy as np
import pytest

from sas_jax.envs.tasks import get_task
from sas_jax.report import imagined_paths

TASK = get_task("PointGoal1")
SECONDS = 0.02


def on_a_circle(steps: int, speed: float = 1.0, turn: float = 2.0, yaw: float = 0.5):
    """Observations and poses of a steady drive: radius speed / turn, to the left."""
    obs = np.zeros((steps, TASK.obs_dim))
    obs[:, TASK.obs_groups["velocimeter"].start] = speed
    obs[:, TASK.obs_groups["gyro"].start + 2] = turn
    angle = yaw + turn * SECONDS * np.arange(steps)
    pose = np.zeros((steps, 6))
    pose[:, 0] = 3.0 + speed / turn * (np.sin(angle) - np.sin(yaw))
    pose[:, 1] = -1.0 - speed / turn * (np.cos(angle) - np.cos(yaw))
    pose[:, 2] = angle
    return obs, pose


def test_a_steady_drive_is_found_again():
    obs, pose = on_a_circle(120)
    seconds = imagined_paths.step_seconds(obs, pose, TASK)
    assert seconds == pytest.approx(SECONDS, rel=1e-3)
    found = imagined_paths.places(obs, pose[0], TASK, SECONDS)
    # Each step is taken by the yaw at its end, half a step's turn too late.
    np.testing.assert_allclose(found, pose[:, :2], atol=0.025)
    assert np.abs(found - pose[:, :2]).max() > 1e-4


def test_candidates_begin_where_the_agent_is():
    obs, pose = on_a_circle(10)
    obs = np.stack([obs, 0.0 * obs, 2.0 * obs])
    found = imagined_paths.places(obs, pose[3], TASK, SECONDS)
    np.testing.assert_allclose(found[:, 0], np.tile(pose[3, :2], (3, 1)))
    np.testing.assert_allclose(found[1], np.tile(pose[3, :2], (10, 1)))
    assert np.linalg.norm(found[2, -1] - found[2, 0]) > 0.3


def test_tasks_without_the_sensors_have_no_ways():
    obs, pose = on_a_circle(10)
    assert imagined_paths.step_seconds(obs, pose, get_task("HopperVelocity")) is None
    assert imagined_paths.step_seconds(0.0 * obs, pose, TASK) is None
