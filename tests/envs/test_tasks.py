"""The task registry: names, references, scores."""

import subprocess
import sys

import numpy as np
import pytest

from sas_jax.envs import tasks
from sas_jax.errors import UserError


def test_registry_holds_the_tasks_of_the_field():
    suites = [task.suite for task in tasks.TASKS.values()]
    assert suites.count("safety-gymnasium") == 21
    assert suites.count("bullet-safety-gym") == 8
    assert suites.count("gymnasium") == 3 and len(DSRL) == 29
    navigation = {
        f"{agent}{family}{level}"
        for agent in ("Point", "Car")
        for family in ("Goal", "Button", "Push", "Circle")
        for level in (1, 2)
    }
    assert navigation <= tasks.TASKS.keys()


DSRL = [task for task in tasks.TASKS.values() if task.references.dsrl_stem]


@pytest.mark.parametrize("task", DSRL, ids=lambda t: t.name)
def test_entries_are_consistent(task):
    assert task.references.return_min < task.references.return_max
    assert task.references.cost_min < task.references.cost_max
    bullet = task.suite == "bullet-safety-gym"
    assert task.cost_limits == ((10, 20, 40) if bullet else (20, 40, 80))
    assert tuple(task.references.cdt_targets) == task.cost_limits
    assert task.name in task.env_id and task.name in task.references.dsrl_stem
    assert task.references.cost_max <= task.episode_steps * task.max_step_cost
    if task.obs_groups:
        stops = [group.stop for group in task.obs_groups.values()]
        starts = [group.start for group in task.obs_groups.values()]
        assert starts == [0, *stops[:-1]] and stops[-1] == task.obs_dim


def test_references_are_those_of_dsrl_and_osrl():
    # Rows of DSRL's table, one of each kind.
    goal = tasks.get_task("PointGoal1")
    assert (goal.references.return_min, goal.references.return_max) == (
        0.0119601,
        30.0711,
    )
    assert (goal.episode_steps, goal.references.dsrl_trajectories) == (1000, 2022)
    assert goal.references.dsrl_stem == "SafetyPointGoal1Gymnasium-v0"
    circle = tasks.get_task("CarCircle2")
    assert (circle.episode_steps, circle.references.cost_max) == (500, 398)
    assert circle.references.cdt_targets == {20.0: 20.0, 40.0: 21.0, 80.0: 22.0}
    cheetah = tasks.get_task("HalfCheetahVelocity")
    assert cheetah.env_id == "SafetyHalfCheetahVelocity-v1"
    assert (cheetah.obs_dim, cheetah.action_dim) == (17, 6)
    drone = tasks.get_task("DroneRun")
    assert (drone.obs_dim, drone.action_dim, drone.episode_steps) == (17, 4, 200)


@pytest.mark.parametrize(
    "name",
    [
        "PointGoal1",
        "pointgoal1",
        "SafetyPointGoal1-v0",
        "SafetyPointGoal1Gymnasium-v0",
        "OfflinePointGoal1Gymnasium-v0",
    ],
)
def test_task_has_many_names(name):
    assert tasks.get_task(name) is tasks.TASKS["PointGoal1"]


def test_velocity_and_bullet_names():
    assert tasks.get_task("OfflineAntVelocityGymnasium-v1").name == "AntVelocity"
    assert tasks.get_task("OfflineAntRun-v0").name == "AntRun"


@pytest.mark.parametrize(
    "name, hint",
    [
        ("PointGaol1", "PointGoal1"),
        ("SafetyCarPush9-v0", "CarPush"),
        ("easydense", "MetaDrive"),
        ("xyzzy-quux", "expected one of"),
        ("", "expected one of"),
    ],
)
def test_unknown_task_is_one_helpful_line(name, hint):
    with pytest.raises(UserError) as error:
        tasks.get_task(name)
    assert hint in str(error.value) and "\n" not in str(error.value)


def test_scores_follow_dsrl():
    task = tasks.get_task("PointGoal1")
    # (15 - 0.0119601) / (30.0711 - 0.0119601)
    np.testing.assert_allclose(task.normalized_return(15.0), 0.498618389, rtol=1e-8)
    np.testing.assert_array_equal(
        task.normalized_return(
            np.array([task.references.return_min, task.references.return_max])
        ),
        [0, 1],
    )
    assert task.normalized_cost(30.0, 20.0) == 1.5
    # kappa = 0: (C + 1) / (0 + 1)
    np.testing.assert_array_equal(task.normalized_cost(np.array([0.0, 3.0]), 0), [1, 4])


@pytest.mark.parametrize("limit", [-1.0, float("nan"), float("inf")])
def test_impossible_threshold(limit):
    with pytest.raises(UserError, match="cost limit"):
        tasks.get_task("PointGoal1").normalized_cost(1.0, limit)


def test_registry_imports_neither_jax_nor_a_simulator():
    script = (
        "import sys; import sas_jax.envs.tasks; "
        "print([m for m in ('jax', 'numpy', 'mujoco') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
