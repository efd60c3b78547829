"""Any gymnasium environment by name, and what is said of one that does not fit."""

import dataclasses
import json

import numpy as np
import pytest

from sas_jax.envs import gymnasium_tasks, imports, make, tasks
from sas_jax.envs.suites import gymnasium as suite
from sas_jax.envs.vector.env import VectorEnv
from sas_jax.errors import UserError
from tests.helpers import tiny_gymnasium

MODULE = "tests.helpers.tiny_gymnasium"
LINE = f"gymnasium:{MODULE}:TinyLine-v0"


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    """Registrations of a test are undone after it."""
    monkeypatch.setattr(tasks, "TASKS", dict(tasks.TASKS))
    monkeypatch.setattr(tasks, "LATER", {})
    monkeypatch.setattr(imports, "MODULES", [])
    gymnasium_tasks.facts.cache_clear()


def test_a_name_is_enough():
    task = tasks.get_task(LINE)
    assert (task.obs_dim, task.action_dim, task.episode_steps) == (2, 1, 12)
    assert task.cost_limits == (10.0, 20.0, 40.0) and not task.obs_groups
    assert task.action_range == ((0.0, 4.0),)
    assert tasks.from_json(json.loads(json.dumps(tasks.to_json(task)))) == task
    assert tasks.get_task(task.name) is task
    env = make.make(LINE)
    assert env.reset(3).tolist() == env.reset(3).tolist()


def test_the_environment_steps_as_gymnasiums_own():
    own, task_env = tiny_gymnasium.Line(), make.make(LINE)
    obs, _ = own.reset(seed=5)
    np.testing.assert_array_equal(task_env.reset(5), obs)
    rng = np.random.default_rng(0)
    for step in range(12):
        action = rng.uniform(-1, 1, 1)
        obs, reward, ended, _, info = own.step(np.float32(2 + 2 * action))
        found = task_env.step(action)
        np.testing.assert_array_equal(found[0], obs)
        assert found[1:4] == (reward, info["cost"], ended)
        assert found[4] == (step == 11)


@pytest.mark.slow
def test_workers_run_it_and_its_costs_are_those_asked_for():
    """A factory, a time limit and a cost function, all said by the name."""
    name = f"gymnasium:{MODULE}:make_line,cost={MODULE}:far_cost,steps=4,limits=1/2"
    with VectorEnv(name, 3, num_workers=2) as envs:
        batch = envs.reset([1, 2, 3])
        for _ in range(4):
            before = batch.obs
            batch = envs.step(np.full((3, 1), 0.5))
            np.testing.assert_array_equal(batch.cost, np.abs(batch.obs[:, 0]) > 0.5)
        assert (batch.obs != before).any()
        assert batch.is_last.all() and not batch.terminated.any()
        assert envs.layout(0) == {} and np.isnan(batch.pose[:, 0]).all()
    assert tasks.get_task(name).cost_limits == (1.0, 2.0)


def test_a_registered_task_is_opened_when_it_is_used(monkeypatch):
    gymnasium_tasks.register(
        "MyLine",
        f"{MODULE}:TinyLine-v0",
        cost="info.far",
        cost_limits=(3.0,),
        episode_steps=5,
        max_step_cost=4.0,
        return_range=(0.0, 10.0),
        obs_groups={"place": slice(0, 1)},
    )
    assert "MyLine" not in tasks.TASKS
    task = tasks.get_task("myline")
    assert task.name == "MyLine" and task.episode_steps == 5
    assert task.normalized_return(5.0) == 0.5
    with VectorEnv("MyLine", 1) as envs:
        envs.reset([4])
        batch = envs.step([[0.0]])
        assert batch.cost[0] == pytest.approx(abs(batch.obs[0, 0]))


@pytest.mark.parametrize(
    "name, message",
    [
        ("Buttons", "action_space is Discrete.*discrete actions are not supported"),
        ("Nested", "observation_space is Dict.*FlattenObservation"),
        ("Unbounded", "action_space has no bounds"),
        ("Unseeded", r"reset\(seed=0\) gave two different observations"),
        ("Free", "info has no 'cost'.*cost=module:function"),
        ("Endless", r"has no time limit.*steps=N"),
        ("Nothing", "registers no environment 'TinyNothing-v0'"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(name, message):
    with pytest.raises(UserError, match=message) as caught:
        tasks.get_task(f"gymnasium:{MODULE}:Tiny{name}-v0")
    assert "\n" not in str(caught.value) and f"Tiny{name}-v0" in str(caught.value)


@pytest.mark.parametrize(
    "name, message",
    [
        ("gymnasium:no_such_module:X-v0", "'no_such_module' cannot be imported"),
        ("gymnasium:NoSuch-v0", "cannot be made"),
        (f"{LINE},cots=none", "option 'cots=none'.*did you mean 'cost'"),
        (f"{LINE},cost=some", "cost 'some': expected info"),
        (f"{LINE},cost={MODULE}:no", "has no function 'no'"),
        (f"{LINE},steps=many", "invalid literal.*expected numbers"),
        (f"{LINE},steps=0", "steps 0; expected at least 1"),
    ],
)
def test_a_wrong_name_is_told(name, message):
    with pytest.raises(UserError, match=message) as caught:
        tasks.get_task(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name, message",
    [
        ("Grows", r"seed 7: .*observation of shape \(3,\); expected \(2,\)"),
        ("Raises", "seed 7: RuntimeError: the motor is gone"),
    ],
)
def test_what_spoils_in_an_episode_names_it(name, message):
    with VectorEnv(f"gymnasium:{MODULE}:Tiny{name}-v0", 1) as envs:
        envs.reset([7])
        with pytest.raises(UserError, match=message):
            for _ in range(4):
                envs.step([[0.0]])


def test_a_cost_function_sees_the_step():
    seen = []
    env = suite.GymnasiumEnv(tasks.get_task(f"{LINE},cost=none"))
    env._cost = lambda *step: seen.append(step) or 0.0
    first = env.reset(1)
    after, *_ = env.step([1.0])
    (obs, action, new, terminated, info), *_ = seen
    assert obs is first and new is after and action.tolist() == [4.0]
    assert terminated is False and set(info) == {"cost", "far"}


def test_an_early_end_is_the_cost_of_the_mujoco_tasks():
    assert tasks.get_task("Hopper").normalized_return(3234.3) == 1.0  # D4RL's expert
    fallen = dataclasses.replace(tasks.get_task("Hopper"), env_id=f"{MODULE}:make_line")
    assert fallen.cost == "terminated" and fallen.cost_limits == (0.0,)
    env = suite.GymnasiumEnv(dataclasses.replace(fallen, obs_dim=2, action_dim=1))
    env.reset(0)
    costs, ends = zip(*[env.step([1.0])[2:4] for _ in range(9)], strict=True)
    assert [float(end) for end in ends] == list(costs) and costs[-1] == 1.0


def test_imports_of_the_user_are_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine_broken.py").write_text("1 / 0\n")
    (tmp_path / "mine_fine.py").write_text("VALUE = 1\n")
    imports.import_modules(["mine_fine", "mine_fine"])
    assert imports.MODULES == ["mine_fine"]
    with pytest.raises(UserError, match="'mine_broken' cannot be .*ZeroDivisionError"):
        imports.import_modules(["mine_broken"])
